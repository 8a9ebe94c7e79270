"""Small random batches with every data column an estimator may name, and how to take rows."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor


@dataclass(frozen=True, kw_only=True, slots=True)
class Batch:
    """Rollouts of a step; token columns are derived row by row, so that rows can be taken."""

    rewards: Float[Tensor, "n r"]
    group_index: Int[Tensor, " n"]
    turn_rewards: Float[Tensor, "n u"]
    greedy_rewards: Float[Tensor, " n"]
    lengths: Int[Tensor, " n"]
    logprob: Float[Tensor, " n"]
    """Logprob of every token of the rollout under the policy that sampled it."""

    def columns(self) -> dict[str, Tensor]:
        """The data columns an estimator takes by name."""
        rollout_index = torch.arange(len(self.lengths)).repeat_interleave(self.lengths)
        old = self.logprob[rollout_index]
        return {
            "rewards": self.rewards.clone(),
            "group_index": self.group_index.clone(),
            "turn_rewards": self.turn_rewards.clone(),
            "greedy_rewards": self.greedy_rewards.clone(),
            "lengths": self.lengths.clone(),
            "truncated": torch.zeros(len(self.lengths), dtype=torch.bool),
            "rollout_index": rollout_index,
            "turn_index": torch.zeros_like(rollout_index),
            "old_logprobs": old,
            "ref_logprobs": old.clone(),
            "sampler_logprobs": old.clone(),
            "sum_p2": old.exp(),
            "entropy": -old,
        }

    def take(self, rows: Int[Tensor, " m"]) -> "Batch":
        """Some rows in a given order."""
        return Batch(**{name: getattr(self, name)[rows] for name in self.__slots__})

    def with_rewards(self, change: Callable[[Tensor], Tensor]) -> "Batch":
        """The batch with `change` applied to its rewards."""
        return replace(
            self,
            rewards=change(self.rewards),
            turn_rewards=change(self.turn_rewards),
            greedy_rewards=change(self.greedy_rewards),
        )

    def show(self) -> str:
        """The inputs that reproduce a failure."""
        return (
            f"rewards = {self.rewards.tolist()}\n  group_index = {self.group_index.tolist()}\n"
            f"  lengths = {self.lengths.tolist()}"
        )


def random_batch(
    sizes: list[int], columns: int, low: float, high: float, seed: int, turns: int = 2
) -> Batch:
    """Groups of the given sizes, their rows interleaved, rewards on a grid within [low, high]."""
    generator = torch.Generator().manual_seed(seed)
    group_index = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes)) * 5 - 3
    n = len(group_index)

    def draw(*shape: int) -> Tensor:
        grid = torch.randint(0, 9, shape, generator=generator).double() / 8
        return low + (high - low) * grid

    greedy = draw(len(sizes)).repeat_interleave(torch.tensor(sizes))
    order = torch.randperm(n, generator=generator)
    return Batch(
        rewards=draw(n, columns),
        group_index=group_index[order],
        turn_rewards=draw(n, turns),
        greedy_rewards=greedy[order],
        lengths=torch.randint(1, 6, (n,), generator=generator),
        logprob=-0.1 - torch.rand(n, generator=generator, dtype=torch.float64),
    )


def constant_batch(size: int, columns: int, value: float) -> Batch:
    """One group whose rewards are all equal, of rollouts that differ in everything else."""
    batch = random_batch([size], columns, 0.0, 1.0, seed=size)
    return batch.with_rewards(lambda rewards: torch.full_like(rewards, value))
