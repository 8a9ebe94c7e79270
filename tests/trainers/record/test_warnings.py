"""A run says when it goes wrong: after ten steps, not nine, once, and by name."""

import json

import pytest

from rlnorm.trainers import train
from rlnorm.trainers.files import read_jsonl
from rlnorm.trainers.record.warnings import Watch

HEALTHY = {
    "group/zero_signal_frac": 0.5,
    "policy/entropy": 1.0,
    "completion/truncated_frac": 0.1,
    "completion/most_common_frac": 0.1,
    "policy/logprob_gap_mean": 0.01,
    "reward/format/mean": 0.7,
    "reward/format/std": 0.4,
}
SIGNS = {
    "zero_signal": {"group/zero_signal_frac": 0.91},
    "entropy_collapse": {"policy/entropy": 0.099},
    "truncated": {"completion/truncated_frac": 0.51},
    "same_completion": {"completion/most_common_frac": 0.5},
    "sampler_gap": {"policy/logprob_gap_mean": 0.021},
    "constant_reward": {"reward/format/mean": 1.0, "reward/format/std": 0.0},
}


def rows(*changes, start=1):
    """One row a step, each healthy but for its change."""
    return [{"step": step, **HEALTHY, **change} for step, change in enumerate(changes, start)]


def told(changes, watch=None):
    """(step, name) of each warning of a run."""
    watch = watch or Watch()
    return [(w.step, w.name) for row in rows(*changes) for w in watch.observe(row)]


@pytest.mark.parametrize("name", SIGNS)
def test_nine_steps_are_silent_and_ten_are_told_once(name):
    sign = SIGNS[name]
    healthy = [{}] * 10  # the start, which the entropy and the gap are compared with
    assert told([*healthy, *[sign] * 9, {}, *[sign] * 9, {}]) == []
    assert told([*healthy, *[sign] * 40]) == [(20, name)]
    assert told([*healthy, *[sign] * 10, {}, *[sign] * 10]) == [(20, name)]


@pytest.mark.parametrize(
    ("start", "later"),
    [
        ({"group/zero_signal_frac": 0.9}, {"group/zero_signal_frac": 0.9}),
        ({"policy/entropy": 2.0}, {"policy/entropy": 0.2}),  # exactly a tenth
        ({"completion/truncated_frac": 0.5}, {"completion/truncated_frac": 0.5}),
        ({"completion/most_common_frac": 0.49}, {"completion/most_common_frac": 0.49}),
        ({"policy/logprob_gap_mean": 0.01}, {"policy/logprob_gap_mean": 0.02}),  # exactly twice
        ({"policy/logprob_gap_mean": 1e-7}, {"policy/logprob_gap_mean": 9e-4}),  # rounding
        ({"reward/format/std": 1e-6}, {"reward/format/std": 1e-6}),
        ({"policy/entropy": None, "reward/format/std": None}, {"policy/logprob_gap_mean": None}),
    ],
)
def test_what_does_not_pass_the_bound_is_silent(start, later):
    assert told([start] * 10 + [later] * 30) == []


def test_a_component_with_one_value_in_each_step_but_not_the_same_has_varied():
    one, zero = ({"reward/format/mean": m, "reward/format/std": 0.0} for m in (1.0, 0.0))
    assert told([one, zero] * 20) == []
    assert told([one] * 10) == [(10, "constant_reward")]


def test_every_component_is_told_by_name():
    dead = {"reward/correct/mean": 0.0, "reward/correct/std": 0.0}
    found = [w for row in rows(*[dead] * 20) for w in Watch().observe(row)]
    assert found == []  # each Watch has seen one step only
    watch = Watch()
    [warning] = [w for row in rows(*[dead] * 20) for w in watch.observe(row)]
    assert (warning.about, warning.step) == ("correct", 10)
    assert str(warning).startswith(
        "warning constant_reward (correct) at step 10: for 10 steps the reward 'correct' was 0 for "
        "every rollout; likely: "
    )
    assert "rewards.correct.function" in warning.key


def test_the_entropy_is_compared_with_that_of_the_first_step_that_has_one():
    unknown, start, low = ({"policy/entropy": e} for e in (None, 0.5, 0.04))
    assert told([unknown, start, {"policy/entropy": 9.0}, *[low] * 10]) == [
        (13, "entropy_collapse")
    ]


def test_the_evaluation_before_training_is_no_step():
    watch = Watch()
    assert watch.observe({"step": 0, **SIGNS["truncated"]}) == []
    assert told([SIGNS["truncated"]] * 9, watch) == []


def test_a_resume_goes_on_counting_and_repeats_nothing():
    sign = SIGNS["truncated"]
    watch = Watch()
    watch.restore(rows(*[sign] * 7), [])
    ten = rows(*[sign] * 3, start=8)
    assert [[w.name for w in watch.observe(row)] for row in ten] == [[], [], ["truncated"]]
    again = Watch()
    again.restore(rows(*[sign] * 12), [{"name": "truncated", "about": ""}])
    assert [w for row in rows(*[sign] * 9, start=13) for w in again.observe(row)] == []
    # resumed from before the ten steps were full: it has been told all the same
    earlier = Watch()
    earlier.restore(rows(*[sign] * 7), [{"name": "truncated", "about": ""}])
    assert [w for row in rows(*[sign] * 9, start=8) for w in earlier.observe(row)] == []


def test_a_run_tells_it_everywhere_once_and_not_again_after_a_resume(tmp_path, capsys):
    small = ["steps=10", "data.eval={}", "rollout.prompts_per_step=2", "learner.minibatches=1"]
    small += ["rollout.max_tokens=2", "checkpoint_every=10", f"output_dir={tmp_path}", "run_name=r"]
    options = {"rewards": {"flat": lambda sample: 1.0}}
    train("quickstart", overrides=small, **options)
    shown = " ".join(capsys.readouterr().out.split())
    events = [e for e in read_jsonl(tmp_path / "r/events.jsonl") if e["event"] == "warning"]
    assert [(e["step"], e["name"], e["about"]) for e in events] == [
        (10, "zero_signal", ""),
        (10, "truncated", ""),
        (10, "constant_reward", "flat"),
    ]
    report = (tmp_path / "r/report.html").read_text()
    for event in events:
        assert f"warning {event['name']}" in shown
        assert event["message"].replace("'", "&#39;") in report
    train("quickstart", overrides=[*small, "steps=12"], resume=True, **options)
    after = [e for e in read_jsonl(tmp_path / "r/events.jsonl") if e["event"] == "warning"]
    assert json.dumps(after) == json.dumps(events)
