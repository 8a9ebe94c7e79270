"""rlnorm: reinforcement-learning fine-tuning of language models for reasoning.

Five packages, each imported by name; `python -m pydoc rlnorm.advantages` and so on describe them.

rlnorm           the maths as plain functions on tensors: `rlnorm.advantages`, `rlnorm.losses`,
                 `rlnorm.regularizers`, `rlnorm.kernels`, `rlnorm.statistics`; `rlnorm.testing`
                 checks estimators and rewards of your own
rlnorm.rewards   reward functions: verifiers, code sandbox, judges, environments
rlnorm.trainers  the training loop and its parts, on one machine or a cluster
rlnorm.launch    the command line: `rlnorm --help`
rlnorm.configs   presets, such as quickstart, and small models

Advantages alone, in a training loop of your own; a name is one that a config could have:

    >>> import torch
    >>> from rlnorm.advantages import estimate
    >>> rewards, group_index = torch.tensor([1.0, 0.0, 0.0, 1.0]), torch.tensor([0, 0, 1, 1])
    >>> estimate("dr_grpo", rewards, group_index).values.tolist()
    [0.5, -0.5, -0.5, 0.5]

A reward:

    >>> from rlnorm.rewards.math.verify import verify
    >>> print(verify(gold="1/2", completion=r"so \\boxed{0.5}").status)
    correct

Training, with a config's name, path or table and with functions of your own:

    from rlnorm.trainers import train
    train("quickstart", rewards=[my_reward], estimator=my_estimator)
"""

__version__ = "0.1.0"
