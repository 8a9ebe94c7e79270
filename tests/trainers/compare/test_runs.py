"""A comparison: what is refused, what the numbers are, and what a failed run leaves."""

import io
import json
import shutil
import sys
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from rich.console import Console

from rlnorm.errors import InputError
from rlnorm.trainers.compare.page import write_reports
from rlnorm.trainers.compare.results import as_json, collect_results, curve
from rlnorm.trainers.compare.runs import Outcome, open_comparison, plan_comparison, run_all
from rlnorm.trainers.compare.tables import (
    as_markdown,
    print_table,
    reading,
    verdict_grids,
)
from rlnorm.trainers.config.schema import Config, load_config
from rlnorm.trainers.files import write_atomic


def config_for(folder: Path, *overrides: str) -> Config:
    return load_config(
        "graded",
        [f"output_dir={folder}", "run_name=c", "steps=4", "eval_samples=2", *overrides],
    )


class Quiet:
    """Takes what the display is told."""

    def __init__(self):
        self.notes: list[str] = []

    def note(self, message):
        self.notes.append(message)

    def start(self, run): ...

    def step(self, run, step): ...

    def done(self, runs): ...


# --- what is refused ---------------------------------------------------------------------------


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
def test_a_bad_request_is_one_line(tmp_path, algorithms, seeds, baseline, overrides, message):
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
    tmp_path, algorithms, seeds, baseline, overrides, message
):
    with open_comparison(plan_comparison(config_for(tmp_path), ["grpo", "gdpo"], 2, "grpo")):
        pass
    before = (tmp_path / "c" / "comparison.yaml").read_bytes()
    changed = plan_comparison(config_for(tmp_path, *overrides), algorithms, seeds, baseline)
    with pytest.raises(InputError, match=message), open_comparison(changed):
        pass
    assert (tmp_path / "c" / "comparison.yaml").read_bytes() == before


def test_extending_is_allowed_and_written_down(tmp_path):
    for algorithms, seeds in ((["grpo", "gdpo"], 2), (["grpo", "gdpo"], 2), (["gdpo", "grpo"], 3)):
        comparison = plan_comparison(config_for(tmp_path), algorithms, seeds, "grpo")
        with open_comparison(comparison):
            pass
    table = yaml.safe_load((tmp_path / "c" / "comparison.yaml").read_text())
    assert [h["seeds"] for h in table["history"]] == [[1, 2], [1, 2, 3]]


def test_a_second_process_and_a_foreign_folder_are_refused(tmp_path):
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
    with pytest.raises(InputError, match="is no comparison"), open_comparison(other):
        pass


def test_runs_differ_by_the_algorithm_alone_and_share_overridden_slots(tmp_path):
    config = config_for(tmp_path, "algorithm.aggregate=token-mean", "seed=5")
    comparison = plan_comparison(config, ["grpo", "gdpo"], 2, "grpo")
    runs = comparison.runs()
    assert [(r.algorithm, r.seed) for r in runs] == [
        ("grpo", 5), ("gdpo", 5), ("grpo", 6), ("gdpo", 6),
    ]  # fmt: skip
    assert runs[1].config.algorithm == {"name": "gdpo", "aggregate": "token-mean"}
    assert runs[1].path == tmp_path / "c" / "gdpo" / "seed_5"
    places = {"algorithm": "", "output_dir": ""}
    assert runs[0].config.model_copy(update=places) == runs[1].config.model_copy(update=places)
    own = plan_comparison(config, ["grpo", "config"], 1, "grpo").runs()
    assert [r.config.algorithm for r in own] == ["grpo", {"aggregate": "token-mean"}]


# --- numbers, from files written by hand -------------------------------------------------------

# sampled verdicts of 4 problems by (algorithm, seed); the third problem's verifier failed once
VERDICTS = {
    ("grpo", 1): [[0, 0], [1, 0], [0, 0], [1, 1]],  # .375 sampled, .5 pass@2
    ("grpo", 2): [[0, 0], [1, 0], [0, 0], [1, 1]],
    ("gdpo", 1): [[1, 0], [1, 1], [None, 1], [1, 1]],  # .5 1 1 1: + .5 .5 1 0
    ("gdpo", 2): [[1, 0], [1, 1], [None, 1], [1, 1]],
}


