"""How often `rlnorm compare` would call a true difference of 0 a difference.

python benchmarks/comparison_errors.py [experiments] prints the table of docs/compare.md.
"""

import sys

import torch
from torch import Tensor

from rlnorm.statistics import paired_comparison

PROBLEMS = 512
DRAWS = 400
LEVEL = 0.95
# standard deviations of the difference between seeds, between problems, and in each cell
VARYING = {
    "seeds": (0.02, 0.0, 0.02),
    "problems": (0.0, 0.2, 0.05),
    "cells": (0.0, 0.0, 0.2),
    "all": (0.02, 0.1, 0.3),
}


def experiment(deviations: tuple[float, ...], seeds: int, generator: torch.Generator) -> Tensor:
    """Differences of two algorithms that are equally good, [seeds, problems]."""
    parts = [
        deviation * torch.randn(shape, generator=generator, dtype=torch.float64)
        for deviation, shape in zip(
            deviations, ((seeds, 1), (1, PROBLEMS), (seeds, PROBLEMS)), strict=True
        )
    ]
    return sum(parts[1:], parts[0])


def main(experiments: int) -> None:
    """One row for each source of variance and number of seeds."""
    for name, deviations in VARYING.items():
        for seeds in (3, 5, 10):
            generator = torch.Generator().manual_seed(1)
            wrong = torch.zeros(3)
            for _ in range(experiments):
                differences = experiment(deviations, seeds, generator)
                result = paired_comparison(
                    differences, torch.zeros_like(differences), level=LEVEL, draws=DRAWS
                )
                (low, high), students = result.interval, result.seed_interval
                assert students is not None  # there are several seeds
                wrong += torch.tensor(
                    [
                        not low <= 0 <= high,
                        not students[0] <= 0 <= students[1],
                        result.p_value <= 1 - LEVEL,
                    ]
                )
            shares = " | ".join(f"{100 * x:.0f} %" for x in wrong / experiments)
            print(f"| {name} | {seeds} | {shares} |", flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 500)
