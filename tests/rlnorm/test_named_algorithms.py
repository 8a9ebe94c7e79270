import pytest

from rlnorm.advantages import ESTIMATORS
from rlnorm.losses import LOSSES
from rlnorm.named_algorithms import ALGORITHMS, DEFAULTS, named_algorithm


@pytest.mark.parametrize("name", sorted(ALGORITHMS))
def test_every_name_fills_known_slots_with_known_stages(name):
    slots = {**DEFAULTS, **named_algorithm(name).slots}
    assert set(slots) == set(DEFAULTS)
    for slot, table in (("estimator", ESTIMATORS), ("loss", LOSSES)):
        entry = slots[slot]
        assert (entry if isinstance(entry, str) else entry["name"]) in table


def test_what_sets_the_algorithms_apart():
    assert named_algorithm("dr_grpo").slots["aggregate"] == "seq-mean-token-sum-norm"
    assert named_algorithm("dapo").slots["loss"]["clip_high"] == 0.28
    assert named_algorithm("mc_grpo").slots["sample_plan"] == {"extra_kind": "pivot"}


def test_an_unknown_name_is_answered_with_the_nearest():
    with pytest.raises(ValueError, match=r"grpp.*grpo"):
        named_algorithm("grpp")
