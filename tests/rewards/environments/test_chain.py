"""The shipped multi-turn task: problems, golds and rewards that can be redone by hand."""

import math

import pytest

from rlnorm.errors import InputError
from rlnorm.rewards.environments import Job, RolloutStatus, load_environment, roll_out_many
from rlnorm.rewards.environments.chain import (
    ChainEnv,
    ChainProblem,
    demonstrations,
    draw_problem,
    read_value,
)


def worked_out(problem):
    value, values = problem.start, []
    for operation in problem.operations:
        value = eval(f"{value}{operation}")
        values.append(value)
    return tuple(values)


def test_golds_are_right_and_in_range():
    for seed in range(500):
        problem = draw_problem(seed, (2, 4, 6))
        assert problem.values == worked_out(problem)
        assert len(problem.operations) in (2, 4, 6)
        assert all(1 <= value <= 99 for value in (problem.start, *problem.values))


def test_problems_repeat_and_splits_share_none():
    train = [draw_problem(seed) for seed in range(2000)]
    test = [draw_problem(seed, split="test") for seed in range(500)]
    assert train == [draw_problem(seed) for seed in range(2000)]
    assert not {p.question for p in train} & {p.question for p in test}
    assert all(p.is_held_out for p in test)
    assert len({p.question for p in train}) > 1900


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (r"47-2=45\n\boxed{45}", 45),
        (r"\boxed{1} no \boxed{45}", 45),
        ("45", 45),
        (" 47-2=45 ", 45),
        ("46-2=44\n47-2=45", 45),
        (r"\boxed{47-2=45}", 45),
        (r"\boxed{4}5", 4),
        ("Answer 45", None),
        ("45 or 46", None),
        ("-45", None),
        (r"\boxed{45", None),
        (r"45 \boxed{}", None),
        ("", None),
        ("9" * 50, None),
    ],
)
def test_read_value(text, value):
    assert read_value(text) == value


def fixed(env, *operations, start=47):
    problem = ChainProblem(start, operations, ())
    env.problem = ChainProblem(start, operations, worked_out(problem))
    return env


async def test_a_rollout_by_hand():
    env = ChainEnv(turns=(2,), operations=2)
    await env.reset(0)
    fixed(env, "-2", "+1", "*2", "-8")
    assert env._ask() == {"role": "user", "content": "47-2 +1 ?"}
    first = await env.step("47-2=45\n45+1=46\n\\boxed{46}")
    assert (first.reward, first.done) == (1.0, False)
    assert first.messages == [{"role": "user", "content": "*2 -8 ?"}]
    last = await env.step("46*2=92\n92-8=83\n\\boxed{83}")
    assert (last.reward, last.done) == (0.0, True)
    assert last.info == {"expected": 84, "value": 83, "final": 0.0}


async def test_without_carry_the_user_repeats_the_right_value():
    env = ChainEnv(turns=(3,), operations=1, carry=False)
    await env.reset(0)
    fixed(env, "-2", "+1", "*2")
    wrong = await env.step("\\boxed{9}")
    assert (wrong.reward, wrong.messages[0]["content"]) == (0.0, "45+1 ?")
    right = await env.step("\\boxed{46}")
    assert (right.reward, right.messages[0]["content"]) == (1.0, "46*2 ?")
    assert (await env.step("\\boxed{92}")).info["final"] == 0.0


async def test_all_right_is_final_one():
    env = ChainEnv()
    await env.reset(3)
    step, turn = None, 0
    while step is None or not step.done:
        turn += 1
        step = await env.step(f"\\boxed{{{env.problem.values[2 * turn - 1]}}}")
        assert step.reward == 1.0
    assert step.info["final"] == 1.0
    assert turn == len(env.problem.operations) / 2


async def test_demonstrations_earn_every_reward():
    for seed, talk in enumerate(demonstrations(50, seed=3, worked=0.5)):
        env = ChainEnv()
        await env.reset(seed)
        operations = " ".join(m["content"].removesuffix(" ?") for m in talk[::2])
        start = operations[: min(operations.index(sign) for sign in "+-*" if sign in operations)]
        fixed(env, *operations.removeprefix(start).split(" "), start=int(start))
        assert not env.problem.is_held_out
        for said, answered in zip(talk[::2], talk[1::2], strict=True):
            assert env._ask() == said
            assert (await env.step(answered["content"])).reward == 1.0


def test_the_share_of_worked_turns():
    turns = [m["content"] for talk in demonstrations(400, worked=0.25) for m in talk[1::2]]
    share = sum("=" in turn for turn in turns) / len(turns)
    assert abs(share - 0.25) < 3 * math.sqrt(0.25 * 0.75 / len(turns))


async def test_through_the_runner_and_the_registry():
    make = load_environment("chain", {"turns": [2], "operations": 1})

    class Plain:
        def open(self, messages):
            return [2, *messages[-1]["content"].encode(), 3]

        def extend(self, messages, last_id):
            return self.open(messages)

        def open_tag(self, prompt_ids, messages):
            return ""

        def decode(self, token_ids):
            return bytes(token_ids[:-1]).decode()

    async def generate(prompt_ids, max_tokens, seed, stop):
        asked = bytes(t for t in prompt_ids if t not in (1, 2)).decode().split("\x03")
        start, steps = asked[0].removesuffix(" ?"), [a for a in asked[1:] if a.endswith("?")]
        value = eval(start)
        for step in steps:
            value = eval(f"{value}{step[step.index(chr(125)) + 1 :].removesuffix(' ?')}")
        ids = [*f"\\boxed{{{value}}}".encode(), 1]
        return ids, [-0.5] * len(ids), "stop"

    jobs = [Job(env=make(), problem_seed=n, seed=n) for n in range(20)]
    rollouts = await roll_out_many(jobs, generate, Plain())
    assert all(
        r.status is RolloutStatus.FINISHED and r.turn_rewards == (1.0, 1.0) for r in rollouts
    )
    assert {r.final for r in rollouts} == {1.0}


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("chains", {}, "did you mean 'chain'"),
        ("chain", {"turn": 3}, "did you mean 'turns'"),
        ("dialogue", {}, "environment.scenarios: dialogue needs a value"),
        ("no.such:Env", {}, "no module named"),
    ],
)
def test_environments_are_checked_by_name_and_option(name, options, message):
    with pytest.raises(InputError, match=message):
        load_environment(name, options)


@pytest.mark.parametrize("options", [{"turns": ()}, {"operations": 0}, {"split": "dev"}])
def test_option_values_are_checked(options):
    with pytest.raises(ValueError, match="chain"):
        load_environment("chain", options)


def test_a_class_that_neither_steps_nor_makes_environments_is_refused(tmp_path):
    (tmp_path / "envs.py").write_text("class Idle: pass\n")
    with pytest.raises(InputError, match=r"name = '.*envs.py:Idle': neither has a `step` nor"):
        load_environment(f"{tmp_path}/envs.py:Idle")
