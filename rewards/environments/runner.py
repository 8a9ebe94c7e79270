"""Roll a policy out through environments, all at once on one event loop.

    roll_out: reset -> [ generate -> step -> extend ]* -> EnvRollout

Each rollout waits only for its own turn and its own tool, and the others run meanwhile. It ends by
whichever comes first: the environment, the token budget, the turn limit, the wall clock.
"""

import asyncio
import hashlib
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rlnorm.rewards.environments.types import (
    Env,
    EnvError,
    EnvRollout,
    Finish,
    Generate,
    RolloutLimits,
    RolloutStatus,
    Step,
    TurnTokenizer,
)
from rlnorm.rewards.together import together

_DEFAULT_LIMITS = RolloutLimits()


def turn_seed(seed: int, turn: int) -> int:
    """The sampling seed of one turn, in 0 to 2**63 - 1."""
    digest = hashlib.sha256(f"{seed}/{turn}".encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


@dataclass
class _Tape:
    """The tokens so far; append-only."""

    prompt_ids: list[int]
    token_ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    policy_mask: list[bool] = field(default_factory=list)
    turn_index: list[int] = field(default_factory=list)
    turns: list[Mapping[str, Any]] = field(default_factory=list)

    def append(self, ids: Sequence[int], logprobs: Sequence[float] | None) -> None:
        """Add a policy turn with its logprobs, or the environment's tokens with None."""
        if logprobs is not None and len(ids) != len(logprobs):
            raise ValueError(f"generate: {len(ids)} tokens with {len(logprobs)} logprobs")
        self.token_ids += ids
        self.logprobs += [0.0] * len(ids) if logprobs is None else logprobs
        self.policy_mask += [logprobs is not None] * len(ids)
        self.turn_index += [max(0, len(self.turns) - (logprobs is None))] * len(ids)

    @property
    def context(self) -> list[int]:
        return self.prompt_ids + self.token_ids


async def roll_out(
    env: Env,
    generate: Generate,
    tokenizer: TurnTokenizer,
    limits: RolloutLimits = _DEFAULT_LIMITS,
    *,
    problem_seed: int,
    seed: int,
) -> EnvRollout:
    """One rollout. problem_seed chooses the problem (one per group), seed the policy's samples.

    A rollout that exceeds a limit or whose environment raised EnvError is returned as a failure
    with the tokens so far; any other exception propagates.
    """
    began = time.monotonic()
    tape = _Tape([])
    finish: Finish = "abort"
    error = ""
    try:
        async with asyncio.timeout(limits.wall_s) as clock:
            status, finish = await _run(env, generate, tokenizer, limits, problem_seed, seed, tape)
    except TimeoutError:
        if not clock.expired():
            raise
        status, error = RolloutStatus.WALL_CLOCK, f"not over after {limits.wall_s:g} s"
    except EnvError as failed:
        status, error = RolloutStatus.ENV_ERROR, str(failed)
    if status is RolloutStatus.TURN_LIMIT:
        error = f"not over after {limits.max_turns} turns"
    rewards = [float(turn["reward"]) for turn in tape.turns]
    if status.is_failure:  # the turn that failed has no entry in the log, but it has tokens
        rewards = [math.nan] * max([len(rewards), *(turn + 1 for turn in tape.turn_index[-1:])])
    return EnvRollout(
        prompt_ids=tuple(tape.prompt_ids),
        token_ids=tuple(tape.token_ids),
        logprobs=tuple(tape.logprobs),
        policy_mask=tuple(tape.policy_mask),
        turn_index=tuple(tape.turn_index),
        turn_rewards=tuple(rewards),
        finish=finish,
        status=status,
        error=error,
        turns=tuple(tape.turns),
        seconds=time.monotonic() - began,
    )


async def _run(
    env: Env,
    generate: Generate,
    tokenizer: TurnTokenizer,
    limits: RolloutLimits,
    problem_seed: int,
    seed: int,
    tape: _Tape,
) -> tuple[RolloutStatus, Finish]:
    said = await env.reset(problem_seed)
    added = tokenizer.open(said)
    tape.prompt_ids += added
    left = _most_tokens(limits, tape.prompt_ids)
    seen: list[int] = []
    for turn in range(limits.max_turns):
        context = tape.context
        if context[: len(seen)] != seen:
            raise AssertionError(f"turn {turn}: its prompt does not extend the turn before")
        room = min(limits.tokens_per_turn, left - len(tape.token_ids))
        began = time.monotonic()
        ids, logprobs, finish = await generate(context, room, turn_seed(seed, turn), env.stop)
        if not 0 < len(ids) <= room:
            raise ValueError(f"generate: {len(ids)} tokens, allowed 1 to {room}")
        tape.append(list(ids), list(logprobs))
        seen = tape.context
        tag = tokenizer.open_tag(added, said)
        text = tag + tokenizer.decode(ids)
        step = await env.step(text)
        tape.turns.append(_log(text, tag, step, time.monotonic() - began))
        if finish == "length":
            return RolloutStatus.TRUNCATED, "length"
        if step.done:
            return RolloutStatus.FINISHED, "stop"
        if not step.messages:
            raise ValueError(f"{type(env).__name__}.step: not done, so it must return messages")
        said = step.messages
        added = tokenizer.extend(said, ids[-1])
        if len(tape.token_ids) + len(added) < left:
            tape.append(added, None)
        elif turn + 1 < limits.max_turns:  # messages that no turn can answer are left out
            return RolloutStatus.TRUNCATED, "length"
    return RolloutStatus.TURN_LIMIT, "abort"


def _most_tokens(limits: RolloutLimits, prompt_ids: Sequence[int]) -> int:
    """How many tokens may follow the prompt."""
    if limits.context_tokens is None:
        return limits.total_tokens
    room = limits.context_tokens - len(prompt_ids)
    if room < 1:
        raise EnvError(
            f"the first prompt has {len(prompt_ids)} tokens, and the context holds "
            f"{limits.context_tokens}, its completion included"
        )
    return min(limits.total_tokens, room)


def _log(text: str, open_tag: str, step: Step, seconds: float) -> Mapping[str, Any]:
    return {
        "text": text,
        "open_tag": open_tag,
        "reward": step.reward,
        "info": dict(step.info),
        "messages": [dict(message) for message in step.messages],
        "seconds": seconds,
    }


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """One rollout to do; each job needs its own Env, which holds the state of one rollout."""

    env: Env
    problem_seed: int
    seed: int


async def roll_out_many(
    jobs: Sequence[Job],
    generate: Generate,
    tokenizer: TurnTokenizer,
    limits: RolloutLimits = _DEFAULT_LIMITS,
    *,
    concurrency: int | None = None,
) -> list[EnvRollout]:
    """All rollouts in order, `concurrency` at a time (None: all); each one's wall clock starts when
    it does. The first exception other than a rollout failure ends them all and is raised."""
    if len({id(job.env) for job in jobs}) != len(jobs):
        raise ValueError("roll_out_many: an Env is in two jobs; each needs its own")
    slots = asyncio.Semaphore(concurrency or max(1, len(jobs)))

    async def one(job: Job) -> EnvRollout:
        async with slots:
            return await roll_out(
                job.env, generate, tokenizer, limits, problem_seed=job.problem_seed, seed=job.seed
            )

    return await together([one(job) for job in jobs])
