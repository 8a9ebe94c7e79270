"""Functions given from Python cross process borders by value, or say what stands in the way."""

import functools
import pickle
import subprocess
import sys
import threading

import pytest

from rlnorm.errors import InputError
from rlnorm.from_python import name_from_python, pickled, refuse_name_from_python


def in_another_process(data, argument):
    """What the pickled function returns there."""
    code = "import pickle, sys; print(pickle.loads(sys.stdin.buffer.read())(sys.argv[1]))"
    command = [sys.executable, "-c", code, argument]
    done = subprocess.run(command, input=data, capture_output=True, timeout=60, check=True)
    return done.stdout.decode().strip()


def test_a_closure_goes_with_what_it_uses():
    factor = 3

    def helper(text):
        return factor * len(text)

    assert in_another_process(pickled(lambda text: helper(text) + 1, "f"), "ab") == "7"


def test_what_an_import_finds_goes_by_its_name():
    data = pickled(functools.reduce, "f")
    assert pickle.loads(data) is functools.reduce
    assert len(data) < 100


def holding(obstacle):
    """Functions and objects that hold it, each with the names that lead there."""

    def direct(text):
        return obstacle

    def by_way_of(text):
        return direct(text)

    def default(text, held=obstacle):
        return held

    class Judge:
        held = obstacle

        def __call__(self, text):
            return 1.0

        def method(self, text):
            return 1.0

    mine = Judge()
    mine.client = obstacle
    return {
        "obstacle": direct,
        "direct.obstacle": by_way_of,
        "held": default,
        "client": mine,
        "self.client": mine.method,
    } | ({"Judge.held": Judge()} | {"held ": Judge})


@pytest.mark.parametrize("names", holding(None))
def test_the_obstacle_is_named(names):
    function = holding(threading.Lock())[names]
    with pytest.raises(InputError) as raised:
        pickled(function, "reward 'x'")
    message = "reward 'x' cannot be sent to another process: it holds {} (a _thread.lock)"
    assert str(raised.value) == message.format(names.strip())


class Client:
    def __init__(self):
        self.lock = threading.Lock()


def test_an_obstacle_inside_an_importable_object_is_named_too():
    client = Client()
    with pytest.raises(InputError, match=r"it holds client\.lock \(a _thread\.lock\)"):
        pickled(lambda text: client, "f")


def test_an_error_of_the_objects_own_is_passed_on():
    class Refuses:
        def __reduce__(self):
            raise OSError("sick")

    with pytest.raises(InputError, match="f cannot be sent to another process: OSError: sick"):
        pickled(Refuses(), "f")


def test_its_name_in_a_file_leads_nowhere():
    assert name_from_python(holding) == "<python>:holding"
    assert name_from_python(Client()) == "<python>:Client"
    with pytest.raises(InputError, match=r"rewards.f = '<python>:f': this function was given from"):
        refuse_name_from_python("<python>:f", "rewards.f")
    refuse_name_from_python("python:f", "rewards.f")
