"""Tests of a coding task: their forms in data rows, and the comparison of outputs.

The program sees only a test's input; the expected output never leaves this process.
"""

import ast
import inspect
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rlnorm.rewards.json_values import same_json


@dataclass(frozen=True, slots=True)
class StreamTest:
    """Feed stdin, compare stdout by line, ignoring spaces at line ends and empty last lines."""

    stdin: str
    stdout: str


@dataclass(frozen=True, slots=True)
class CallTest:
    """Call one function of the program with literal arguments, compare what it returns."""

    function: str
    arguments: tuple[Any, ...]
    expected: Any


def plain(value: object) -> object:  # builtins only: it also runs as source in the sandbox
    """A JSON form that keeps lists, sets and dicts apart; an unknown type equals nothing."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, (set, frozenset)):
        return {"set": sorted((plain(item) for item in value), key=repr)}
    if isinstance(value, dict):
        return {"dict": sorted(([plain(k), plain(v)] for k, v in value.items()), key=repr)}
    return {"unknown": type(value).__name__}


HARNESS = f"""
import json, os, sys
sys.setrecursionlimit(10000)
order = json.load(sys.stdin)
answer = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)
{inspect.getsource(plain)}
import solution
json.dump(plain(getattr(solution, order["function"])(*order["arguments"])), answer)
answer.close()
"""


def parse_tests(gold: Any) -> list[StreamTest | CallTest]:
    """Tests in any of the forms below; ValueError says what is wrong with a row.

    [{"stdin": s, "stdout": s}], [{"input": s, "output": s}],
    [{"function": name, "args": [...], "expected": v}], ["assert f(1) == 2"],
    {"inputs": [...], "outputs": [...]} (with "fn_name": lists of arguments), or any as JSON text.
    """
    if isinstance(gold, str) and gold.lstrip()[:1] in ("[", "{"):
        gold = json.loads(gold)
    if isinstance(gold, Mapping) and "tests" in gold:
        gold = gold["tests"]
    if isinstance(gold, Mapping):
        gold = _paired(gold)
    if isinstance(gold, str) or not isinstance(gold, Sequence) or not gold:
        raise ValueError(f"tests = {str(gold)[:200]!r}: needs a non-empty list")
    return [_parse_one(test) for test in gold]


def _paired(gold: Mapping[str, Any]) -> list[dict[str, Any]]:
    inputs, outputs = gold.get("inputs"), gold.get("outputs")
    if not isinstance(inputs, list) or not isinstance(outputs, list) or len(inputs) != len(outputs):
        raise ValueError(f"tests has {sorted(gold)}: needs inputs and outputs of one length")
    if function := gold.get("fn_name"):
        return [
            {"function": function, "args": args, "expected": out}
            for args, out in zip(inputs, outputs, strict=True)
        ]
    return [{"stdin": i, "stdout": o} for i, o in zip(inputs, outputs, strict=True)]


def _parse_one(test: Any) -> StreamTest | CallTest:
    if isinstance(test, str):
        return _parse_assert(test)
    if isinstance(test, Mapping):
        # Parquet gives every test the keys of all tests, with null for those it lacks
        for stdin, stdout in (("stdin", "stdout"), ("input", "output")):
            if stdin in test and test.get(stdout) is not None:
                given = "" if test[stdin] is None else test[stdin]
                return StreamTest(_lines(given), _lines(test[stdout]))
        if {"function", "args", "expected"} <= set(test) and test["function"] is not None:
            return CallTest(str(test["function"]), tuple(test["args"]), test["expected"])
    raise ValueError(
        f"test {str(test)[:200]!r}: needs stdin and stdout, or function, args and expected"
    )


def _lines(value: Any) -> str:
    return "\n".join(str(line) for line in value) if isinstance(value, list) else str(value)


def _parse_assert(source: str) -> CallTest:
    """Split `assert f(literals) == literal`, so that the program never sees the right side."""
    needs = f"test {source[:200]!r}: needs assert f(literals) == literal"
    try:
        match ast.parse(source.strip()).body:
            case [
                ast.Assert(
                    test=ast.Compare(
                        left=ast.Call(func=ast.Name(id=name), args=arguments, keywords=[]),
                        ops=[ast.Eq()],
                        comparators=[expected],
                    )
                )
            ]:
                values = tuple(ast.literal_eval(argument) for argument in arguments)
                return CallTest(name, values, ast.literal_eval(expected))
    except (SyntaxError, ValueError) as error:
        raise ValueError(needs) from error
    raise ValueError(needs)


def order(test: CallTest) -> str:
    """What the harness reads on stdin. ValueError for arguments that JSON cannot carry."""
    try:
        return json.dumps({"function": test.function, "arguments": test.arguments})
    except TypeError as error:
        raise ValueError(f"arguments of {test.function}: {error}") from error


def passes(test: StreamTest | CallTest, stdout: bytes, tolerance: float) -> bool:
    """True if the output is the expected one; False for one that cannot be read."""
    text = stdout.decode(errors="replace")
    if isinstance(test, StreamTest):
        return _same_lines(text, test.stdout, tolerance)
    try:
        return same_json(json.loads(text), plain(test.expected), tolerance)
    except (ValueError, RecursionError):
        return False


def _same_lines(got: str, expected: str, tolerance: float) -> bool:
    pairs = [[line.rstrip() for line in text.rstrip().split("\n")] for text in (got, expected)]
    if len(pairs[0]) != len(pairs[1]):
        return False
    return all(
        a == b or (tolerance > 0 and _same_numbers(a.split(), b.split(), tolerance))
        for a, b in zip(*pairs, strict=True)
    )


def _same_numbers(got: list[str], expected: list[str], tolerance: float) -> bool:
    if len(got) != len(expected):
        return False
    for a, b in zip(got, expected, strict=True):
        try:
            if a != b and not math.isclose(
                float(a), float(b), rel_tol=tolerance, abs_tol=tolerance
            ):
                return False
        except ValueError:
            return False
    return True
