"""Each row of a comparison differs from the baseline in the one part that it is named for."""

import re
from pathlib import Path

import pytest
import torch

from rlnorm.algorithms import resolve_algorithm
from rlnorm.errors import InputError
from rlnorm.named_algorithms import ALGORITHMS
from rlnorm.trainers.compare.results import collect_results
from rlnorm.trainers.compare.rows import baseline_table, changed_parts, check_rows, row_table
from rlnorm.trainers.compare.runs import Outcome, check_buildable, plan_comparison
from rlnorm.trainers.compare.tables import as_markdown, reading, verdict_grids
from rlnorm.trainers.config.resolve import build_algorithm
from rlnorm.types import LossDenominators

# of those, an estimator may bring a rollout more
PARTS = {
    "estimator": {"estimator", "sampling"},
    "modulators": {"modulators"},
    "regularizers": {"regularizers"},
    "loss": {"loss"},
    "sample_plan": {"sampling"},
}
SEVEN = ["grpo", "gdpo", "bnpo", "mc_grpo", "ace", "lp_reg"]


def described(config_for, folder, names, baseline, *overrides):
    comparison = plan_comparison(config_for(folder, *overrides), names, 1, baseline)
    return {n: build_algorithm(comparison.run_config(n, 1)).describe() for n in names}


@pytest.mark.parametrize("baseline", ["grpo", "bnpo", "dapo", "mc_grpo", "lp_reg", "grpo@trl"])
def test_nothing_but_the_part_of_a_method_changes(baseline, tmp_path, config_for):
    rows = described(config_for, tmp_path, list(ALGORITHMS), baseline)
    for name, row in rows.items():
        changed = set(changed_parts(row, rows[baseline]))
        assert changed <= PARTS[ALGORITHMS[name].part], name
        for slot in ("aggregate", "shaping", "correction"):
            assert row[slot] == rows[baseline][slot]


def test_the_seven_change_what_they_are_named_for(tmp_path, config_for):
    rows = described(config_for, tmp_path, SEVEN, "grpo")
    assert {name: changed_parts(row, rows["grpo"]) for name, row in rows.items()} == {
        "grpo": [],
        "gdpo": ["estimator"],
        "bnpo": ["estimator"],
        "mc_grpo": ["estimator", "sampling"],
        "ace": ["modulators"],
        "lp_reg": ["regularizers"],
    }
    clips = {(row["loss"]["clip_low"], row["loss"]["clip_high"]) for row in rows.values()}
    assert clips == {(0.2, 0.2)}
    assert {tuple(row["estimator"]["weights"]) for row in rows.values()} == {(1.0, 0.1)}
    # Lp-Reg keeps GRPO's estimator and adds its regularizer
    assert rows["lp_reg"]["estimator"] == rows["grpo"]["estimator"]
    assert [r["name"] for r in rows["lp_reg"]["regularizers"]] == ["lp_reg"]


def test_what_the_config_sets_for_all_rows_stays_beside_a_part():
    shared = {"regularizers": {"name": "kl"}, "sample_plan": {"max_rounds": 3}}
    grpo = baseline_table("grpo", shared)
    assert grpo == {"name": "grpo", **shared}
    assert row_table("lp_reg", grpo, shared)["regularizers"] == [{"name": "kl"}, "lp_reg"]
    assert row_table("dapo", grpo, shared)["sample_plan"] == {"max_rounds": 3, "resample": True}
    pivot = {"max_rounds": 3, "extra_kind": "pivot"}
    assert row_table("mc_grpo", grpo, shared)["sample_plan"] == pivot
    assert baseline_table("lp_reg", shared)["regularizers"] == [{"name": "kl"}, "lp_reg"]


def test_an_option_of_the_recipe_does_not_stay_behind_the_baselines_stage():
    # bnpo's loss is ppo_clip too, with a dual clip, which a table without it would keep
    narrow = {"loss": {"name": "ppo_clip", "clip_high": 0.3}}
    row = row_table("bnpo", baseline_table("grpo", narrow), narrow)
    assert row["loss"] == {"name": "ppo_clip", "clip_low": 0.2, "clip_high": 0.3, "dual_clip": None}


@pytest.mark.parametrize(
    ("names", "baseline", "overrides", "message"),
    [
        (["grpo", "mapo"], "grpo", (), "'mapo' compares the turns .* from 'grpo'; leave it out"),
        (["grpo", "grpo_process"], "grpo", (), "'grpo_process' compares the turns"),
        (["grpo", "mapo"], "mapo", (), "'mapo' compares the turns"),
        (["grpo", "dapo"], "dapo", (), "'grpo' is the same as 'dapo' here"),
        (["ace", "ace_dapo", "grpo"], "grpo", (), "'ace_dapo' is the same as 'ace' here"),
        (["dr_grpo", "reinforce", "grpo"], "grpo", (), "'reinforce' is the same as 'dr_grpo'"),
        (["grpo", "config"], "grpo", ("algorithm={name: grpo}",), "'config' is the same as 'grpo'"),
        (["grpo", "dapo"], "grpo", ("algorithm.sample_plan.resample=true",), "'dapo' is the same"),
    ],
)
def test_a_row_that_is_another_one_under_a_second_name_is_refused(
    names, baseline, overrides, message, tmp_path, config_for
):
    comparison = plan_comparison(config_for(tmp_path, *overrides), names, 1, baseline)
    with pytest.raises(InputError, match=f"--algorithms: {message}") as caught:
        check_buildable(comparison)
    assert "\n" not in str(caught.value)
    assert not comparison.folder.exists()


