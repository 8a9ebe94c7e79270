"""Run by test_two_nodes on the head node: engines and ranks over both nodes, two real steps.

Usage: two_nodes.py HEAD:PORT FOLDER; prints one JSON object on its last line.
"""

import asyncio
import json
import sys
import time
from dataclasses import replace
from pathlib import Path

import ray
import torch

from rlnorm.algorithms import resolve_algorithm
from rlnorm.types import Prompt, Rollout
from trainers.cluster import Cluster
from trainers.config import LearnerConfig, ModelConfig
from trainers.learner.deepspeed_learner import DeepSpeedLearner
from trainers.learner.packing import pack
from trainers.rollout.types import GenerateRequest, SamplingParams
from trainers.rollout.vllm_pool import VllmPool
from trainers.sync import ClusterChannel
from trainers.tasks import shipped_model

PROMPTS = [(40, 41, 42), (50, 51, 52, 53), (60, 61)]


def rollouts_of(groups) -> list[Rollout]:
    """Prompts and completions joined, with names."""
    return [
        Rollout(
            rollout_id=f"0/{i}/{j}",
            prompt=Prompt(prompt_id=str(i), token_ids=prompt),
            completion=completion,
            text="",
        )
        for i, (prompt, group) in enumerate(zip(PROMPTS, groups, strict=True))
        for j, completion in enumerate(group)
    ]


async def main(address: str, folder: Path) -> dict[str, object]:
    cluster = Cluster.connect(address=address, deadline_s=30.0)
    deadline = time.monotonic() + 60.0
    while len([n for n in ray.nodes() if n["Alive"]]) < 2:
        if time.monotonic() > deadline:
            raise TimeoutError("the second node did not join within 60 s")
        await asyncio.sleep(0.2)
    started = time.monotonic()
    options = {"max_num_seqs": 32, "max_model_len": 128}
    pool = VllmPool(str(shipped_model("quick")), cluster=cluster, engines=2, engine_options=options)
    learner = DeepSpeedLearner(
        ModelConfig(path="shipped:quick"),
        LearnerConfig(ranks=2, zero_stage=2, tokens_per_microbatch=64),
        resolve_algorithm("grpo"),
        cluster=cluster,
        seed=0,
        faults=folder,
        start_deadline_s=180.0,
        step_deadline_s=120.0,
    )
    await asyncio.gather(pool.start(), learner.start())
    result = {"start_s": time.monotonic() - started, "engines": pool.nodes, "ranks": learner.nodes}
    channel = ClusterChannel(probe=[tuple(range(3, 40))], temperature=1.0)
    reports = [await channel.publish(learner, pool)]
    sampling = SamplingParams(max_tokens=16)
    asked = [GenerateRequest(prompt_ids=p, seeds=(1, 2, 3), sampling=sampling) for p in PROMPTS]
    batch = pack(rollouts_of(await pool.generate(asked)), temperature=1.0, horizon=16)
    old = await learner.score(batch, frozenset({"old_logprobs"}))
    gap = (old["old_logprobs"] - batch.columns["sampler_logprobs"])[batch.loss_mask]
    result["sampler_gap"] = float(gap.abs().mean())
    sign = torch.where(batch.rollout_index % 2 == 0, 1.0, -1.0).where(batch.loss_mask, 0.0)
    batch = replace(batch, columns={**batch.columns, **old, "advantages": sign})
    for _ in range(2):
        step = await learner.step(batch, 1e-3)
        reports.append(await channel.publish(learner, pool))
    result |= {
        "skipped": step.skipped,
        "versions": [r.version for r in reports],
        "parity": [r.parity_gap for r in reports],
        "sync_s": [r.seconds for r in reports],
    }
    await learner.close()
    await pool.close()
    cluster.close()
    return result


if __name__ == "__main__":
    print(json.dumps(asyncio.run(main(sys.argv[1], Path(sys.argv[2])))))