def write_run(run, sampled, *, first_token=7, entropy=1.0):
    rows = [
        {"id": f"p{i}", "greedy": max(v or 0 for v in values), "sampled": values}
        for i, values in enumerate(sampled)
    ]
    initial = [{"id": r["id"], "greedy": 0, "sampled": [0, 0]} for r in rows]
    for step, verdicts in ((0, initial), (run.config.steps, rows)):
        folder = run.path / "eval" / f"step_{step:06d}"
        folder.mkdir(parents=True)
        lines = "".join(json.dumps(row) + "\n" for row in verdicts)
        write_atomic(folder / "chain.jsonl", lines)
    metrics = [{"step": s, "policy/entropy": entropy + s, "tokens": 10.0} for s in range(5)]
    write_atomic(run.path / "metrics.jsonl", "".join(json.dumps(m) + "\n" for m in metrics))
    (run.path / "rollouts").mkdir()
    columns = {
        "prompt_id": ["a", "b"],
        "rollout_id": ["1/a/0", "1/b/0"],
        "role": ["train", "train"],
        "token_ids": [[first_token], [8, 9]],
    }
    pq.write_table(pa.table(columns), run.path / "rollouts" / "step_000001.parquet")


@pytest.fixture
def written(tmp_path):
    comparison = plan_comparison(config_for(tmp_path), ["grpo", "gdpo"], 2, "grpo")
    with open_comparison(comparison):
        pass
    runs = comparison.runs()
    for run in runs:
        write_run(run, VERDICTS[run.algorithm, run.seed], entropy=float(run.seed))
    return comparison, runs


def test_accuracies_and_differences_by_hand(written):
    comparison, runs = written
    results = collect_results(comparison, Outcome(finished=runs))
    assert results.accuracy["chain", "sampled", "grpo"] == [0.375, 0.375]
    assert results.accuracy["chain", "sampled", "gdpo"] == [0.875, 0.875]
    assert results.accuracy["chain", "pass@k", "grpo"] == [0.5, 0.5]
    compared = results.compared["chain", "sampled", "gdpo"]
    assert compared.seed_differences == (0.5, 0.5)
    # the smallest mean of four draws from {.5 .5 1 0} is 0, the largest 1; 95 % cut the ends
    assert 0 < compared.interval[0] < 0.5 < compared.interval[1] < 1
    assert results.judged["chain", "gdpo"].verdict == "better"
    assert results.problems == {"chain": 4}
    assert curve(results, "grpo", "policy/entropy") == (
        [0, 1, 2, 3, 4], [[1.0, 2.0], [2.0, 3.0], [3.0, 4.0], [4.0, 5.0], [5.0, 6.0]],
    )  # fmt: skip


def test_problems_are_paired_by_id_not_by_place(written):
    comparison, runs = written
    before = collect_results(comparison, Outcome(finished=runs)).compared
    path = runs[1].path / "eval" / "step_000004" / "chain.jsonl"
    path.write_text("".join(reversed(path.read_text().splitlines(keepends=True))))
    assert collect_results(comparison, Outcome(finished=runs)).compared == before


def test_reports_say_the_words_and_hold_the_numbers(written, tmp_path):
    comparison, runs = written
    results = collect_results(comparison, Outcome(finished=runs))
    page = write_reports(results, tmp_path / "out")
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    entry = summary["benchmarks"]["chain"]["algorithms"]["gdpo"]
    assert entry["sampled"]["against_baseline"]["difference"] == 0.5
    assert entry["judgement"]["verdict"] == "better"
    assert summary["definitions"]["gdpo"]["estimator"]["name"] == "gdpo"
    markdown = (tmp_path / "out" / "summary.md").read_text()
    assert "| gdpo | 87.5 ± 0.0 |" in markdown
    assert "+50.0" in markdown
    assert "2 seeds are very few" in markdown
    text = page.read_text()
    for part in ("better", "+50.0", "Entropy while training", "gdpo(weights="):
        assert part in text
    assert "cdn" not in text.split("</script>", 1)[1]