@pytest.mark.parametrize(
    ("environment", "turns"),
    [
        ("{name: chain}", 2),
        ("{name: chain, turns: [1]}", 1),
        ("{name: chain, turns: [1, 2]}", 2),
        ("{name: chain, max_turns: 1}", 1),
    ],
)
def test_mapo_needs_a_task_of_several_turns(environment, turns, tmp_path, config_for):
    task = [
        *("model.path=shipped:turns", "data.train=env:train", "data.eval={chain: env:test}"),
        "rewards=[{name: solved, function: given, options: {key: final}}]",
        f"rollout.environment={environment}",
    ]
    comparison = plan_comparison(config_for(tmp_path, *task), ["grpo", "mapo"], 1, "grpo")
    built = {n: build_algorithm(comparison.run_config(n, 1)) for n in comparison.algorithms}
    if turns > 1:
        check_rows(built, "grpo", comparison.config)
    else:
        with pytest.raises(InputError, match="'mapo' compares the turns of a rollout"):
            check_rows(built, "grpo", comparison.config)


@pytest.mark.parametrize(
    ("names", "slot"), [(["grpo", "gspo"], "loss"), (["grpo", "gdpo"], "estimator")]
)
def test_a_stage_set_for_all_rows_may_not_replace_the_part_of_one(
    names, slot, tmp_path, config_for
):
    config = config_for(tmp_path, f"algorithm.{slot}=reinforce")
    with pytest.raises(InputError, match=rf"algorithm\.{slot} is set and would replace that of"):
        plan_comparison(config, names, 1, "grpo")


@pytest.mark.parametrize("name", ["gspo", "gspo_token", "luspo", "cispo", "gmpo", "sapo", "vespo"])
def test_losses_of_the_ratio_have_one_gradient_where_it_is_1(name, tmp_path, config_for):
    """Two rollouts with advantages 1 and -2 of 2 and 1 tokens: -A / tokens / rollouts of each."""
    index, counts = torch.tensor([0, 0, 1]), LossDenominators(tokens=3, rollouts=2, horizon=4)
    for aggregate, want in (
        ("token-mean", [-1 / 3, -1 / 3, 2 / 3]),
        ("seq-mean-token-mean", [-1 / 4, -1 / 4, 1]),
    ):
        logprobs = torch.tensor([-1.0, -2.0, -3.0], dtype=torch.float64, requires_grad=True)
        algorithm = resolve_algorithm(name, {"aggregate": aggregate})
        columns = {
            "logprobs": logprobs,
            "old_logprobs": logprobs.detach(),
            "advantages": torch.tensor([1.0, 1.0, -2.0], dtype=torch.float64),
            "rollout_index": index,
        }
        loss, _ = algorithm.loss(columns, counts)
        [gradient] = torch.autograd.grad(loss, logprobs)
        expected = torch.tensor(want, dtype=torch.float64)
        torch.testing.assert_close(gradient, expected, rtol=1e-6, atol=1e-6)
    once = ("learner.minibatches=1", "learner.old_logprobs=recompute")
    comparison = plan_comparison(config_for(tmp_path, *once), ["grpo", name], 1, "grpo")
    built = {n: build_algorithm(comparison.run_config(n, 1)) for n in comparison.algorithms}
    with pytest.raises(InputError, match=f"--algorithms: '{name}' treats the ratio"):
        check_rows(built, "grpo", comparison.config)
    for more in ("learner.epochs=2", "learner.old_logprobs=sampler"):
        check_rows(built, "grpo", config_for(tmp_path, *once, more))


def test_the_page_lists_the_part_of_every_algorithm():
    page = (Path(__file__).parents[3] / "docs" / "compare.md").read_text()
    table = page[page.index("| part | rows |") :].split("\n\n")[0]
    for part in PARTS:
        shown = "sampling" if part == "sample_plan" else part
        names = {name for name, spec in ALGORITHMS.items() if spec.part == part}
        [row] = [line for line in table.splitlines() if line.startswith(f"| {shown} |")]
        listed = set(re.findall(r"`(\w+)`", row))
        assert listed <= names if part == "estimator" else listed == names


def test_the_row_states_what_it_changes(written):
    comparison, runs = written
    results = collect_results(comparison, Outcome(finished=runs))
    assert results.changes == {"grpo": [], "gdpo": ["estimator"]}
    [grid] = verdict_grids(results)
    column = grid.header.index("changes")
    assert [row[column] for row in grid.rows] == ["-", "estimator"]
    assert any("everything else, such as the aggregation" in line for line in reading(results))
    assert "| changes | verdict |" in as_markdown(results)
