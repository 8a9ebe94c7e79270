"""Make the shipped checkpoints anew: PYTHONPATH=tools python -m shipped_models.make --out DIR.

Bits repeat on one kind of processor; on another the model is a sibling of the shipped one, inside
the same band of accuracy.
"""

import argparse
import os
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

# spinning OpenMP threads cost a factor of 30 on a shared machine; read when torch loads
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import torch
from transformers import GenerationConfig

from rlnorm.trainers.tasks import SHIPPED
from shipped_models.tiny_model import CHAT_TEMPLATE
from shipped_models.turns_warm_start import turns_warm_start
from shipped_models.warm_start import RECIPES, WarmStart, warm_start


def save(made: WarmStart, folder: Path) -> None:
    """Write a Hugging Face folder with weights in bfloat16."""
    made.tokenizer.save_pretrained(folder)
    # engines that read only the tokenizer's own file find the template there too
    (folder / "chat_template.jinja").write_text(CHAT_TEMPLATE)
    model: Any = made.model
    model.to(torch.bfloat16)  # in place; transformers wraps `to` so that its type is lost
    model.generation_config = GenerationConfig(
        eos_token_id=made.tokenizer.eos_token_id,
        pad_token_id=made.tokenizer.pad_token_id,
        do_sample=True,
    )
    model.save_pretrained(folder)
    (folder / "model.safetensors").chmod(0o644)


def main() -> None:
    """Parse the command line, train, save."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="one folder a variant goes here")
    parser.add_argument("--variant", choices=SHIPPED, action="append", help="default: all")
    parser.add_argument("--seed", type=int, help="default: the seed of the shipped model")
    args = parser.parse_args()
    # with one thread, sums run in the same order on any number of cores; it costs no time here
    torch.set_num_threads(1)
    for variant in args.variant or SHIPPED:
        start = time.perf_counter()
        if variant == "turns":
            made = turns_warm_start(progress=_report)
        else:
            recipe = RECIPES[variant]
            if args.seed is not None:
                recipe = replace(recipe, seed=args.seed)
            made = warm_start(recipe, progress=_report)
        save(made, args.out / variant)
        seconds = time.perf_counter() - start
        print(f"{variant}: loss {made.final_loss:.3f}, {seconds:.0f} s, {args.out / variant}")


def _report(step: int, loss: float) -> None:
    if step % 50 == 0:
        print(f"step {step}: loss {loss:.3f}", flush=True)


if __name__ == "__main__":
    main()
