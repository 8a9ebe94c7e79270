import shutil

from rlnorm.trainers.compare.results import collect_results, curve
from rlnorm.trainers.compare.runs import Outcome, open_comparison, plan_comparison
from rlnorm.trainers.compare.tables import as_markdown, reading


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


def test_a_broken_pairing_is_told(written, write_run, verdicts):
    comparison, runs = written
    results = collect_results(comparison, Outcome(finished=runs))
    assert set(results.pairing.values()) == {1.0}
    shutil.rmtree(runs[1].path)
    write_run(runs[1], verdicts["gdpo", 1], first_token=0)
    broken = collect_results(comparison, Outcome(finished=runs))
    # one of two rollouts differs in one of two seeds
    assert broken.pairing["first_step_rollouts_equal"] == 0.75
    assert broken.pairing["first_step_prompts_shared"] == 1.0
    assert any("not exact" in line and "75.0%" in line for line in reading(broken))


def test_an_algorithm_with_a_failed_seed_is_left_out_whole(
    tmp_path, config_for, write_run, verdicts
):
    comparison = plan_comparison(config_for(tmp_path), ["grpo", "gdpo", "bnpo"], 2, "grpo")
    with open_comparison(comparison):
        pass
    runs = comparison.runs()
    done = [run for run in runs if (run.algorithm, run.seed) != ("bnpo", 2)]
    for run in done:
        write_run(run, verdicts.get((run.algorithm, run.seed), verdicts["grpo", 1]))
    outcome = Outcome(finished=done, failures={"bnpo, seed 2": "disk full"})
    results = collect_results(comparison, outcome)
    assert results.algorithms == ("grpo", "gdpo")
    assert list(results.judged) == [("chain", "gdpo")]
    assert "bnpo is left out because a run failed: disk full" in as_markdown(results)
