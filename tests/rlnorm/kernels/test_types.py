import math

import pytest

from rlnorm.kernels import MinP


@pytest.mark.parametrize("kappa", [0.0, -0.1, 1.5, math.nan])
def test_proxy_threshold_outside_its_range(kappa):
    with pytest.raises(ValueError, match=r"kappa.*\(0, 1\]"):
        MinP(kappa)
    with pytest.raises(ValueError, match="threshold_on = 'logits'"):
        MinP(0.5, "logits")
