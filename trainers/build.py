"""From a config to the parts of a run; every mistake that can be found early is found here."""

import os
import random
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from rlnorm.algorithms import Algorithm
from rlnorm.errors import InputError
from rlnorm.rewards.environments.chat import ChatTokenizer
from rlnorm.rewards.scorer import Scorer
from rlnorm.trainers.checkpoint import LoopState, latest_checkpoint, load_state
from rlnorm.trainers.collect import Collector
from rlnorm.trainers.config.check import build_algorithm, build_scorer, model_path
from rlnorm.trainers.config.schema import Config
from rlnorm.trainers.errors import RunError
from rlnorm.trainers.learner.embedded import EmbeddedLearner
from rlnorm.trainers.learner.types import Learner
from rlnorm.trainers.loop import Parts
from rlnorm.trainers.models import load_model, load_model_config, load_tokenizer, plain_model
from rlnorm.trainers.prompts import (
    PromptStream,
    check_tokens,
    context_left,
    load_prompts,
    problem_prompts,
)
from rlnorm.trainers.record.display import Display
from rlnorm.trainers.record.loggers import Sinks
from rlnorm.trainers.record.run_dir import RunDir, hash_files
from rlnorm.trainers.rollout.sampler import MultiTurn, Sampler, SingleTurn, resolve_environment
from rlnorm.trainers.rollout.types import RolloutPool
from rlnorm.trainers.sync import WeightChannel
from rlnorm.types import Prompt

REPORTED_PROBLEMS = 5
PROBED_PROMPTS = 8
"""Training prompts whose logprobs are compared after every weight transfer."""


async def build_prompts(
    config: Config, tokenizer: Any
) -> tuple[list[Prompt], dict[str, list[Prompt]]]:
    """Training prompts and benchmarks, rendered; a training prompt in a benchmark is an error."""
    sources = config.data.eval
    if config.rollout.environment is not None:
        # an environment keeps its own splits apart
        async with aclosing(resolve_environment(config)) as spec:
            ask = partial(problem_prompts, spec, ChatTokenizer(tokenizer))
            train = (await ask(config.data.train))[: config.data.train_limit]
            return train, {name: await ask(source) for name, source in sources.items()}
    model_config = load_model_config(config.model.path)
    longest = context_left(model_config, config.rollout)
    load = partial(load_prompts, config=config.data, tokenizer=tokenizer, longest=longest)
    train = load(config.data.train)[: config.data.train_limit]
    benchmarks = {name: load(source) for name, source in sources.items()}
    check_tokens([*train, *(p for prompts in benchmarks.values() for p in prompts)], model_config)
    seen = {p.token_ids for p in train}
    for name, prompts in benchmarks.items():
        shared = [p.prompt_id for p in prompts if p.token_ids in seen]
        if shared:
            raise InputError(
                f"data.eval.{name}: {len(shared)} of {len(prompts)} prompts are training prompts "
                f"too, for example {', '.join(shared[:REPORTED_PROBLEMS])}"
            )
    return train, benchmarks


def build_sampler(config: Config, pool: RolloutPool, tokenizer: Any) -> Sampler:
    """One turn, or many through the config's environment."""
    if config.rollout.environment is None:
        return SingleTurn(pool)
    return MultiTurn(pool, tokenizer, resolve_environment(config))


