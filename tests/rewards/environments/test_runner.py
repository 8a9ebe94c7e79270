"""Token-exact turns, limits and concurrency of the runner, with a policy that is a script."""

import asyncio
import math
from itertools import pairwise

import pytest

from rlnorm.errors import InputError
from rlnorm.rewards.environments import (
    EnvError,
    Job,
    RolloutLimits,
    RolloutStatus,
    Step,
    roll_out,
    roll_out_many,
)
from rlnorm.rewards.environments.batching import Batched
from rlnorm.rewards.environments.runner import turn_seed
from rlnorm.rewards.types import Status

END, USER, ASSISTANT = 1, 2, 3


class Letters:
    """One token a character; messages are USER text END, turns ASSISTANT text END."""

    def open(self, messages):
        return [t for m in messages for t in (USER, *map(ord, m["content"]), END)] + [ASSISTANT]

    def extend(self, messages, last_id):
        return ([] if last_id == END else [END]) + self.open(messages)

    def open_tag(self, prompt_ids, messages):
        return ""

    def decode(self, token_ids):
        return "".join(chr(t) for t in token_ids if t > ASSISTANT)


class Policy:
    """Says the given texts in turn; the logprob of a token is minus its id / 1000."""

    def __init__(self, *texts, finish="stop", wait_s=0.0):
        self.texts, self.finish, self.wait_s = texts, finish, wait_s
        self.calls = []

    async def __call__(self, prompt_ids, max_tokens, seed, stop):
        await asyncio.sleep(self.wait_s)
        turn = prompt_ids.count(ASSISTANT) - 1
        self.calls.append((list(prompt_ids), max_tokens, seed, stop))
        ids = [*map(ord, self.texts[turn][: max_tokens - 1]), END]
        return ids, [-t / 1000 for t in ids], self.finish


class Echo:
    """Repeats each turn; done after `turns`, with a reward of 1, 2, ..."""

    stop = ("\n",)

    def __init__(self, turns, wait_s=0.0, fail_at=None, info=None):
        self.left, self.wait_s, self.fail_at, self.info = turns, wait_s, fail_at, info or {}
        self.seen = []

    async def reset(self, seed):
        return [{"role": "user", "content": f"p{seed}"}]

    async def step(self, text):
        self.seen.append(text)
        await asyncio.sleep(self.wait_s)
        if self.fail_at == len(self.seen):
            raise EnvError("server down")
        done = len(self.seen) == self.left
        messages = [] if done else [{"role": "user", "content": text.upper()}]
        return Step(messages=messages, reward=len(self.seen), done=done, info=self.info)


async def roll(env, policy, **limits):
    limits = RolloutLimits(**limits)
    return await roll_out(env, policy, Letters(), limits, problem_seed=7, seed=5)


async def test_every_vector_of_a_two_turn_rollout():
    policy = Policy("ab", "c")
    rollout = await roll(Echo(2), policy)
    a, b, c = map(ord, "abc")
    assert rollout.prompt_ids == (USER, ord("p"), ord("7"), END, ASSISTANT)
    said = (USER, ord("A"), ord("B"), END, ASSISTANT)
    assert rollout.token_ids == (a, b, END, *said, c, END)
    assert rollout.policy_mask == (True,) * 3 + (False,) * 5 + (True,) * 2
    assert rollout.turn_index == (0,) * 8 + (1,) * 2
    assert rollout.logprobs == (-0.097, -0.098, -0.001, *[0.0] * 5, -0.099, -0.001)
    assert rollout.turn_rewards == (1.0, 2.0)
    assert (rollout.status, rollout.finish, rollout.error) == ("finished", "stop", "")
    assert rollout.final == 3.0
    assert [turn["text"] for turn in rollout.turns] == ["ab", "c"]


async def test_each_prompt_is_the_last_one_with_tokens_added():
    policy = Policy("ab", "c", "d")
    rollout = await roll(Echo(3), policy)
    prompts = [call[0] for call in policy.calls]
    assert prompts[0] == list(rollout.prompt_ids)
    for turn, (before, after) in enumerate(pairwise(prompts)):
        first = len(rollout.prompt_ids)
        sampled = [
            t
            for t, mine, u in zip(
                rollout.token_ids, rollout.policy_mask, rollout.turn_index, strict=True
            )
            if mine and u == turn
        ]
        assert after[: len(before) + len(sampled)] == before + sampled
        assert after == list(rollout.prompt_ids + rollout.token_ids)[: len(after)]
        assert len(after) > first
    assert all(call[3] == ("\n",) for call in policy.calls)


