import pytest

from rlnorm.modulators import MODULATORS
from rlnorm.slots import MODULATOR_COLUMNS, entries, overridden, regularizer, sample_plan, stages

CLIP = {"name": "ppo_clip", "clip_low": 0.2, "clip_high": 0.28}


@pytest.mark.parametrize(
    ("slot", "named", "value", "result"),
    [
        ("loss", CLIP, {"clip_high": 0.3}, {**CLIP, "clip_high": 0.3}),
        ("loss", CLIP, {"name": "gspo"}, {"name": "gspo"}),
        ("loss", "ppo_clip", {"clip_low": 0.1}, {"name": "ppo_clip", "clip_low": 0.1}),
        ("loss", CLIP, "cispo", "cispo"),
        ("modulators", ["ace"], {"name": "clip"}, {"name": "clip"}),
        ("sample_plan", {"resample": True}, {"extra": 1}, {"resample": True, "extra": 1}),
    ],
)
def test_a_config_is_laid_over_the_named_algorithm(slot, named, value, result):
    assert overridden(slot, named, value) == result


def test_a_list_slot_may_be_its_only_entry():
    assert entries("ace") == ["ace"]
    assert entries({"name": "ace"}) == [{"name": "ace"}]
    assert entries(["ace", "clip"]) == ["ace", "clip"]
    built = stages(
        "modulators", ["ace", {"name": "clip", "low": -1.0}], MODULATORS, MODULATOR_COLUMNS
    )
    assert [stage.name for stage in built] == ["ace", "clip"]


def test_the_size_of_a_group_is_set_in_one_place():
    told = r"sample_plan\.group_size = 4: set rollout\.group_size"
    with pytest.raises(ValueError, match=told):
        sample_plan({"group_size": 4})


def test_options_go_to_the_term_or_to_its_selector():
    term, selector = regularizer(0, {"name": "kl_cov", "share": 0.1, "coef": 2.0})
    assert (dict(term.options), dict(selector.options)) == ({"coef": 2.0}, {"share": 0.1})
    assert regularizer(0, "kl")[1] is None
    with pytest.raises(ValueError, match=r"regularizers\[3\]\.shrae = 0\.1: kl_cov takes"):
        regularizer(3, {"name": "kl_cov", "shrae": 0.1})


def test_a_sample_plan_is_checked():
    assert sample_plan({"resample": True}).resample is True
    with pytest.raises(ValueError, match=r"sample_plan\.resmaple"):
        sample_plan({"resmaple": True})
