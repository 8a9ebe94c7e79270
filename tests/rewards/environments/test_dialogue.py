"""The dialogue environment with a scripted user and a scripted judge behind real servers."""

import math

import pytest

from rlnorm.rewards.environments import (
    Job,
    RolloutLimits,
    RolloutStatus,
    load_environment,
    roll_out_many,
)
from rlnorm.rewards.environments.dialogue import DialogueTask
from rlnorm.rewards.judges import client as client_module

SCENARIOS = [
    {
        "persona": "Ada, worried.",
        "goal": "feel heard",
        "opening": "I failed.",
        "system": "Be kind.",
    },
    {"persona": "Bo.", "goal": "book a table"},
]


@pytest.fixture(autouse=True)
def short_backoff(monkeypatch):
    monkeypatch.setattr(client_module, "_BACKOFF_S", 0.01)


def chat(text):
    return {"choices": [{"message": {"content": text}, "finish_reason": "stop"}]}


class World:
    """A user that says u1, u2, ... and a judge that gives 10 x turns of the assistant / 4."""

    def __init__(self, scripted_server, reply, user=None, judge=None):
        def say(path, payload, number):
            turns = sum(m["role"] == "user" for m in payload["messages"])
            return reply(chat(f"u{turns}"))

        def grade(path, payload, number):
            turns = payload["messages"][1]["content"].count("ASSISTANT: ")
            return reply(chat('{"score": ' + str(2.5 * turns) + "}"))

        self.user, self.judge = scripted_server(user or say), scripted_server(judge or grade)

    def task(self, **options):
        server = {"model": "m", "deadline_s": 1.0, "retries": 1}
        return DialogueTask(
            **({"scenarios": SCENARIOS, "turns": 3} | options),
            user=server | {"base_url": self.user.url},
            judge=server | {"base_url": self.judge.url},
        )


async def test_a_conversation_turn_by_turn(scripted_server, reply):
    world = World(scripted_server, reply)
    task = world.task()
    env = task()
    assert await env.reset(0) == [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": "I failed."},
    ]
    first = await env.step("<think>secret</think>I am sorry.")
    assert (first.reward, first.done) == (0.25, False)
    assert first.messages == [{"role": "user", "content": "u1"}]
    second = await env.step("Tell me more.")
    assert second.reward == 0.25  # 0.5 after 0.25
    last = await env.step("That is hard.")
    assert (last.reward, last.done, last.info["final"]) == (0.25, True, 0.75)
    await task.close()
    assert len(world.user.requests) == 2  # the last turn needs no reply
    everything = str(world.user.requests + world.judge.requests)
    assert "secret" not in everything
    system, *talk = world.user.requests[-1][1]["messages"]
    assert "Ada, worried." in system["content"]
    assert [m["role"] for m in talk] == ["assistant", "user", "assistant", "user"]
    assert [m["content"] for m in talk] == ["I failed.", "I am sorry.", "u1", "Tell me more."]
    assert "feel heard" in world.judge.requests[0][1]["messages"][1]["content"]


async def test_scores_instead_of_increments(scripted_server, reply):
    task = World(scripted_server, reply).task(reward="score", turns=2)
    env = task()
    await env.reset(0)
    assert [(await env.step(text)).reward for text in ("a", "b")] == [0.25, 0.5]
    await task.close()


async def test_the_user_opens_and_ends(scripted_server, reply):
    def say(path, payload, number):
        return reply(chat("Hello, a table?" if number == 0 else "[END]"))

    task = World(scripted_server, reply, user=say).task()
    env = task()
    assert await env.reset(1) == [{"role": "user", "content": "Hello, a table?"}]
    step = await env.step("Done.")
    assert (step.done, step.reward, list(step.messages)) == (True, 0.25, [])
    await task.close()


@pytest.mark.parametrize("broken", ["user", "judge"])
@pytest.mark.parametrize("bad", [{"status": 500}, {"wait_s": 30}, {"cut": 5}])
async def test_a_failing_server_masks_the_rollout(scripted_server, reply, broken, bad):
    async def generate(prompt_ids, max_tokens, seed, stop):
        return [9, 1], [-0.1, -0.1], "stop"

    class Plain:
        def open(self, messages):
            return [len(messages)]

        def extend(self, messages, last_id):
            return [2]

        def open_tag(self, prompt_ids, messages):
            return ""

        def decode(self, token_ids):
            return "fine"

    world = World(scripted_server, reply, **{broken: lambda *_: reply({}, **bad)})
    task = world.task()
    jobs = [Job(env=task(), problem_seed=0, seed=n) for n in range(2)]
    limits = RolloutLimits(wall_s=20)
    rollouts = await roll_out_many(jobs, generate, Plain(), limits)
    await task.close()
    assert {r.status for r in rollouts} == {RolloutStatus.ENV_ERROR}
    assert f"dialogue {broken}" in rollouts[0].error
    assert math.isnan(rollouts[0].final)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scenarios": []}, "scenarios"),
        ({"scenarios": [{"persona": "x"}]}, "scenarios"),
        ({"turns": 0}, "turns"),
        ({"reward": "delta"}, "reward"),
    ],
)
def test_options_are_checked(options, message):
    server = {"base_url": "http://127.0.0.1:9", "model": "m"}
    whole = {"scenarios": SCENARIOS, "user": server, "judge": server} | options
    with pytest.raises(ValueError, match=f"(dialogue|environment).{message}"):
        load_environment("dialogue", whole)
