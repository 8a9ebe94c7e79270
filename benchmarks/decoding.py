"""Local decoding against transformers' generate: tokens a second on a CPU.

Usage: python benchmarks/decoding.py [--threads 2] [--rounds 5] [--crossover] [--out FILE]

512 rows (64 prompts of 20 tokens, 8 completions each, exactly 48 new tokens, temperature 1) on a
random model of the shipped shape. No row ends early and no prompt is padded, which is
transformers' best case. Rounds are interleaved, so that load from elsewhere hits all alike;
the table shows medians, the best round, and CPU seconds. `--crossover` compares the two local
engines on larger models instead, which is where rollout/cpu_engine's size limit comes from.
"""

import argparse
import asyncio
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # read when torch is imported

import torch
import transformers
from record import RESULTS, conditions, keep

from rlnorm.trainers.rollout.cpu_engine.binding import weight_bytes
from rlnorm.trainers.rollout.local import LocalPool
from rlnorm.trainers.rollout.types import GenerateRequest, SamplingParams

PROMPT, NEW = 20, 48
SHIPPED = {
    "hidden": 96,
    "layers": 3,
    "ffn": 256,
    "heads": 3,
    "kv_heads": 1,
    "dim": 32,
    "vocab": 273,
}
LARGER = (
    SHIPPED,
    {"hidden": 256, "layers": 6, "ffn": 768, "heads": 4, "kv_heads": 2, "dim": 64, "vocab": 1024},
    {"hidden": 512, "layers": 6, "ffn": 1536, "heads": 8, "kv_heads": 2, "dim": 64, "vocab": 2048},
    {"hidden": 768, "layers": 8, "ffn": 2048, "heads": 12, "kv_heads": 4, "dim": 64, "vocab": 8192},
)


def make_model(shape: dict[str, int]) -> Any:
    """A Qwen3 model with random weights and no end token."""
    torch.manual_seed(0)
    config = transformers.Qwen3Config(
        vocab_size=shape["vocab"],
        hidden_size=shape["hidden"],
        intermediate_size=shape["ffn"],
        num_hidden_layers=shape["layers"],
        num_attention_heads=shape["heads"],
        num_key_value_heads=shape["kv_heads"],
        head_dim=shape["dim"],
        max_position_embeddings=512,
        tie_word_embeddings=True,
    )
    model = transformers.AutoModelForCausalLM.from_config(config).eval()
    model.generation_config.eos_token_id = None
    model.generation_config.pad_token_id = 0
    return model


def prompts(count: int, vocab: int) -> list[tuple[int, ...]]:
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(vocab, (count, PROMPT), generator=generator)
    return [tuple(row) for row in ids.tolist()]


async def pool_sampler(
    model: Any, engine: str, threads: int, rows: int, vocab: int
) -> tuple[LocalPool, Callable[[], Any]]:
    """A started pool and a function that samples the work with it once."""
    pool = LocalPool(model, engine=engine, threads=threads)
    await pool.start()
    requests = [
        GenerateRequest(
            prompt_ids=ids,
            seeds=tuple(range(8 * i, 8 * i + 8)),
            sampling=SamplingParams(max_tokens=NEW),
        )
        for i, ids in enumerate(prompts(rows // 8, vocab))
    ]

    async def run() -> int:
        groups = await pool.generate(requests)
        return sum(len(c.token_ids) for group in groups for c in group)

    return pool, run


def transformers_sampler(model: Any, rows: int, vocab: int) -> Callable[[], Any]:
    """The same work through transformers' generate."""
    ids = torch.tensor([p for p in prompts(rows // 8, vocab) for _ in range(8)])
    mask = torch.ones_like(ids)

    async def run() -> int:
        out = model.generate(
            ids, attention_mask=mask, do_sample=True, top_k=0, top_p=1.0, max_new_tokens=NEW
        )
        return out[:, PROMPT:].numel()

    return run


async def measure(samplers: dict[str, Callable[[], Any]], rounds: int) -> dict[str, dict[str, Any]]:
    """Interleaved rounds after one warm-up of each."""
    seen: dict[str, list[tuple[float, float, int]]] = {name: [] for name in samplers}
    for round_ in range(rounds + 1):
        for name, run in samplers.items():
            wall, cpu = time.perf_counter(), time.process_time()
            tokens = await run()
            wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
            if round_:
                seen[name].append((wall, cpu, tokens))
    return {name: summary(rows) for name, rows in seen.items()}


def summary(rows: list[tuple[float, float, int]]) -> dict[str, Any]:
    walls, cpus, tokens = zip(*rows, strict=True)
    return {
        "tokens": tokens[0],
        "wall_s": [round(w, 4) for w in walls],
        "cpu_s": [round(c, 4) for c in cpus],
        "tokens_per_s_median": round(tokens[0] / statistics.median(walls)),
        "tokens_per_s_best": round(tokens[0] / min(walls)),
        "tokens_per_cpu_s_median": round(tokens[0] / statistics.median(cpus)),
    }


def show(title: str, results: dict[str, dict[str, Any]], base: str) -> None:
    print(title)
    print(f"{'':14}{'tokens/s':>10}{'best':>10}{'per CPU s':>11}{'ratio':>8}{'CPU ratio':>11}")
    for name, r in results.items():
        ratio = r["tokens_per_s_median"] / results[base]["tokens_per_s_median"]
        cpu = r["tokens_per_cpu_s_median"] / results[base]["tokens_per_cpu_s_median"]
        print(
            f"{name:14}{r['tokens_per_s_median']:>10,}{r['tokens_per_s_best']:>10,}"
            f"{r['tokens_per_cpu_s_median']:>11,}{ratio:>8.2f}{cpu:>11.2f}"
        )


async def against_transformers(threads: int, rounds: int) -> dict[str, Any]:
    model = make_model(SHIPPED)
    samplers = {"transformers": transformers_sampler(model, 512, SHIPPED["vocab"])}
    pools = []
    for engine in ("torch", "compiled"):
        pool, samplers[engine] = await pool_sampler(model, engine, threads, 512, SHIPPED["vocab"])
        pools.append(pool)
    results = await measure(samplers, rounds)
    for pool in pools:
        await pool.close()
    show(f"512 rows x {NEW} tokens, {threads} threads", results, "transformers")
    return {"shape": SHIPPED, "rows": 512, "prompt": PROMPT, "new": NEW, "engines": results}


async def crossover(threads: int, rounds: int) -> list[dict[str, Any]]:
    report = []
    for shape in LARGER:
        model = make_model(shape)
        for rows in (16, 128):
            samplers, pools = {}, []
            for engine in ("torch", "compiled"):
                pool, samplers[engine] = await pool_sampler(
                    model, engine, threads, rows, shape["vocab"]
                )
                pools.append(pool)
            results = await measure(samplers, rounds)
            for pool in pools:
                await pool.close()
            size = weight_bytes(model) / 2**20
            show(f"\n{size:.1f} MiB of weights, {rows} rows, {threads} threads", results, "torch")
            report.append({"shape": shape, "weights_mib": round(size, 2), "rows": rows} | results)
    return report


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--crossover", action="store_true")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    run = crossover if arguments.crossover else against_transformers
    results = asyncio.run(run(arguments.threads, arguments.rounds))
    name = "decoding_crossover.json" if arguments.crossover else "decoding_cpu.json"
    made_with = conditions("torch", "transformers") | {"threads": arguments.threads}
    keep(made_with | {"results": results}, arguments.out or RESULTS / name)


if __name__ == "__main__":
    main()
