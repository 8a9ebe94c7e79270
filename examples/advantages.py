"""Estimators without the rest: rewards in, advantages out, for a training loop of your own.

Two prompts with four rollouts each. The first prompt's rollouts differ in both rewards, the
second's are all correct and differ only in how concise they are.
"""

import torch

from rlnorm.advantages import estimate, from_matrix, grpo

# prompts x rollouts, as a loop that samples four rollouts for each prompt has them
CORRECT = torch.tensor([[1.0, 0, 0, 0], [1, 1, 1, 1]])
CONCISE = torch.tensor([[0.0, 1, 1, 0], [1, 0, 0, 0]])
# both rewards of all rollouts [8, 2], and the prompt of each [8]
REWARDS, GROUP_INDEX = from_matrix(torch.stack([CORRECT, CONCISE], dim=2))


def show(name: str, advantages: torch.Tensor) -> None:
    """One row of numbers."""
    print(f"{name:8}", " ".join(f"{value:6.2f}" for value in advantages.tolist()))


def main() -> None:
    """A row of advantages for each name; `weights` makes correctness count twice."""
    for name in ("grpo", "dr_grpo", "rloo", "gdpo"):
        advantages = estimate(name, REWARDS, GROUP_INDEX, weights=[2.0, 1.0])
        show(name, advantages.values)
    # an estimator as a function, with one reward; back in the shape prompts x rollouts
    one = grpo(CORRECT.flatten(), GROUP_INDEX).values.reshape(2, 4)
    show("correct", one[0])


if __name__ == "__main__":
    main()
