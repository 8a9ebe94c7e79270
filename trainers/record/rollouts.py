"""Every rollout of a step in one Parquet file, from which estimators can be replayed offline."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Bool, Float
from torch import Tensor

from rlnorm.rewards.json_values import as_text
from rlnorm.types import Role, ScoredRollouts


def write_rollouts(
    folder: Path,
    step: int,
    scored: ScoredRollouts,
    *,
    advantages: Float[Tensor, "..."],
    keep: Bool[Tensor, " n"],
) -> None:
    """Write `rollouts/step_000012.parquet`: every rollout of the step, joinable by rollout_id.

    advantages: [n], [n, u] or [t], of the n rollouts whose role is train, in their order. Those per
    turn [n, u] are averaged, those per token [t] are left out. keep: of the same n rollouts.
    """
    rollouts = scored.rollouts
    completions = [r.completion for r in rollouts]
    values = advantages if advantages.ndim == 1 else advantages.nanmean(1)
    own = iter(values.tolist() if len(values) == len(keep) else [None] * len(keep))
    kept = iter(keep.tolist())
    trains = [r.role is Role.TRAIN for r in rollouts]
    columns = {
        "rollout_id": [r.rollout_id for r in rollouts],
        "prompt_id": [r.prompt.prompt_id for r in rollouts],
        "prompt": [str(r.prompt.messages[-1]["content"]) for r in rollouts],
        "source": [r.prompt.source for r in rollouts],
        "group_index": scored.group_index.tolist(),
        "level": [r.prompt.level for r in rollouts],
        "role": [str(r.role) for r in rollouts],
        "answer": [as_text(r.prompt.answer) for r in rollouts],
        "text": [r.text for r in rollouts],
        "prompt_ids": [list(r.prompt.token_ids) for r in rollouts],
        "token_ids": [c.token_ids.tolist() for c in completions],
        "sampler_logprobs": [c.sampler_logprobs.tolist() for c in completions],
        "policy_mask": [c.policy_mask.tolist() for c in completions],
        "turn_index": [c.turn_index.tolist() for c in completions],
        "turn_rewards": [list(r.turn_rewards) for r in rollouts],
        "finish_reason": [str(c.finish_reason) for c in completions],
        "policy_version": [c.policy_versions[0][1] for c in completions],
        "advantage": [next(own) if trained else None for trained in trains],
        "keep": [next(kept) if trained else False for trained in trains],
    }
    for index, name in enumerate(scored.reward_names):
        columns[f"reward/{name}"] = scored.rewards[:, index].tolist()
        columns[f"status/{name}"] = [row[index] for row in scored.status]
    folder.mkdir(exist_ok=True)
    path = folder / f"step_{step:06d}.parquet"
    partial = path.with_name(f".{path.name}.partial")
    try:
        pq.write_table(pa.table(columns), partial, compression="zstd")
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
