"""How each part of a run ended, and how long all of them took."""

import pytest

from rlnorm.trainers import train
from rlnorm.trainers.errors import RunError
from rlnorm.trainers.record.parts import Ending, end_before_resume, parts_of, times
from rlnorm.trainers.record.run_dir import RunDir


def took(step, seconds, **more):
    return {"step": step, "time/step_s": seconds, **more}


def test_an_end_is_recorded_once_with_the_last_step_and_the_first_line_of_its_cause(tmp_path):
    run = RunDir(tmp_path)
    run.log_metrics(took(7, 1.0))
    ending = Ending(run, started=0.0)
    ending.record("failed", "no luck\nat all")
    ending.record("done", "8 steps")
    [part] = parts_of(run)
    assert (part.step, part.status, part.cause) == (7, "failed", "no luck")
    assert str(part) == "failed after step 7: no luck"
    assert end_before_resume(run) == part  # and adds nothing
    assert parts_of(run) == [part]


def test_an_end_that_was_not_recorded_has_the_seconds_of_its_own_steps(tmp_path):
    run = RunDir(tmp_path)
    for step, seconds in ((1, 10.0), (2, 20.0)):
        run.log_metrics(took(step, seconds))
    run.log_event("ended", step=2, status="stopped", cause="SIGTERM", seconds=33.0)
    run.log_event("resumed", step=1)
    run.forget_after(1)
    run.log_metrics(took(2, 4.0, **{"time/eval_s": 3.0}))
    run.log_metrics(took(3, 5.0))
    part = end_before_resume(run)
    # of the second part: steps 2 and 3 with an evaluation, 4 + 3 + 5 s
    assert (part.status, part.step, part.seconds) == ("not recorded", 3, 12.0)
    assert str(part).startswith("how it ended after step 3 was not recorded (killed, ")
    assert [p.seconds for p in parts_of(run)] == [33.0, 12.0]


def test_the_summary_adds_up_all_parts(tmp_path):
    run = RunDir(tmp_path)
    rows = [took(1, 10.0), took(2, 20.0), {"step": 0}]
    run.log_event("ended", step=1, status="stopped", cause="Ctrl-C", seconds=15.0)
    assert times(rows[:1], parts_of(run)) == "10 s of training, 15 s in total"
    run.log_event("resumed", step=1)
    run.log_event("ended", step=2, status="done", cause="2 steps", seconds=26.0)
    assert times(rows, parts_of(run)) == "30 s of training in 2 parts, 41 s in total"


@pytest.mark.parametrize("error", [RuntimeError("no luck"), SystemExit(3)])
def test_a_run_that_failed_says_so_in_its_report_and_when_it_goes_on(tmp_path, capsys, error):
    small = ["steps=3", "data.eval={}", "rollout.prompts_per_step=4", "learner.minibatches=1"]
    small += [
        "checkpoint_every=1",
        "rewards.format.weight=1",
        f"output_dir={tmp_path}",
        "run_name=r",
    ]
    steps = iter(range(1, 9))

    def mine(rewards):
        if next(steps) == 2:
            raise error
        return rewards.sum(1)

    with pytest.raises((RunError, SystemExit)):
        train("quickstart", overrides=small, estimator=mine)
    [part] = parts_of(RunDir(tmp_path / "r"))
    assert (part.status, part.step) == ("failed", 1)
    assert str(error) in part.cause
    assert "failed after step 1: " in (tmp_path / "r" / "report.html").read_text()
    train("quickstart", overrides=small, estimator=mine, resume=True)
    shown = " ".join(capsys.readouterr().out.split())
    assert "continuing after step 1: failed after step 1: " in shown
    assert "s of training in 2 parts" in shown
