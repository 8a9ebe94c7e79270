import torch

from rlnorm.advantages.grpo_process import grpo_process

NAN = float("nan")


def test_steps_are_scored_together_and_summed_to_the_end(close):
    steps = torch.tensor([[1.0, 2.0], [3.0, NAN], [7.0, 7.0]], dtype=torch.float64)
    groups = torch.tensor([0, 0, 1])
    # 1 2 3: mean 2, unbiased std 1
    close(grpo_process(steps, groups), [[-1, 0], [1, 0], [0, 0]])
    a = 1.5**0.5 / (1 + 1.5**0.5)
    close(grpo_process(steps, groups, ddof=0, eps=1.0), [[-a, 0], [a, 0], [0, 0]])


def test_later_steps_count_for_earlier_ones(close):
    steps = torch.tensor([[0.0, 4.0, 2.0]], dtype=torch.float64)
    close(grpo_process(steps, torch.tensor([0])), [[0, 1, 0]])
