"""What a run says it has gained."""

import json
import math

import pytest

from rlnorm.trainers.record.gains import benchmark_gains


def write(folder, step, rows):
    path = folder / "eval" / f"step_{step:06d}" / "sums.jsonl"
    path.parent.mkdir(parents=True)
    keys = ("id", "greedy", "sampled")
    path.write_text("".join(json.dumps(dict(zip(keys, r, strict=True))) + "\n" for r in rows))


def test_a_gain_is_the_paired_mean_over_problems_with_both_verdicts(tmp_path):
    write(tmp_path, 0, [("a", 0, [0, 0]), ("b", 0, [1, 0]), ("c", 1, [1, 1]), ("d", None, [0, 0])])
    write(tmp_path, 9, [("d", 1, [1, 1]), ("c", 1, [1, 0]), ("b", 1, [1, 1]), ("a", 0, [0, None])])
    greedy, sampled, best = benchmark_gains(tmp_path)
    assert [g.measure for g in (greedy, sampled, best)] == ["greedy", "avg@2", "pass@2"]
    # d has no greedy verdict before: a, b, c are 0 0 1 -> 0 1 1
    assert (greedy.before, greedy.after, greedy.problems) == (pytest.approx(1 / 3), 2 / 3, 3)
    # per problem 0 .5 1 0 -> 0 1 .5 1, a's failed verdict left out
    assert (sampled.before, sampled.after, sampled.problems) == (0.375, 0.625, 4)
    # 0 1 1 0 -> 0 1 1 1: resamples of the differences 0 0 0 1 reach from 0 to 1
    assert (best.before, best.after) == (0.5, 0.75)
    assert best.interval == (0.0, 0.75)


def test_the_interval_is_that_of_a_mean_over_problems(tmp_path):
    # 400 problems, 100 of them solved more: 25 points, standard error sqrt(.25 * .75 / 400)
    write(tmp_path, 0, [(str(i), 0, [0]) for i in range(400)])
    write(tmp_path, 1, [(str(i), int(i < 100), [0]) for i in range(400)])
    low, high = benchmark_gains(tmp_path)[0].interval
    reach = 1.96 * math.sqrt(0.25 * 0.75 / 400)
    assert low == pytest.approx(0.25 - reach, abs=0.004)
    assert high == pytest.approx(0.25 + reach, abs=0.004)


def test_one_evaluation_shows_no_gain(tmp_path):
    write(tmp_path, 0, [("a", 0, [0])])
    assert benchmark_gains(tmp_path) == []