@pytest.mark.parametrize(("width", "columns"), [(80, 5), (160, 10)])
def test_the_table_fits_its_terminal_and_cuts_no_number(written, width, columns):
    comparison, runs = written
    results = collect_results(comparison, Outcome(finished=runs))
    console = Console(width=width, file=io.StringIO())
    print_table(results, console)
    text = console.file.getvalue()
    assert "…" not in text
    [grid] = verdict_grids(results)
    [header] = [line for line in text.splitlines() if line.startswith(" algorithm")]
    assert sum(name in header for name in grid.header) == columns


def test_one_seed_is_reported_without_a_verdict(tmp_path):
    comparison = plan_comparison(config_for(tmp_path), ["grpo", "gdpo"], 1, "grpo")
    with open_comparison(comparison):
        pass
    for run in comparison.runs():
        write_run(run, VERDICTS[run.algorithm, run.seed])
    results = collect_results(comparison, Outcome(finished=comparison.runs()))
    assert verdict_grids(results)[0].rows[1][-1] == "not distinguishable"
    assert any("no verdict is possible" in line for line in reading(results))
    entry = json.loads(as_json(results))["benchmarks"]["chain"]["algorithms"]["gdpo"]
    assert entry["judgement"]["detectable"] is None
    write_reports(results, tmp_path / "out")


def test_a_broken_pairing_is_told(written):
    comparison, runs = written
    results = collect_results(comparison, Outcome(finished=runs))
    assert set(results.pairing.values()) == {1.0}
    shutil.rmtree(runs[1].path)
    write_run(runs[1], VERDICTS["gdpo", 1], first_token=0)
    broken = collect_results(comparison, Outcome(finished=runs))
    # one of two rollouts differs in one of two seeds
    assert broken.pairing["first_step_rollouts_equal"] == 0.75
    assert broken.pairing["first_step_prompts_shared"] == 1.0
    assert any("not exact" in line and "75.0%" in line for line in reading(broken))


def test_an_algorithm_with_a_failed_seed_is_left_out_whole(tmp_path):
    comparison = plan_comparison(config_for(tmp_path), ["grpo", "gdpo", "bnpo"], 2, "grpo")
    with open_comparison(comparison):
        pass
    runs = comparison.runs()
    done = [run for run in runs if (run.algorithm, run.seed) != ("bnpo", 2)]
    for run in done:
        write_run(run, VERDICTS.get((run.algorithm, run.seed), VERDICTS["grpo", 1]))
    outcome = Outcome(finished=done, failures={"bnpo, seed 2": "disk full"})
    results = collect_results(comparison, outcome)
    assert results.algorithms == ("grpo", "gdpo")
    assert list(results.judged) == [("chain", "gdpo")]
    assert "bnpo is left out because a run failed: disk full" in as_markdown(results)


# --- processes -----------------------------------------------------------------------------------


def run_with(comparison, code: str) -> tuple[Outcome, Quiet]:
    display = Quiet()
    with open_comparison(comparison) as lock:
        return run_all(comparison, [sys.executable, "-c", code], lock, display), display


def test_a_failed_run_does_not_stop_the_others_and_its_reason_is_kept(tmp_path):
    comparison = plan_comparison(config_for(tmp_path), ["grpo", "gdpo"], 2, "grpo")
    code = "import sys; print('rlnorm: no space left'); print('bye'); sys.exit(1)"
    outcome, display = run_with(comparison, code)
    assert outcome.finished == []
    assert list(outcome.failures) == [run.name for run in comparison.runs()]
    assert all("no space left (status 1" in why for why in outcome.failures.values())
    assert len(display.notes) == 4


def test_a_run_without_progress_is_ended(tmp_path):
    config = config_for(tmp_path, "rollout.deadline_s=0.5")
    comparison = plan_comparison(config, ["grpo", "gdpo"], 1, "grpo")
    start = time.monotonic()
    outcome, _ = run_with(comparison, "import time; time.sleep(60)")
    assert time.monotonic() - start < 30
    assert all("no step within 1 s" in why for why in outcome.failures.values())
