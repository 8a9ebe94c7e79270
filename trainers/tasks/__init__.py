"""Generated task families with levels, and the tiny models that are shipped for them.

A hash of its text assigns each question to the training pool or the held-out pool, so the two are
disjoint for every seed, count and level. The warm start of the shipped models draws from the
training pool, so these models have seen no held-out prompt either.
To add a family, write a file with `draw` and `FAMILY`, and add one line to TASKS.
"""

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import asdict
from importlib import resources
from pathlib import Path
from random import Random
from typing import Literal

from rlnorm.errors import InputError
from rlnorm.trainers.tasks import add, chain, countdown, word
from rlnorm.trainers.tasks.problem import Family, Problem

TASKS: dict[str, Family] = {
    "chain": chain.FAMILY,
    "word": word.FAMILY,
    "add": add.FAMILY,
    "countdown": countdown.FAMILY,
}
SHIPPED = ("quick", "graded", "turns")
HELDOUT_ONE_IN = 8
MAX_BARREN_DRAWS = 20_000


def generate(
    task: str,
    n: int,
    levels: Sequence[int] | None = None,
    seed: int = 0,
    *,
    exclude: Collection[str] = (),
    pool: Literal["train", "heldout"] | None = None,
) -> list[Problem]:
    """n distinct problems that cycle through the levels; the same arguments give the same problems.

    levels: None for the family's training mix. exclude: questions to leave out. pool: the pool to
    draw from, None for both. Raises ValueError for an unknown task or level, and when a level has
    too few distinct questions.
    """
    family = _family(task)
    levels = family.train_levels if levels is None else levels
    if not levels or not set(levels) <= set(family.levels):
        raise ValueError(f"levels of {task} = {list(levels)}: allowed {list(family.levels)}")
    rng = Random(f"{task}/{seed}")
    seen, problems = set(exclude), list[Problem]()
    for index in range(n):
        level = levels[index % len(levels)]
        for _ in range(MAX_BARREN_DRAWS):
            draft = family.draw(rng, level)
            if draft.question not in seen and pool in (None, pool_of(draft.question)):
                break
        else:
            raise ValueError(
                f"generate: {task} level {level} has too few distinct prompts: "
                f"asked for {n} problems, found {len(problems)}"
            )
        seen.add(draft.question)
        problems.append(Problem(id=f"{task}-s{seed}-{index:05d}", level=level, **asdict(draft)))
    return problems


def generate_split(task: str, split: str, n: int, seed: int = 0) -> list[Problem]:
    """n problems of a split: the training mix, the same levels held out, or the hard level."""
    family = _family(task)
    if split not in ("train", "heldout", "hard"):
        raise ValueError(f"split = {split!r}: allowed 'train', 'heldout', 'hard'")
    levels = family.hard_levels if split == "hard" else family.train_levels
    return generate(task, n, levels, seed, pool="train" if split == "train" else "heldout")


def pool_of(question: str) -> Literal["train", "heldout"]:
    """The pool that a question belongs to; about one question in eight is held out."""
    digest = hashlib.sha256(question.encode()).digest()
    return "heldout" if digest[0] % HELDOUT_ONE_IN == 0 else "train"


def shipped_model(name: str) -> Path:
    """Folder of a shipped checkpoint, in Hugging Face format."""
    if name not in SHIPPED:
        raise InputError(f"shipped model = {name!r}: allowed {', '.join(map(repr, SHIPPED))}")
    folder = Path(str(resources.files("rlnorm.configs"))) / "models" / name
    if not (folder / "model.safetensors").is_file():
        raise FileNotFoundError(
            f"shipped model {name!r} is missing from {folder}: install the package again"
        )
    return folder


def _family(task: str) -> Family:
    if task not in TASKS:
        raise ValueError(f"task = {task!r}: allowed {', '.join(map(repr, TASKS))}")
    return TASKS[task]