async def test_sampling_seeds_differ_by_turn_and_repeat():
    policy = Policy("a", "b")
    await roll(Echo(2), policy)
    seeds = [call[2] for call in policy.calls]
    assert seeds == [turn_seed(5, 0), turn_seed(5, 1)]
    assert len({turn_seed(s, t) for s in range(20) for t in range(20)}) == 400
    assert all(0 <= turn_seed(s, 0) < 2**63 for s in range(100))


async def test_a_turn_cut_by_its_budget_is_judged_and_ends_the_rollout():
    env = Echo(3)
    rollout = await roll(env, Policy("abcdef", finish="length"), tokens_per_turn=4)
    assert env.seen == ["abc"]
    assert (rollout.status, rollout.finish) == (RolloutStatus.TRUNCATED, "length")
    assert rollout.turn_rewards == (1.0,)
    assert not rollout.status.is_failure


async def test_the_total_budget_counts_what_the_environment_says():
    policy = Policy("abc", "abc", "abc")
    rollout = await roll(Echo(3), policy, total_tokens=12)
    # 4 of the policy, 6 of the environment, 2 left; then nothing
    assert [call[1] for call in policy.calls] == [12, 2]
    assert rollout.status is RolloutStatus.TRUNCATED


async def test_the_context_counts_the_prompt_and_ends_a_rollout_before_it_is_full():
    policy = Policy("abc", "abc", "abc")
    rollout = await roll(Echo(3), policy, context_tokens=5 + 12)
    assert [call[1] for call in policy.calls] == [12, 2]
    assert (rollout.status, rollout.finish) == (RolloutStatus.TRUNCATED, "length")
    assert len(rollout.prompt_ids + rollout.token_ids) <= 17
    # the environment's 6 tokens leave no room to answer them: the rollout ends with its own turn
    policy = Policy("abc", "abc", "abc")
    rollout = await roll(Echo(3), policy, context_tokens=5 + 10)
    assert len(policy.calls) == 1
    assert (rollout.status, len(rollout.token_ids)) == (RolloutStatus.TRUNCATED, 4)
    assert rollout.turn_rewards == (1.0,)
    # what an environment says of itself only now, as a simulated user does, masks one rollout
    rollout = await roll(Echo(3), Policy("abc"), context_tokens=5)
    assert rollout.status is RolloutStatus.ENV_ERROR
    assert "first prompt has 5 tokens, and the context holds 5" in rollout.error


@pytest.mark.parametrize(
    ("env", "limits", "status", "as_reward"),
    [
        (Echo(9), {"max_turns": 2}, RolloutStatus.TURN_LIMIT, Status.TIMEOUT),
        (Echo(9, wait_s=30), {"wall_s": 0.1}, RolloutStatus.WALL_CLOCK, Status.TIMEOUT),
        (Echo(9, fail_at=2), {}, RolloutStatus.ENV_ERROR, Status.INFRA_ERROR),
    ],
)
async def test_failures_are_typed_and_their_rewards_nan_not_zero(env, limits, status, as_reward):
    rollout = await roll(env, Policy(*"abcdefghi"), **limits)
    assert rollout.status is status
    assert rollout.status.is_failure
    assert rollout.status.reward_status is as_reward
    assert rollout.finish == "abort"
    assert rollout.error
    assert math.isnan(rollout.final)
    assert all(math.isnan(reward) for reward in rollout.turn_rewards)
    assert len(rollout.turn_rewards) == max(rollout.turn_index) + 1
    # what was sampled is kept for the log
    assert rollout.token_ids[0] == ord("a")


async def test_a_slow_policy_counts_to_the_wall_clock_too():
    rollout = await roll(Echo(2), Policy("a", "b", wait_s=30), wall_s=0.1)
    assert rollout.status is RolloutStatus.WALL_CLOCK
    assert rollout.token_ids == ()


async def test_final_may_come_from_the_environment():
    assert (await roll(Echo(2, info={"final": 0.25}), Policy("a", "b"))).final == 0.25


