import pytest

from rlnorm.errors import InputError
from rlnorm.trainers.config.load import load_config
from rlnorm.trainers.rollout.environment import Environment, resolve_environment


def config(table):
    return load_config("multi_turn", [f"rollout.environment={table}", "rollout.max_tokens=9"])


def test_limits_are_taken_out_of_the_environments_options():
    got = resolve_environment(config("{name: chain, turns: [2, 3], max_turns: 4}"))
    assert got.limits.max_turns == 4
    assert got.limits.tokens_per_turn == 9
    assert type(got.make("train")) is type(got.make("test"))
    assert got.make("train") is not got.make("train")


def test_a_wrong_option_is_named():
    with pytest.raises(InputError, match=r"rollout\.environment.*trns"):
        resolve_environment(config("{name: chain, trns: [2, 3]}"))


async def test_every_factory_is_closed_even_when_one_raises():
    closed = []

    class Factory:
        def __init__(self, name):
            self.name = name

        async def close(self):
            closed.append(self.name)
            raise RuntimeError(self.name)

    factories = {"train": Factory("train"), "test": Factory("test"), "plain": object}
    with pytest.raises(RuntimeError):
        await Environment(factories=factories, limits=None).aclose()
    assert sorted(closed) == ["test", "train"]
