"""What the driver computes for a whole step, on numbers small enough to redo by hand."""

import asyncio
from dataclasses import replace

import pytest
import torch

from rlnorm.algorithms import resolve_algorithm
from rlnorm.rewards.results import ComponentScore
from rlnorm.rewards.types import Status
from rlnorm.trainers.advantages import (
    compute_advantages,
    driver_data,
    drop_zero_advantage,
    minibatches,
    rescale_metrics,
)
from rlnorm.trainers.buffer import GroupBuffer
from rlnorm.trainers.config.load import validate_config
from rlnorm.trainers.errors import RunError
from rlnorm.trainers.learner.packing import pack
from rlnorm.trainers.scoring import ScoredGroup, score_table, split_baseline
from rlnorm.types import (
    Completion,
    FinishReason,
    LossDenominators,
    Prompt,
    Role,
    Rollout,
    RolloutGroup,
    StepResult,
)

NAN = float("nan")


def rollout(
    name: str, length: int, *, role: Role = Role.TRAIN, finish=FinishReason.STOP
) -> Rollout:
    completion = Completion(
        token_ids=torch.arange(length),
        sampler_logprobs=-0.1 * torch.arange(1, length + 1),
        policy_mask=torch.ones(length, dtype=torch.bool),
        turn_index=torch.zeros(length, dtype=torch.int64),
        finish_reason=finish,
        policy_versions=((0, 0),),
    )
    prompt = Prompt(prompt_id=name.split("/")[0], token_ids=(7, 8))
    return Rollout(rollout_id=name, prompt=prompt, completion=completion, text="", role=role)


def scored_group(name: str, rewards: list[float], version: int = 0, greedy: float | None = None):
    rollouts = [rollout(f"{name}/{i}", 1 + i) for i in range(len(rewards))]
    values = list(rewards)
    if greedy is not None:
        rollouts.append(rollout(f"{name}/greedy", 1, role=Role.BASELINE))
        values.append(greedy)
    scores = tuple(
        {"r": ComponentScore(v, Status.CORRECT if v == v else Status.TIMEOUT)} for v in values
    )
    group = RolloutGroup(group_id=name, rollouts=tuple(rollouts))
    return ScoredGroup(group=group, scores=scores, policy_version=version)


def config(**learner):
    return validate_config(
        {
            "model": {"path": "x"},
            "data": {"train": "x"},
            "rewards": [{"name": "r", "function": "f"}],
            "rollout": {"max_tokens": 4},
            "learner": {"old_logprobs": "sampler", **learner},
        }
    )


def credit_of(groups, algorithm="rloo", slots=None, **learner):
    table, greedy = split_baseline(score_table(groups, ["r"]), {"r": 1.0})
    chosen = resolve_algorithm(algorithm, slots)
    settings = config(**learner)
    return asyncio.run(compute_advantages(table, None, chosen, settings, {"r": 1.0}, greedy))


def test_packing_lays_prompts_and_completions_end_to_end():
    batch = pack([rollout("a/0", 1), rollout("b/0", 2)], temperature=0.5, horizon=4)
    assert batch.token_ids.tolist() == [7, 8, 0, 7, 8, 0, 1]
    assert batch.positions.tolist() == [0, 1, 2, 0, 1, 2, 3]
    assert batch.rollout_index.tolist() == [0, 0, 0, 1, 1, 1, 1]
    assert batch.cu_seqlens.tolist() == [0, 3, 7]
    assert batch.loss_mask.tolist() == [False, False, True, False, False, True, True]
    expected = torch.tensor([0, 0, -0.1, 0, 0, -0.1, -0.2])
    torch.testing.assert_close(batch.columns["sampler_logprobs"], expected)
    assert batch.denominators == LossDenominators(tokens=3, rollouts=2, horizon=4)


def test_leave_one_out_advantages_reach_the_tokens_of_their_rollouts():
    # group a: 1, 0 -> 1 - 0 and 0 - 1; group b: 1, 1, 0 -> 1 - .5, 1 - .5, 0 - 1
    credit = credit_of([scored_group("a", [1.0, 0.0]), scored_group("b", [1.0, 1.0, 0.0])])
    torch.testing.assert_close(
        credit.advantages, torch.tensor([1.0, -1.0, 0.5, 0.5, -1.0], dtype=torch.float64)
    )
    batch = credit.batch
    tokens = batch.columns["advantages"][batch.loss_mask].tolist()
    assert tokens == [1.0, -1.0, -1.0, 0.5, 0.5, 0.5, -1.0, -1.0, -1.0]
    assert credit.zero_signal_frac == 0.0


def test_a_failed_reward_is_masked_and_shifts_no_statistic():
    # the timed-out rollout trains no token; the others are compared among themselves
    credit = credit_of([scored_group("a", [1.0, NAN, 0.0])])
    assert credit.keep.tolist() == [True, False, True]
    assert credit.advantages.tolist() == [1.0, 0.0, -1.0]
    trained = credit.batch.rollout_index[credit.batch.loss_mask]
    assert sorted(set(trained.tolist())) == [0, 2]


