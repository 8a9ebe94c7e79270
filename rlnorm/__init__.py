"""rlnorm: reinforcement-learning fine-tuning of language models for reasoning.

This package is the pure maths (torch and the standard library): `rlnorm.advantages`,
`rlnorm.losses`, `rlnorm.regularizers`, `rlnorm.kernels`, `rlnorm.statistics`.
Systems code lives beside it in `rewards`, `trainers` and `launch`.
"""

__version__ = "0.1.0"
