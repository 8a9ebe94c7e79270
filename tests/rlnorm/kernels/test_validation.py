import math

import jaxtyping
import pytest
import torch

from rlnorm.kernels import fused_policy_loss, stats_from_logits, token_stats

BAD = {
    "targets": [
        {"targets": torch.tensor([0, 5, 1])}, {"targets": torch.tensor([0, -1, 1])},
        {"targets": torch.tensor([0, 1])}, {"targets": torch.tensor([0.0, 1.0, 1.0])},
    ],
    "temperature": [
        {"temperature": 0.0}, {"temperature": -1.0}, {"temperature": math.nan},
        {"temperature": math.inf}, {"temperature": torch.ones(2)},
        {"temperature": torch.tensor([1.0, 0.0, 1.0])},
        {"temperature": torch.tensor([1.0, math.nan, 1.0])},
    ],
    "hidden": [{"hidden": torch.zeros(0, 4), "targets": torch.zeros(0, dtype=torch.long)}],
    "weight": [{"weight": torch.zeros(5, 3)}, {"weight": torch.zeros(5, 4, dtype=torch.float64)}],
    "bias": [{"bias": torch.zeros(4)}],
    "row_mask": [{"row_mask": torch.ones(2, dtype=torch.bool)}],
    "want": [{"want": ("logprobs",)}, {"want": ()}, {"want": "logprob"}],
    "proxy": [{"want": ("log_kept_mass",)}],
    "softcap": [{"softcap": 0.0}],
    "vocab_size": [{"vocab_size": 6}],
    "vocab_start": [{"vocab_start": 1}],
    "workspace_bytes": [{"workspace_bytes": 0}],
    "backend": [{"backend": "cuda"}],
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "change"), [(name, change) for name, changes in BAD.items() for change in changes]
)
def test_bad_arguments_are_named(name, change, operands):
    """The run-time shape checker of the test suite may be the first to say so."""
    hidden, weight, _ = operands(3, 5, 4)
    arguments = {"hidden": hidden, "weight": weight, "targets": torch.tensor([0, 4, 1])}
    with pytest.raises((ValueError, jaxtyping.TypeCheckError), match=name):
        token_stats(**(arguments | change))
    with pytest.raises((ValueError, jaxtyping.TypeCheckError), match=name):
        fused_policy_loss(loss_fn=lambda stats, rows: stats.logprob.sum(), **(arguments | change))
    if not change.keys() & {"hidden", "weight", "bias"}:
        logits = {"logits": torch.zeros(3, 5), "targets": arguments["targets"]}
        with pytest.raises((ValueError, jaxtyping.TypeCheckError), match=name):
            stats_from_logits(**(logits | change))