def test_a_failed_reward_of_weight_0_spoils_no_turn():
    table = score_table([scored_group("a", [1.0, 0.0])], ["r"])
    monitored = torch.tensor([[1.0, NAN], [0.0, 5.0]]).double()
    table = replace(table, rewards=monitored, reward_names=("r", "shown"))
    batch = pack(table.rollouts, temperature=1.0, horizon=4)
    data = driver_data(table, {}, batch, torch.zeros(3, dtype=torch.long), [2.0, 0.0])
    assert data["turn_rewards"].tolist() == [[2.0], [0.0]]


def test_equal_rewards_teach_nothing_and_are_counted():
    credit = credit_of([scored_group("a", [0.3, 0.3, 0.3]), scored_group("b", [1.0, 0.0])])
    assert credit.zero_signal_frac == 0.5
    [whole] = minibatches(credit, config(), step=1)
    trained = drop_zero_advantage(whole)
    assert len(trained.cu_seqlens) - 1 == 2
    # 1 + 2 + 3 tokens of the group without advantages stay in the denominator of the loss
    assert trained.denominators == whole.denominators
    assert trained.denominators.tokens == 1 + 2 + 3 + 1 + 2


def test_metrics_are_means_over_the_tokens_that_ran():
    credit = credit_of([scored_group("a", [0.3, 0.3, 0.3]), scored_group("b", [1.0, 0.0])])
    [whole] = minibatches(credit, config(), step=1)
    trained = drop_zero_advantage(whole)
    # 3 tokens of entropy 2 each, divided by all 9: 6 / 9, so rescaled by 9 / 3
    result = StepResult(
        policy_version=1,
        loss=0.5,
        grad_norm=1.0,
        skipped=False,
        metrics={"policy/entropy": 6 / 9, "policy/policy_loss": 0.5},
    )
    metrics = rescale_metrics(result, trained).metrics
    assert metrics["policy/entropy"] == pytest.approx(2.0)
    assert metrics["policy/policy_loss"] == 0.5


def test_the_greedy_rollout_is_the_baseline_and_does_not_train():
    credit = credit_of([scored_group("a", [1.0, 0.0], greedy=0.25)], "remax")
    assert credit.advantages.tolist() == [0.75, -0.25]


def test_minibatches_hold_whole_groups_once_with_their_own_denominators():
    groups = [scored_group(str(i), [1.0, 0.0]) for i in range(5)]
    credit = credit_of(groups, minibatches=2)
    parts = minibatches(credit, config(minibatches=2), step=3)
    assert [len(p.cu_seqlens) - 1 for p in parts] == [6, 4]
    assert [p.denominators.tokens for p in parts] == [9, 6]
    assert [p.denominators.rollouts for p in parts] == [6, 4]
    again = minibatches(credit, config(minibatches=2), step=3)
    assert all(torch.equal(a.token_ids, b.token_ids) for a, b in zip(parts, again, strict=True))
    twice = minibatches(credit, config(minibatches=2, epochs=2), step=3)
    assert len(twice) == 4


def test_groups_are_dealt_anew_in_each_step_and_epoch():
    # groups of 2, 3, 4 and 5 rollouts, one a minibatch: its size says which group it is
    groups = [scored_group(str(n), [1.0] + [0.0] * n) for n in range(1, 5)]
    advantages = credit_of(groups)
    settings = config(minibatches=4, epochs=2)
    orders = [
        [len(part.cu_seqlens) - 1 for part in minibatches(advantages, settings, step)]
        for step in range(5)
    ]
    assert all(sorted(order[:4]) == sorted(order[4:]) == [2, 3, 4, 5] for order in orders)
    assert any(order[:4] != order[4:] for order in orders)
    assert len({tuple(order[:4]) for order in orders}) > 1


def test_fewer_groups_than_minibatches_make_fewer_steps():
    # as when resampling finds too few informative prompts
    credit = credit_of([scored_group("a", [1.0, 0.0]), scored_group("b", [0.0, 1.0])])
    parts = minibatches(credit, config(minibatches=3), step=1)
    assert [len(part.cu_seqlens) - 1 for part in parts] == [2, 2]


def test_the_buffer_drops_groups_that_are_too_old():
    async def scenario():
        buffer = GroupBuffer()
        old, young = scored_group("old", [1.0], version=3), scored_group("young", [1.0], version=5)
        buffer.put([old, young])
        return await buffer.take(1, version=5, max_staleness=1, deadline_s=1)

    taken, dropped = asyncio.run(scenario())
    assert [g.group.group_id for g in taken] == ["young"]
    assert dropped == 1


def test_an_empty_buffer_gives_up_at_its_deadline_and_says_what_it_has():
    async def scenario():
        buffer = GroupBuffer()
        buffer.put([scored_group("a", [1.0])])
        await buffer.take(2, version=0, max_staleness=0, deadline_s=0.05)

    with pytest.raises(RunError, match="waited 0 s for finished groups: have 1 of 2"):
        asyncio.run(scenario())


def test_an_error_in_a_users_estimator_names_its_file_and_line():
    def mine(rewards, group_index):
        raise ValueError("own words\nin two lines")

    place = rf"{__file__}, line {mine.__code__.co_firstlineno + 1}"
    with pytest.raises(RunError, match=rf"ValueError: own words in two lines \({place}[,)]"):
        credit_of([scored_group("a", [1.0, 0.0])], slots={"estimator": mine})