def build_device() -> torch.device:
    """The GPU where there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def seed_everything(config: Config) -> None:
    """Library-wide seeds and, for bit-for-bit runs, deterministic kernels."""
    random.seed(config.seed)
    torch.manual_seed(config.seed)
    if config.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS refuses without it
    torch.use_deterministic_algorithms(config.deterministic)


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """What can be checked without touching the disk or starting anything."""

    config: Config
    algorithm: Algorithm
    scorer: Scorer
    tokenizer: Any
    train: list[Prompt]
    benchmarks: dict[str, list[Prompt]]


async def build_plan(config: Config) -> Plan:
    """Algorithm, rewards, tokenizer and prompts; nothing is written, no process is started."""
    algorithm, scorer = build_algorithm(config), build_scorer(config)
    tokenizer = load_tokenizer(config.model.path)
    train, benchmarks = await build_prompts(config, tokenizer)
    return Plan(
        config=config,
        algorithm=algorithm,
        scorer=scorer,
        tokenizer=tokenizer,
        train=train,
        benchmarks=benchmarks,
    )


async def build_parts(
    plan: Plan, run_dir: RunDir, display: Display, stack: AsyncExitStack, *, resume: bool
) -> tuple[Parts, LoopState]:
    """Everything a run needs, started, with the state to go on from; `stack` closes it again."""
    config = plan.config
    seed_everything(config)
    run_dir.write_capsule(config, plan.algorithm.describe(), _hashes(config))
    stack.push_async_callback(plan.scorer.close)
    learner, pool, channel = await _systems(plan, run_dir, stack)
    sinks = Sinks(config, run_dir.path)
    stack.callback(sinks.close)
    stream = PromptStream(plan.train, config.seed)
    sampler = build_sampler(config, pool, plan.tokenizer)
    stack.push_async_callback(sampler.close)
    parts = Parts(
        config=config,
        algorithm=plan.algorithm,
        tokenizer=plan.tokenizer,
        collector=Collector(
            prompts=stream,
            sampler=sampler,
            scorer=plan.scorer,
            algorithm=plan.algorithm,
            config=config.rollout,
            tokenizer=plan.tokenizer,
            seed=config.seed,
        ),
        pool=pool,
        sampler=sampler,
        learner=learner,
        channel=channel,
        scorer=plan.scorer,
        benchmarks=plan.benchmarks,
        run_dir=run_dir,
        sinks=sinks,
        display=display,
    )
    return parts, await _continue(parts, stream) if resume else LoopState()


async def _continue(parts: Parts, stream: PromptStream) -> LoopState:
    """Go back to the newest checkpoint, or to the start where there is none yet."""
    folder = parts.run_dir.checkpoints
    whole = sorted(folder.glob("step_*"), key=lambda path: int(path.name.removeprefix("step_")))
    # one that was killed before `latest` named it is whole all the same
    checkpoint = latest_checkpoint(folder) or (whole[-1] if whole else None)
    state = LoopState()
    if checkpoint is not None:
        try:
            state = load_state(checkpoint)
            await parts.learner.load(checkpoint)
        except (InputError, RunError):
            raise
        except Exception as error:  # each damaged file has an error of its own
            older = ", ".join(path.name for path in whole if path != checkpoint) or "none"
            raise InputError(
                f"--resume: {checkpoint} cannot be loaded ({type(error).__name__}: "
                f"{' '.join(str(error).split())[:200]}); to go on from an older one (there are: "
                f"{older}) write its name into {folder}/latest"
            ) from error
        parts.algorithm.load_state_dict(state.algorithm or {})
        stream.cursor = state.cursor
        await parts.channel.publish(parts.learner, parts.pool)
    parts.run_dir.forget_after(state.step if checkpoint is not None else -1)
    parts.run_dir.log_event("resumed", step=state.step)
    return state


async def _systems(
    plan: Plan, run_dir: RunDir, stack: AsyncExitStack
) -> tuple[Learner, RolloutPool, WeightChannel]:
    """The learner, the pool and the channel between them, started."""
    config, tokenizer = plan.config, plan.tokenizer
    probe = [p.token_ids for p in plan.train[:PROBED_PROMPTS]]
    if config.needs_ray:
        from rlnorm.trainers.build_cluster import build_cluster_systems

        return await build_cluster_systems(plan, run_dir, probe, stack)
    from rlnorm.trainers.rollout.local import LocalPool
    from rlnorm.trainers.sync import SharedMemoryChannel

    learner = await start_embedded_learner(plan, run_dir, stack)
    copies = config.model.lora_rank > 0
    source = load_model(plain_model(config.model)).to(learner.device) if copies else learner.model
    pool = LocalPool(source, tokenizer=tokenizer, deadline_s=config.rollout.deadline_s)
    stack.push_async_callback(pool.close)
    await pool.start()
    channel = SharedMemoryChannel(
        copies=copies, probe=probe, temperature=config.rollout.temperature
    )
    return learner, pool, channel


async def start_embedded_learner(
    plan: Plan, run_dir: RunDir, stack: AsyncExitStack
) -> EmbeddedLearner:
    """The learner of this process, started."""
    learner = EmbeddedLearner(
        plan.config.model,
        plan.config.learner,
        plan.algorithm,
        plan.tokenizer,
        seed=plan.config.seed,
        device=build_device(),
        faults=run_dir.path / "faults",
    )
    stack.push_async_callback(learner.close)
    await learner.start()
    return learner


def _hashes(config: Config) -> dict[str, str]:
    folder = Path(model_path(config.model.path))
    files = {"model": sorted(folder.glob("*.safetensors")) or sorted(folder.glob("*.bin"))}
    for source in (config.data.train, *config.data.eval.values()):
        path = Path(source.partition("=")[2] or source)
        if path.is_file():
            files[source] = [path]
    return {name: hash_files(paths) for name, paths in files.items() if paths}
