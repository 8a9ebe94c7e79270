"""Starts the parts of a prepared run: learner, pool, channel, collector, loggers."""

from contextlib import AsyncExitStack
from pathlib import Path

from rlnorm.errors import InputError
from rlnorm.trainers.checkpoint import LoopState, load_state
from rlnorm.trainers.collect import Collector
from rlnorm.trainers.config.resolve import model_path
from rlnorm.trainers.config.schema import Config
from rlnorm.trainers.config.sources import data_sources, local_files
from rlnorm.trainers.errors import RunError
from rlnorm.trainers.files import hash_files, latest_checkpoint, saved_checkpoints
from rlnorm.trainers.learner.build import seed_everything, start_embedded_learner
from rlnorm.trainers.learner.model import load_model, plain_model
from rlnorm.trainers.learner.types import Learner
from rlnorm.trainers.loop import RunContext
from rlnorm.trainers.prepare import Prepared
from rlnorm.trainers.prompt_stream import PromptStream
from rlnorm.trainers.record.display import Display
from rlnorm.trainers.record.loggers import Loggers
from rlnorm.trainers.record.parts import end_before_resume
from rlnorm.trainers.record.run_dir import RunDir
from rlnorm.trainers.record.warnings import Watch
from rlnorm.trainers.rollout.sampler import build_sampler
from rlnorm.trainers.rollout.types import RolloutPool
from rlnorm.trainers.sync import WeightChannel

PROBED_PROMPTS = 8
"""Training prompts whose logprobs are compared after every weight transfer."""


async def build_run(
    prepared: Prepared, run_dir: RunDir, display: Display, stack: AsyncExitStack, *, resume: bool
) -> tuple[RunContext, LoopState]:
    """Start everything the run needs and return it with the state to continue from; `stack` closes
    it all."""
    config = prepared.config
    seed_everything(config)
    run_dir.write_capsule(config, prepared.algorithm.describe(), _hashes(config))
    stack.push_async_callback(prepared.scorer.close)
    learner, pool, channel = await _systems(prepared, run_dir, stack)
    loggers = Loggers(config, run_dir.path)
    stack.callback(loggers.close)
    shares = {name: source.share for name, source in config.data.train_sources().items() if name}
    stream = PromptStream(prepared.prompts.train, config.seed, shares or None)
    for notice in prepared.prompts.notices:
        display.note(notice.text)
        if not resume:
            run_dir.log_event(**notice.event)
    sampler = build_sampler(config, pool, prepared.tokenizer)
    stack.push_async_callback(sampler.close)
    run = RunContext(
        config=config,
        algorithm=prepared.algorithm,
        tokenizer=prepared.tokenizer,
        collector=Collector(
            prompts=stream,
            sampler=sampler,
            scorer=prepared.scorer,
            algorithm=prepared.algorithm,
            config=config.rollout,
            tokenizer=prepared.tokenizer,
            seed=config.seed,
        ),
        pool=pool,
        sampler=sampler,
        learner=learner,
        channel=channel,
        scorer=prepared.scorer,
        benchmarks=prepared.prompts.benchmarks,
        run_dir=run_dir,
        loggers=loggers,
        display=display,
        watch=Watch(),
    )
    return run, await _continue(run, stream) if resume else LoopState()


async def _continue(run: RunContext, stream: PromptStream) -> LoopState:
    """Return to the newest checkpoint, or to the start if there is none yet."""
    folder = run.run_dir.checkpoints
    checkpoint = latest_checkpoint(folder)
    state = LoopState()
    if checkpoint is not None:
        try:
            state = load_state(checkpoint)
            await run.learner.load(checkpoint)
        except (InputError, RunError):
            raise
        except Exception as error:  # readers of damaged files raise many kinds of errors
            saved = [path.name for path in saved_checkpoints(folder) if path != checkpoint]
            older = ", ".join(saved) or "none"
            raise InputError(
                f"--resume: {checkpoint} cannot be loaded ({type(error).__name__}: "
                f"{' '.join(str(error).split())[:200]}); to continue from an older one (available: "
                f"{older}) write its name into {folder}/latest"
            ) from error
        run.algorithm.load_state_dict(state.algorithm or {})
        stream.cursor = state.cursor
        run.scorer.batches = state.step
        await run.channel.publish(run.learner, run.pool)
        if not (checkpoint / "config.yaml").is_file():
            run.display.note(
                f"{checkpoint.name} does not hold the config that it was made with (it is from an "
                f"older rlnorm): this one was compared with {run.run_dir.path}/config.yaml"
            )
    run.display.note(f"continuing after step {state.step}: {end_before_resume(run.run_dir)}")
    run.run_dir.forget_after(state.step if checkpoint is not None else -1)
    run.watch.restore(run.run_dir.rows(), run.run_dir.events_of("warning"))
    run.run_dir.log_event("resumed", step=state.step)
    return state


async def _systems(
    prepared: Prepared, run_dir: RunDir, stack: AsyncExitStack
) -> tuple[Learner, RolloutPool, WeightChannel]:
    """Start the learner and the pool, and create the channel between them."""
    config, tokenizer = prepared.config, prepared.tokenizer
    probe = [p.token_ids for p in prepared.prompts.train[:PROBED_PROMPTS]]
    if config.needs_ray:
        from rlnorm.trainers.build_cluster import build_cluster_systems

        return await build_cluster_systems(prepared, run_dir, probe, stack)
    from rlnorm.trainers.rollout.local import LocalPool
    from rlnorm.trainers.sync import SharedMemoryChannel

    learner = await start_embedded_learner(
        config, prepared.algorithm, tokenizer, run_dir.path / "faults", stack
    )
    copies = config.model.lora is not None
    source = load_model(plain_model(config.model)).to(learner.device) if copies else learner.model
    pool = LocalPool(source, tokenizer=tokenizer, deadline_s=config.rollout.deadline_s)
    stack.push_async_callback(pool.close)
    await pool.start()
    channel = SharedMemoryChannel(
        copies=copies, probe=probe, temperature=config.rollout.temperature
    )
    return learner, pool, channel


def _hashes(config: Config) -> dict[str, str]:
    folder = Path(model_path(config.model.path))
    files = {"model": sorted(folder.glob("*.safetensors")) or sorted(folder.glob("*.bin"))}
    for source in data_sources(config.data):
        if paths := local_files(source):
            files[source.text] = paths
    return {name: hash_files(paths) for name, paths in files.items() if paths}
