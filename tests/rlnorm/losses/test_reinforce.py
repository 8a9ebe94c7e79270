import torch

INDEX = torch.tensor([0, 0, 1, 1])


def test_reinforce_has_no_ratio(run, close):
    values, gradient, _ = run("reinforce", [9.0], [3.0], INDEX[:1])
    close(values, [6])
    close(gradient, [-3])
