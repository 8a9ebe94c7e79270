"""A comparison's plan and its processes: what is refused, and what a failed run leaves."""

import signal
import sys
import time

import pytest
import yaml

from rlnorm.errors import InputError
from rlnorm.trainers.compare import runs as module
from rlnorm.trainers.compare.runs import Outcome, open_comparison, plan_comparison, run_all


class Quiet:
    """Takes what the display is told."""

    def __init__(self):
        self.notes: list[str] = []

    def note(self, message):
        self.notes.append(message)

    def start(self, run): ...

    def step(self, run, step): ...

    def done(self, runs): ...


@pytest.mark.parametrize(
    ("algorithms", "seeds", "baseline", "overrides", "message"),
    [
        (["grpo"], 3, "grpo", (), "at least two names"),
        (["grpo", ""], 3, "grpo", (), "at least two names"),
        (["grpo", "gdpo", "grpo"], 3, "grpo", (), "'grpo' is listed 2 times"),
        (["grpo", "gdpo"], 0, "grpo", (), "--seeds = 0: needs 1 or more"),
        (["bnpo", "gdpo"], 3, "grpo", (), "--baseline = 'grpo': choose one of"),
        (["grpo", "gdpo"], 3, "grpo", ("data.eval={}",), "data.eval is empty"),
        (["grpo", "gdpo"], 3, "grpo", ("algorithm.estimator=opo",), "algorithm.estimator is set"),
    ],
)
def test_a_bad_request_is_one_line(
    tmp_path, algorithms, seeds, baseline, overrides, message, config_for
):
    with pytest.raises(InputError, match=message) as caught:
        plan_comparison(config_for(tmp_path, *overrides), algorithms, seeds, baseline)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("algorithms", "seeds", "baseline", "overrides", "message"),
    [
        (["grpo", "gdpo"], 2, "grpo", ("learner.lr=1e-3",), "learner = .*was started with"),
        (["grpo", "gdpo"], 2, "grpo", ("steps=5",), "steps = 5, but it was started with 4"),
        (["grpo", "gdpo"], 2, "grpo", ("seed=7",), "seed = 7"),
        (["grpo", "gdpo"], 2, "gdpo", (), "--baseline = 'gdpo': comparison .* has 'grpo'"),
        (["grpo", "bnpo"], 2, "grpo", (), "extended but not narrowed"),
        (["grpo", "gdpo"], 1, "grpo", (), "extended but not narrowed"),
        (["grpo", "gdpo"], 2, "grpo", ("algorithm.aggregate=token-mean",), "shared_slots = "),
    ],
)
def test_an_existing_comparison_stays_what_it_is(
    tmp_path, algorithms, seeds, baseline, overrides, message, config_for
):
    with open_comparison(plan_comparison(config_for(tmp_path), ["grpo", "gdpo"], 2, "grpo")):
        pass
    before = (tmp_path / "c" / "comparison.yaml").read_bytes()
    changed = plan_comparison(config_for(tmp_path, *overrides), algorithms, seeds, baseline)
    with pytest.raises(InputError, match=message), open_comparison(changed):
        pass
    assert (tmp_path / "c" / "comparison.yaml").read_bytes() == before


def test_extending_is_allowed_and_written_down(tmp_path, config_for):
    for algorithms, seeds in ((["grpo", "gdpo"], 2), (["grpo", "gdpo"], 2), (["gdpo", "grpo"], 3)):
        comparison = plan_comparison(config_for(tmp_path), algorithms, seeds, "grpo")
        with open_comparison(comparison):
            pass
    table = yaml.safe_load((tmp_path / "c" / "comparison.yaml").read_text())
    assert [h["seeds"] for h in table["history"]] == [[1, 2], [1, 2, 3]]


def test_a_second_process_and_a_foreign_folder_are_refused(tmp_path, config_for):
    comparison = plan_comparison(config_for(tmp_path), ["grpo", "gdpo"], 1, "grpo")
    with (
        open_comparison(comparison),
        pytest.raises(InputError, match="another process is using it"),
        open_comparison(comparison),
    ):
        pass
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.tex").write_text("x")
    other = plan_comparison(config_for(tmp_path, "run_name=other"), ["grpo", "gdpo"], 1, "grpo")
    with pytest.raises(InputError, match="is not a comparison"), open_comparison(other):
        pass


def test_runs_differ_by_the_algorithm_alone_and_share_overridden_slots(tmp_path, config_for):
    config = config_for(tmp_path, "algorithm.aggregate=token-mean", "seed=5")
    comparison = plan_comparison(config, ["grpo", "gdpo"], 2, "grpo")
    runs = comparison.runs()
    assert [(r.algorithm, r.seed) for r in runs] == [
        ("grpo", 5), ("gdpo", 5), ("grpo", 6), ("gdpo", 6),
    ]  # fmt: skip
    assert runs[0].config.algorithm == {"name": "grpo", "aggregate": "token-mean"}
    assert runs[1].config.algorithm == {"name": "gdpo", "aggregate": "token-mean"}
    assert runs[1].path == tmp_path / "c" / "gdpo" / "seed_5"
    places = {"algorithm": "", "output_dir": ""}
    assert runs[0].config.model_copy(update=places) == runs[1].config.model_copy(update=places)
    own = plan_comparison(config, ["grpo", "config"], 1, "grpo").runs()
    assert [r.config.algorithm for r in own] == ["grpo", {"aggregate": "token-mean"}]


def run_with(comparison, code: str) -> tuple[Outcome, Quiet]:
    display = Quiet()
    with open_comparison(comparison) as lock:
        return run_all(comparison, [sys.executable, "-c", code], lock, display), display


def test_a_failed_run_does_not_stop_the_others_and_its_reason_is_kept(tmp_path, config_for):
    comparison = plan_comparison(config_for(tmp_path), ["grpo", "gdpo"], 2, "grpo")
    code = "import sys; print('rlnorm: no space left'); print('bye'); sys.exit(1)"
    outcome, display = run_with(comparison, code)
    assert outcome.finished == []
    assert list(outcome.failures) == [run.name for run in comparison.runs()]
    assert all("no space left (status 1" in why for why in outcome.failures.values())
    assert len(display.notes) == 4


def test_a_run_without_progress_is_ended(tmp_path, config_for):
    config = config_for(tmp_path, "rollout.deadline_s=0.5")
    comparison = plan_comparison(config, ["grpo", "gdpo"], 1, "grpo")
    start = time.monotonic()
    outcome, _ = run_with(comparison, "import time; time.sleep(60)")
    assert time.monotonic() - start < 30
    assert all("no step within 1 s" in why for why in outcome.failures.values())


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_that_would_leave_a_run_behind_is_as_ctrl_c(number):
    before = signal.getsignal(number)
    with pytest.raises(KeyboardInterrupt), module._terminated_as_interrupted():
        signal.raise_signal(number)
    assert signal.getsignal(number) == before