async def test_a_turn_ended_without_the_end_token_gets_it_from_the_template():
    class Stopped(Policy):
        async def __call__(self, prompt_ids, max_tokens, seed, stop):
            ids, logprobs, finish = await super().__call__(prompt_ids, max_tokens, seed, stop)
            return ids[:-1], logprobs[:-1], finish

    rollout = await roll(Echo(2), Stopped("a", "b"))
    assert rollout.token_ids[:3] == (ord("a"), END, USER)
    assert rollout.policy_mask[:3] == (True, False, False)


async def test_a_slow_tool_stalls_only_its_own_rollout():
    slow, fast = Echo(2, wait_s=1.0), [Echo(2) for _ in range(20)]
    seeds = []

    class Noting(Policy):
        async def __call__(self, prompt_ids, max_tokens, seed, stop):
            seeds.append(seed)
            return await super().__call__(prompt_ids, max_tokens, seed, stop)

    jobs = [Job(env=env, problem_seed=0, seed=n) for n, env in enumerate([slow, *fast])]
    rollouts = await roll_out_many(jobs, Noting("a", "b"), Letters())
    assert [r.status for r in rollouts] == ["finished"] * 21
    # every other turn was sampled before the slow rollout's second one
    assert len(seeds) == 42
    assert seeds[-1] == turn_seed(0, 1)
    assert max(r.seconds for r in rollouts[1:]) < rollouts[0].seconds
    assert rollouts[0].seconds >= 2.0


async def test_concurrency_and_order():
    running, most = 0, 0

    class Counting(Echo):
        async def step(self, text):
            nonlocal running, most
            running += 1
            most = max(most, running)
            await asyncio.sleep(0.01)
            running -= 1
            return await super().step(text)

    jobs = [Job(env=Counting(1), problem_seed=n, seed=0) for n in range(6)]
    rollouts = await roll_out_many(jobs, Policy("a"), Letters(), concurrency=2)
    assert most == 2
    assert [r.prompt_ids[2] for r in rollouts] == [ord(str(n)) for n in range(6)]


async def test_the_same_rollouts_alone_or_together():
    def jobs():
        return [Job(env=Echo(2), problem_seed=n, seed=n) for n in range(4)]

    together = await roll_out_many(jobs(), Policy("x", "y"), Letters())
    alone = [(await roll_out_many([job], Policy("x", "y"), Letters()))[0] for job in jobs()]
    assert [r.token_ids for r in together] == [r.token_ids for r in alone]


async def test_bugs_are_not_failures():
    class Broken(Echo):
        async def step(self, text):
            raise KeyError("bug")

    with pytest.raises(KeyError):
        await roll(Broken(2), Policy("a"))

    class Mute(Echo):
        async def step(self, text):
            return Step()

    with pytest.raises(ValueError, match=r"Mute\.step: not done"):
        await roll(Mute(2), Policy("a"))

    class TimesOut(Echo):
        async def step(self, text):
            raise TimeoutError("its own")

    with pytest.raises(TimeoutError, match="its own"):
        await roll(TimesOut(2), Policy("a"))


@pytest.mark.parametrize(
    "error", [RuntimeError("the engine died"), OSError(28, "disk full"), InputError("too long")]
)
async def test_an_error_of_the_engine_comes_out_as_itself(error):
    async def engine(turns):
        raise error

    jobs = [Job(env=Echo(2), problem_seed=n, seed=n) for n in range(4)]
    with pytest.raises(type(error)) as raised:  # an ExceptionGroup is caught by nobody
        await roll_out_many(jobs, Batched(engine), Letters())
    assert raised.value is error


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (([], [], "stop"), "0 tokens, allowed 1 to 512"),
        (([5] * 513, [0.0] * 513, "length"), "513 tokens"),
        (([5, 6], [0.0], "stop"), "2 tokens with 1 logprobs"),
    ],
)
async def test_a_generator_that_breaks_its_contract_is_caught(answer, message):
    async def generate(prompt_ids, max_tokens, seed, stop):
        return answer

    with pytest.raises(ValueError, match=message):
        await roll(Echo(2), generate)


async def test_an_env_serves_one_rollout():
    env = Echo(1)
    jobs = [Job(env=env, problem_seed=0, seed=n) for n in range(2)]
    with pytest.raises(ValueError, match="in two jobs"):
        await roll_out_many(jobs, Policy("a"), Letters())


def test_limits_are_checked():
    with pytest.raises(ValueError, match=r"limits\.max_turns = 0"):
        RolloutLimits(max_turns=0)
