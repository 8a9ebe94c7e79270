"""Code rewards: the forms tests come in, comparison in the parent, forged success, statuses."""

import math

import pytest

from rlnorm.rewards import InputError, load_rewards
from rlnorm.rewards.code import CodeReward, extract_code
from rlnorm.rewards.code_tests import CallTest, StreamTest, parse_tests, plain
from rlnorm.rewards.json_values import same_json
from rlnorm.rewards.types import Sample, Status


def sample(code, gold, wrap="```python\n{}\n```"):
    return Sample(id="1", group="g", completion=wrap.format(code), gold=gold)


async def score(code, gold, **options):
    reward = CodeReward(**({"timeout_s": 2.0, "cpu_s": 1, "memory_mb": 256} | options))
    (result,) = await reward.score([sample(code, gold)])
    return result


DOUBLE = [{"stdin": str(n), "stdout": f"{2 * n}\n"} for n in (1, 2, 5, 0)]
ADD = ["assert add(1, 2) == 3", "assert add('a', 'b') == 'ab'"]


async def test_fraction_of_tests():
    result = await score("n = int(input())\nprint(n * n)", DOUBLE)  # right for 2 and 0 only
    assert result.components == {"code": 0.5}
    assert result.status is Status.WRONG
    assert result.detail["tests"] == ["wrong", "passed", "wrong", "passed"]


async def test_all_or_nothing_stops_at_the_first_failure():
    result = await score("n = int(input())\nprint(n + 1)", DOUBLE, aggregate="all")
    assert result.components == {"code": 0.0}
    assert result.detail["tests"] == ["passed", "wrong"]
    right = await score("print(2 * int(input()))", DOUBLE, aggregate="all")
    assert (right.components, right.status) == ({"code": 1.0}, Status.CORRECT)


async def test_functions_are_called_and_compared_here():
    result = await score("print('noise')\ndef add(a, b):\n    print(a)\n    return a + b", ADD)
    assert (result.components["code"], result.status) == (1.0, Status.CORRECT)


@pytest.mark.parametrize(
    "code",
    [
        "import os\nprint('all tests passed', flush=True)\nos._exit(0)",
        "import sys\nsys.exit(0)",
        "class Yes:\n    def __eq__(self, other): return True\ndef add(a, b): return Yes()",
        "def add(*a): return True",
        "import json\njson.dump = lambda *a: None\ndef add(a, b): return a + b",
        "import unittest, builtins\nbuiltins.AssertionError = Exception\ndef add(a, b): pass",
        "def add(a, b):\n    import os\n    os.write(3, b'3'); os._exit(0)\n",
        "def add(a, b): return {'set': [3]}",
    ],
)
async def test_forged_success_earns_nothing(code):
    result = await score(code, ["assert add(1, 2) == 3.5"])
    assert (result.components["code"], result.status) == (0.0, Status.WRONG)


async def test_a_fresh_process_for_each_test():
    code = "import os\nseen = os.path.exists('flag')\nopen('flag', 'w').close()\nprint(seen)"
    result = await score(code, [{"input": "", "output": "False"}] * 3)
    assert result.components["code"] == 1.0


async def test_the_program_cannot_find_the_expected_output():
    code = """
import os
found = any("needle" in open(os.path.join(d, f), errors="ignore").read()
            for top in ("/tmp", "/proc/self") for d, _, names in os.walk(top) for f in names
            if f in ("environ", "cmdline", "main.py", "solution.py", "tests.json"))
print("needle" + "-42" if found else "nothing")
"""
    result = await score(
        code.replace('"needle"', '"need" "le-4"'), [{"input": "", "output": "needle-42"}]
    )
    assert result.detail["tests"] == ["wrong"]


@pytest.mark.parametrize(
    ("code", "ended"),
    [
        ("while True: pass", "timeout"),
        ("import time; time.sleep(60)", "timeout"),
        ("1 / 0", "failed"),
        ("x = [0] * 10**9", "failed"),
        ("def broken(:", "failed"),
        ("while True: print('x' * 9999)", "output"),
    ],
)
async def test_a_program_that_breaks_its_limits_is_wrong_not_unknown(code, ended):
    result = await score(code, [{"input": "", "output": "1"}], timeout_s=1.5)
    assert (result.components["code"], result.status) == (0.0, Status.WRONG)
    assert result.detail["tests"] == [ended]


@pytest.mark.parametrize(
    "gold",
    [None, [], "x", {"inputs": ["1"]}, [{"stdin": "1"}], ["assert f(x) == 1"], ["import os"],
     ["assert f(1) == 2, g()", "f(1)"], [{"function": "f", "args": [{1, 2}], "expected": 1}]],
)  # fmt: skip
async def test_unreadable_tests_are_a_gold_error_and_nan(gold):
    result = await score("print(1)", gold)
    assert result.status is Status.GOLD_ERROR
    assert math.isnan(result.components["code"])


