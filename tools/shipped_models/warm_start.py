"""The supervised warm start of the shipped models: it can work a sum out, but usually blurts.

Two phases on `chain` demonstrations of levels 2 to 5 from the training pool: clean worked
solutions first, then mixed quality, where a share shows no working and a share ends in "Answer N"
without a box. A single phase leaves reinforcement learning little to do.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from random import Random
from typing import cast

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast, Qwen3ForCausalLM

from rlnorm.trainers.tasks import chain, generate
from rlnorm.trainers.tasks.problem import Problem
from shipped_models.tiny_model import build_model, build_tokenizer

LEVELS = (2, 3, 4, 5)
BATCH_SIZE = 64
CLEAN_FRAC = 0.6
ANSWER_FRAC = 0.25
MATRIX_LR, OTHER_LR = 0.02, 3e-3
ADAMW_BETAS = (0.9, 0.95)
SHELF_BATCHES = 8
Row = tuple[list[int], list[int]]
"""Token ids of a prompt and of its completion."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """What differs between the shipped models."""

    steps: int
    """Optimizer steps of both phases."""
    blurt_frac: float
    """Share of the mixed phase's rows without working. Short rows share a batch of few tokens, so
    each weighs more: from 0.3 of the rows grow 0.7 of the samples."""
    seed: int
    """Of the weights, the problems and the quality mix."""


RECIPES = {
    "quick": Recipe(steps=449, blurt_frac=0.3, seed=1),
    "graded": Recipe(steps=228, blurt_frac=0.22, seed=1),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class WarmStart:
    """A warm-started model in float32 with its tokenizer."""

    model: Qwen3ForCausalLM
    tokenizer: PreTrainedTokenizerFast
    final_loss: float
    """Mean cross-entropy of the last batch, nats a token."""


def warm_start(
    recipe: Recipe,
    *,
    steps: int | None = None,
    progress: Callable[[int, float], None] | None = None,
) -> WarmStart:
    """Train a fresh model by the recipe; the same bits for the same seed and thread count.

    steps: stop early after so many, on the schedule of the whole recipe; for tests.
    """
    tokenizer = build_tokenizer()
    model = build_model(recipe.seed, tokenizer).train()
    optimizers = _optimizers(model)
    loss_value = float("nan")
    for step, batch in enumerate(batches(recipe, tokenizer)):
        if step == steps:
            break
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = group["initial_lr"] * (1 - step / recipe.steps)
        loss = batch_loss(model, batch, tokenizer)
        loss.backward()
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
        loss_value = loss.item()
        if progress is not None:
            progress(step, loss_value)
    return WarmStart(model=model.eval(), tokenizer=tokenizer, final_loss=loss_value)


def batches(recipe: Recipe, tokenizer: PreTrainedTokenizerFast) -> Iterator[list[Row]]:
    """One batch a step: of any lengths in the clean phase, of like length in the mixed one."""
    rng = Random(f"warm start/{recipe.seed}")
    problems = generate("chain", recipe.steps * BATCH_SIZE, LEVELS, seed=recipe.seed, pool="train")
    clean_rows = round(recipe.steps * CLEAN_FRAC) * BATCH_SIZE
    rows = []
    for index, problem in enumerate(problems):
        chain.check(problem.question, problem.demonstration)
        clean = index < clean_rows
        text = problem.demonstration if clean else mixed_quality(problem, rng, recipe.blurt_frac)
        rows.append(encode(problem, text, tokenizer))
    yield from _split(rows[:clean_rows])
    for first in range(clean_rows, len(rows), SHELF_BATCHES * BATCH_SIZE):
        shelf = rows[first : first + SHELF_BATCHES * BATCH_SIZE]
        shelved = _split(sorted(shelf, key=lambda row: len(row[0]) + len(row[1])))
        rng.shuffle(shelved)
        yield from shelved


def _split(rows: list[Row]) -> list[list[Row]]:
    return [rows[i : i + BATCH_SIZE] for i in range(0, len(rows), BATCH_SIZE)]


def mixed_quality(problem: Problem, rng: Random, blurt_frac: float) -> str:
    """A right solution that may lack its working, its box, or both."""
    *working, box = problem.demonstration.split("\n")
    if rng.random() < ANSWER_FRAC:
        box = f"Answer {problem.answer}"
    return box if rng.random() < blurt_frac else "\n".join([*working, box])


def encode(problem: Problem, text: str, tokenizer: PreTrainedTokenizerFast) -> Row:
    """Token ids of the rendered prompt and of the completion with its end token."""
    messages = [dict(m) for m in problem.messages]
    prompt = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
    return cast(list[int], prompt), [*tokenizer(text)["input_ids"], tokenizer.eos_token_id]


def batch_loss(
    model: Qwen3ForCausalLM,
    batch: Sequence[Row],
    tokenizer: PreTrainedTokenizerFast,
) -> Tensor:
    """Mean cross-entropy over the completion tokens of the batch."""
    width = max(len(prompt) + len(completion) for prompt, completion in batch)
    ids = torch.full((len(batch), width), tokenizer.pad_token_id)
    labels = torch.full((len(batch), width), -100)
    for row, (prompt, completion) in enumerate(batch):
        end = len(prompt) + len(completion)
        ids[row, :end] = torch.tensor(prompt + completion)
        labels[row, len(prompt) : end] = ids[row, len(prompt) : end]
    # padding is on the right, where causal attention never looks: no mask needed
    logits = model(input_ids=ids[:, :-1], use_cache=False).logits
    return torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels[:, 1:].flatten())


def _optimizers(model: Qwen3ForCausalLM) -> list[torch.optim.Optimizer]:
    """Muon for the matrices of the layers, AdamW for the embedding and the norms."""
    matrices = [p for p in model.model.layers.parameters() if p.ndim == 2]
    chosen = {id(p) for p in matrices}
    others = [p for p in model.parameters() if id(p) not in chosen]
    muon = torch.optim.Muon(matrices, lr=MATRIX_LR, weight_decay=0.0)
    adamw = torch.optim.AdamW(others, lr=OTHER_LR, betas=ADAMW_BETAS, weight_decay=0.0)
    for optimizer in (muon, adamw):
        for group in optimizer.param_groups:
            group["initial_lr"] = group["lr"]
    return [muon, adamw]
