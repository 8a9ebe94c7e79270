"""From a config to the parts of a run; every mistake that can be found early is found here."""

import random
from pathlib import Path
from typing import Any

import torch
from rlnorm.algorithms import Algorithm, resolve_algorithm

from rewards.errors import InputError
from rewards.registry import load_rewards
from rewards.scorer import Scorer
from rlnorm.types import Prompt
from trainers.checkpoint import LoopState, latest_checkpoint, load_state
from trainers.collect import Collector
from trainers.config import Config
from trainers.display import Display
from trainers.learner.embedded import EmbeddedLearner
from trainers.learner.types import Learner
from trainers.loop import Parts
from trainers.models import load_model, load_tokenizer, model_path, plain_model
from trainers.prompts import PromptStream, context_left, load_rows, render
from trainers.rollout.types import RolloutPool
from trainers.run_dir import RunDir, hash_files
from trainers.sinks import Sinks
from trainers.sync import WeightChannel

REPORTED_PROBLEMS = 5
PROBED_PROMPTS = 8
"""Training prompts whose logprobs are compared after every weight transfer."""


def build_algorithm(config: Config) -> Algorithm:
    """The five stages; a wrong name or option is told as bad input."""
    table = config.algorithm if isinstance(config.algorithm, dict) else {"name": config.algorithm}
    overrides = {key: value for key, value in table.items() if key != "name"}
    try:
        return resolve_algorithm(str(table.get("name", "grpo")), overrides)
    except ValueError as error:
        raise InputError(f"algorithm: {error}") from None


def build_scorer(config: Config) -> Scorer:
    """The rewards, with their workers not yet started."""
    return load_rewards([r.model_dump(exclude_none=True) for r in config.rewards])


def build_prompts(config: Config, tokenizer: Any) -> tuple[list[Prompt], dict[str, list[Prompt]]]:
    """Training prompts and benchmarks, rendered; a training prompt in a benchmark is an error."""
    from transformers import AutoConfig

    model_config = AutoConfig.from_pretrained(model_path(config.model.path))
    longest = context_left(model_config, config.rollout.max_tokens)
    rows = load_rows(config.data.train, config.data.fields)[: config.data.train_limit]
    train = render(rows, tokenizer, config.data, longest=longest)
    benchmarks = {
        name: render(load_rows(source, config.data.fields), tokenizer, config.data, longest=longest)
        for name, source in config.data.eval.items()
    }
    seen = {p.token_ids for p in train}
    for name, prompts in benchmarks.items():
        shared = [p.prompt_id for p in prompts if p.token_ids in seen]
        if shared:
            raise InputError(
                f"data.eval.{name}: {len(shared)} of {len(prompts)} prompts are training prompts "
                f"too, for example {', '.join(shared[:REPORTED_PROBLEMS])}"
            )
    return train, benchmarks


def build_device() -> torch.device:
    """The GPU where there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def seed_everything(config: Config) -> None:
    """Library-wide seeds and, for bit-for-bit runs, deterministic kernels."""
    random.seed(config.seed)
    torch.manual_seed(config.seed)
    torch.use_deterministic_algorithms(config.deterministic)


async def build_parts(
    config: Config, run_dir: RunDir, display: Display, *, resume: bool
) -> tuple[Parts, LoopState]:
    """Everything a run needs, started, with the state to go on from."""
    seed_everything(config)
    algorithm, scorer = build_algorithm(config), build_scorer(config)
    tokenizer = load_tokenizer(config.model.path)
    train, benchmarks = build_prompts(config, tokenizer)
    run_dir.write_capsule(config, _hashes(config))
    probe = [p.token_ids for p in train[:PROBED_PROMPTS]]
    learner, pool, channel = await _systems(config, algorithm, tokenizer, run_dir, probe)
    state, checkpoint = LoopState(), latest_checkpoint(run_dir.checkpoints) if resume else None
    stream = PromptStream(train, config.seed)
    if checkpoint is not None:
        state = load_state(checkpoint)
        await learner.load(checkpoint)
        algorithm.load_state(state.algorithm or {})
        stream.cursor = state.cursor
        await channel.publish(learner, pool)
    if resume:
        run_dir.forget_after(state.step if checkpoint is not None else -1)
        run_dir.log_event("resumed", step=state.step)
    collector = Collector(
        prompts=stream,
        pool=pool,
        scorer=scorer,
        algorithm=algorithm,
        config=config.rollout,
        tokenizer=tokenizer,
        seed=config.seed,
    )
    parts = Parts(
        config=config,
        algorithm=algorithm,
        tokenizer=tokenizer,
        collector=collector,
        pool=pool,
        learner=learner,
        channel=channel,
        scorer=scorer,
        benchmarks=benchmarks,
        run_dir=run_dir,
        sinks=Sinks(config, run_dir.path),
        display=display,
    )
    return parts, state


async def _systems(
    config: Config,
    algorithm: Algorithm,
    tokenizer: Any,
    run_dir: RunDir,
    probe: list[tuple[int, ...]],
) -> tuple[Learner, RolloutPool, WeightChannel]:
    """The learner, the pool and the channel between them, started."""
    if config.needs_ray:
        from trainers.build_cluster import build_cluster_systems

        return await build_cluster_systems(config, algorithm, tokenizer, run_dir, probe)
    from trainers.rollout.local import LocalPool
    from trainers.sync import SharedMemoryChannel

    learner = EmbeddedLearner(
        config.model,
        config.learner,
        algorithm,
        tokenizer,
        seed=config.seed,
        device=build_device(),
        faults=run_dir.path / "faults",
    )
    await learner.start()
    copies = config.model.lora_rank > 0
    source = load_model(plain_model(config.model)).to(learner.device) if copies else learner.model
    pool = LocalPool(source, tokenizer=tokenizer, deadline_s=config.rollout.deadline_s)
    await pool.start()
    channel = SharedMemoryChannel(
        copies=copies, probe=probe, temperature=config.rollout.temperature
    )
    return learner, pool, channel


def _hashes(config: Config) -> dict[str, str]:
    folder = Path(model_path(config.model.path))
    files = {"model": sorted(folder.glob("*.safetensors"))} if folder.is_dir() else {}
    for source in (config.data.train, *config.data.eval.values()):
        path = Path(source.partition("=")[2] or source)
        if path.is_file():
            files[source] = [path]
    return {name: hash_files(paths) for name, paths in files.items() if paths}
