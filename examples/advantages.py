"""Estimators without the rest: rewards in, advantages out, for a training loop of your own.

Two prompts with four rollouts each. The first prompt's rollouts differ in both rewards, the
second's are all correct and differ only in how concise they are.
"""

import torch

from rlnorm.advantages import ESTIMATORS

correct = [1, 0, 0, 0, 1, 1, 1, 1]
concise = [0, 1, 1, 0, 1, 0, 0, 0]
REWARDS = torch.tensor([correct, concise], dtype=torch.float64).T
GROUP_INDEX = torch.tensor([0, 0, 0, 0, 1, 1, 1, 1])


def main() -> None:
    """A row of advantages for each estimator; `weights` makes correctness count twice."""
    for name in ("grpo", "rloo", "gdpo"):
        advantages = ESTIMATORS[name](REWARDS, GROUP_INDEX, weights=[2.0, 1.0])
        print(f"{name:5}", " ".join(f"{value:6.2f}" for value in advantages.tolist()))


if __name__ == "__main__":
    main()
