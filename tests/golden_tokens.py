"""Adapters of the methods with an advantage per token or step."""

from typing import Any

import torch
from golden_common import (
    NAN_REWARD,
    SINGLETON,
    Case,
    Layout,
    Result,
    estimated,
    labels,
    layout,
    numbers,
    with_departures,
)
from torch import Tensor

from rlnorm.tokens import rewards_to_go


def _token_rewards(case: Case, frame: Layout) -> dict[str, Tensor]:
    """Dense rewards as a column, nothing when the whole reward is at the last trained token."""
    rewards = frame.pack(case.tensor("token_level_rewards"))
    following = torch.cat((frame.rollout_index[1:], torch.tensor([-1])))
    inside = frame.rollout_index == following
    return {"token_rewards": rewards} if (rewards[inside].nan_to_num(0.0) != 0).any() else {}


def _subset(frame: Layout, rows: Tensor) -> tuple[Layout, Tensor]:
    """The layout of some rows, and which packed tokens belong to them."""
    return Layout(frame.mask[rows]), torch.isin(frame.rollout_index, rows)


def reinforce_pp(case: Case) -> Result:
    frame, baseline = layout(case), case.params["variant"] == "baseline"
    padded = case.tensor("token_level_rewards")
    rewards = padded.sum(dim=1)
    groups = labels(case.inputs.get("index", [0] * len(rewards)))
    dense = {} if baseline else _token_rewards(case, frame)
    options = {"baseline": baseline, "gamma": case.params.get("gamma", 1.0), "count_eps": 1e-8}

    def call(rows: Tensor, **more: Any) -> Tensor:
        part, tokens = _subset(frame, rows)
        columns = {name: column[tokens] for name, column in dense.items()}
        values = estimated(
            "reinforce_pp",
            rewards[rows, None],
            groups[rows],
            part.rollout_index,
            **columns,
            **options,
            **more,
        )
        return part.unpack(values)

    everything = torch.arange(len(rewards))
    want, reasons = {"advantages": case.expected["advantages"]}, []
    if rewards.isnan().any():
        rows = (~rewards.isnan()).nonzero()[:, 0]
        without = torch.zeros_like(padded)
        without[rows] = call(rows)
        return Result({"advantages": call(everything)}, {"advantages": without}, [NAN_REWARD])
    if baseline and (groups.bincount()[groups] == 1).any():
        got = {"advantages": call(everything, singleton="reward")}
        alone = groups.bincount()[groups] == 1
        got["recommended"] = call(everything)
        rewards = rewards.where(~alone, 0.0)
        want["recommended"] = call(everything, singleton="reward")
        return Result(got, want, [SINGLETON])
    got = {"advantages": call(everything)}
    if not baseline:
        tokens = frame.pack(padded)
        got["returns"] = frame.unpack(
            rewards_to_go(tokens, frame.rollout_index, gamma=options["gamma"])
        )
        want["returns"] = case.expected["returns"]
    return Result(got, want, reasons)


def remax(case: Case) -> Result:
    frame, greedy = layout(case), case.tensor("reward_baselines")
    padded = case.tensor("token_level_rewards") * frame.mask
    rewards = padded.sum(dim=1)
    values = estimated("remax", rewards[:, None], torch.arange(len(rewards)), greedy)
    to_go = frame.unpack(rewards_to_go(frame.pack(padded), frame.rollout_index))
    got = frame.spread(values) + to_go - frame.spread(rewards)
    missing = rewards.isnan() | greedy.isnan()
    # verl also fills in the holes of the mask, which are no tokens
    official = {name: numbers(value) * frame.mask for name, value in case.expected.items()}
    if not missing.any():
        return Result({"advantages": got, "returns": to_go}, official)
    want = official["advantages"].where(~missing[:, None], 0.0)
    return Result({"advantages": frame.spread(values)}, {"advantages": want}, [NAN_REWARD])


def optimal_token_baseline(case: Case) -> Result:
    frame, groups = layout(case), labels(case.inputs["index"])
    padded = case.tensor("token_level_rewards")
    rewards, dense = padded.sum(dim=1), _token_rewards(case, frame)
    options = {"zero_tail": case.params["handle_zero_tail"], "eps": case.params["epsilon"]}
    old, p2 = case.tensor("old_log_probs"), case.tensor("sum_pi_squared")

    def call(rows: Tensor) -> Tensor:
        part, tokens = _subset(frame, rows)
        values = estimated(
            "otb",
            rewards[rows, None],
            groups[rows],
            part.rollout_index,
            part.pack(old[rows]),
            part.pack(p2[rows]),
            positions=part.positions,
            **{name: column[tokens] for name, column in dense.items()},
            **options,
        )
        return part.unpack(values)

    got, want, reasons = with_departures(call, case.expected["advantages"], rewards, groups)
    to_go = frame.unpack(rewards_to_go(frame.pack(padded), frame.rollout_index))
    return Result(
        {"advantages": got, "returns": to_go},
        {"advantages": want, "returns": numbers(case.expected["returns"]) * frame.mask},
        reasons,
    )


def grpo_process(case: Case) -> Result:
    steps, ends = case.inputs["step_rewards"], case.inputs["step_end_index"]
    width = max(len(row) for row in steps)
    table = numbers([row + ["nan"] * (width - len(row)) for row in steps])
    groups = torch.zeros(len(steps), dtype=torch.long)
    values = estimated("grpo_process", table, groups, ddof=case.params["ddof"])
    step_of = [[sum(t > end for end in row) for t in range(case.inputs["T"])] for row in ends]
    padded = torch.cat((values, torch.zeros(len(steps), 1)), dim=1)
    return Result({"advantages": padded.gather(1, torch.tensor(step_of))}, case.expected)


TOKENS = {
    "grpo_process": grpo_process,
    "optimal_token_baseline": optimal_token_baseline,
    "reinforce_pp": reinforce_pp,
    "remax": remax,
}