async def test_no_code_is_no_answer():
    result = await CodeReward().score([sample("print(1)", DOUBLE, wrap="{}")])
    assert (result[0].components["code"], result[0].status) == (0.0, Status.NO_ANSWER)


async def test_a_server_that_is_down_is_infra_error(scripted_server, reply):
    server = scripted_server(lambda *_: reply({"status": "SandboxError"}))
    result = await score("print(1)", DOUBLE, level=2, url=server.url)
    assert result.status is Status.INFRA_ERROR
    assert math.isnan(result.components["code"])


async def test_level_two_sends_the_program_and_compares_here(scripted_server, reply):
    def script(path, payload, number):
        out = {"status": "Finished", "return_code": 0, "stdout": str(2 * int(payload["stdin"]))}
        return reply({"status": "Success", "run_result": out})

    server = scripted_server(script)
    result = await score("print(2 * int(input()))", DOUBLE, level=2, url=server.url)
    assert result.components["code"] == 1.0
    assert len(server.requests) == 4


async def test_order_is_kept_and_samples_are_independent():
    reward = CodeReward(timeout_s=1.0)
    codes = ["print(2 * int(input()))", "import time; time.sleep(9)", "print(0)"]
    scores = await reward.score([sample(code, DOUBLE[:1]) for code in codes])
    assert [s.components["code"] for s in scores] == [1.0, 0.0, 0.0]


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("a\n```python\nx\n```\nb\n```py\ny\n```\nc", "y\n"),
        ("```\nx\n```", "x\n"),
        ("```python\nx\n```\n```text\nout\n```", "x\n"),
        ("<think>```python\nbad\n```</think>\n```python\ngood\n```", "good\n"),
        ("<think>\n```python\nx\n```", None),
        ("```python\nx", None),
        ("no code", None),
        ("```python\nx = 1\n```\nprints\n```\n1\n```", "x = 1\n"),
        ("```python title=a.py\r\nx = 1\r\n```", "x = 1\n"),
        ("1. Run\n   ```py\n   if x:\n       y\n   ```", "if x:\n    y\n"),
        ('```python\ns = "\u2028\f"\n```', 's = "\u2028\f"\n'),
    ],
)
def test_extract_code(text, code):
    assert extract_code(text) == code


def test_forms_of_tests():
    assert parse_tests({"inputs": ["1\n"], "outputs": ["2\n"]}) == [StreamTest("1\n", "2\n")]
    assert parse_tests('[{"input": "1", "output": "2"}]') == [StreamTest("1", "2")]
    assert parse_tests({"fn_name": "f", "inputs": [[1, [2]]], "outputs": [3]}) == [
        CallTest("f", (1, [2]), 3)
    ]
    assert parse_tests(["assert f(-1, (2,)) == {'a': [1]}"]) == [
        CallTest("f", (-1, (2,)), {"a": [1]})
    ]


def test_numbers_are_exact_unless_a_tolerance_is_given():
    assert same_json(1, 1.0)
    assert not same_json(True, 1)
    assert not same_json(0.1 + 0.2, 0.3)
    assert same_json(0.1 + 0.2, 0.3, 1e-9)
    assert not same_json(plain([1, 2]), plain({1, 2}))
    assert same_json(plain((1, 2)), plain([1, 2]))
    assert same_json(plain({2: {3, 1}}), {"dict": [[2, {"set": [1, 3]}]]})
    assert not same_json(float("nan"), float("nan"))


async def test_a_number_beyond_every_float_is_only_wrong():
    gold = [{"function": "f", "args": [], "expected": 1.5}]
    result = await score("def f(): return 10 ** 400", gold, tolerance=1e-6)
    assert (result.components["code"], result.status) == (0.0, Status.WRONG)
    assert same_json(10**400, 10**400, 1e-6)


async def test_tolerance_of_printed_numbers():
    gold = [{"input": "", "output": "a 0.3333333"}]
    assert (await score("print('a', 1/3)", gold)).components["code"] == 0.0
    assert (await score("print('a', 1/3)", gold, tolerance=1e-6)).components["code"] == 1.0
    assert (await score("print('b', 1/3)", gold, tolerance=1e-6)).components["code"] == 0.0


@pytest.mark.parametrize(
    ("options", "message"),
    [({"aggregate": "mean"}, "aggregate"), ({"level": 3}, "level"), ({"level": 2}, "url"),
     ({"url": "http://x"}, "url")],
)  # fmt: skip
def test_options_are_checked(options, message):
    with pytest.raises(InputError, match=rf"^rewards\.c(\.options|: code)\.{message} = "):
        load_rewards([{"name": "c", "function": "code", "options": options}])
