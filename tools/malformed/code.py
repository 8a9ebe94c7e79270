"""Rewards, estimators and environments of a user that cannot be called."""

from malformed.case import Malformed

FILES = {
    "syntax": "def f(sample)\n    return 1\n",
    "indentation": "def f(sample):\nreturn 1\n",
    "missing-module": "import not_installed_anywhere\ndef f(sample):\n    return 1\n",
    "missing-name": "from math import squareroot\ndef f(sample):\n    return 1\n",
    "raises": "raise RuntimeError('no licence')\n",
    "divides": "x = 1 / 0\n",
    "exits": "import sys\nsys.exit(0)\n",
    "exits-hard": "import os\nos._exit(0)\n",
    "no-such-name": "def g(sample):\n    return 1\n",
    "a-number": "f = 7\n",
    "a-module": "import math as f\n",
    "none": "f = None\n",
    "no-parameter": "def f():\n    return 1\n",
    "only-keywords": "def f(**sample):\n    return 1\n",
    "only-star": "def f(*samples):\n    return 1\n",
    "completions": "def f(completions, **kwargs):\n    return [1.0] * len(completions)\n",
    "prompts": "def f(prompts, completions, answer):\n    return [1.0]\n",
    "unknown-name": "def f(text):\n    return 1\n",
    "misspelt-field": "def f(completion, golds):\n    return 1\n",
    "misspelt-sample": "def f(smaple):\n    return 1\n",
    "lambda": "f = lambda x: 1.0\n",
    "keyword-needed": "def f(sample, *, tokenizer):\n    return 1\n",
    "class-without-score": "class f:\n    pass\n",
    "class-raises": "class f:\n    def __init__(self):\n        raise ValueError('no key')\n"
    "    def score(self, sample):\n        return 1\n",
    "class-needs": "class f:\n    def __init__(self, key):\n        self.key = key\n"
    "    def score(self, sample):\n        return 1\n",
    "bytes": "x = '\udcff'\n",
    "null-byte": "x = '\x00'\n",
}
OPTIONS = {
    "unknown-function": ("rewards=[{name: a, function: boxed_exat}]", "boxed_exact"),
    "unknown-module": ("rewards=[{name: a, function: 'nowhere.mod:f'}]", "nowhere"),
    "missing-file": ("rewards=[{name: a, function: 'nowhere.py:f'}]", "nowhere.py"),
    "no-name": ("rewards=[{name: a, function: 'rewards.py'}]", r"rewards\.a|rewards\.0"),
    "colon-only": ("rewards=[{name: a, function: ':'}]", r"rewards\.a|rewards\.0"),
    "no-function": ("rewards=[{name: a}]", r"rewards\.0\.function"),
    "function-number": ("rewards=[{name: a, function: 7}]", "function"),
    "nameless": ("rewards=[{function: boxed_exact}]", r"rewards\.0\.name"),
    "same-name": (
        "rewards=[{name: a, function: boxed_exact}, {name: a, function: boxed_format}]",
        r"\ba\b",
    ),
    "weight-text": ("rewards=[{name: a, function: boxed_exact, weight: much}]", "weight"),
    "weight-nan": ("rewards=[{name: a, function: boxed_exact, weight: .nan}]", "weight"),
    "weight-of-unknown": ("rewards=[{name: a, function: boxed_exact, weight: {b: 1}}]", "weight"),
    "gate-unknown": ("rewards=[{name: a, function: boxed_exact, gate: b}]", "gate"),
    "gate-itself": ("rewards=[{name: a, function: boxed_exact, gate: a}]", "gate"),
    "option-unknown": (
        "rewards=[{name: a, function: boxed_exact, options: {strict: 1}}]",
        "strict",
    ),
    "deadline-zero": ("rewards=[{name: a, function: boxed_exact, deadline_s: 0}]", "deadline_s"),
    "deadline-text": ("rewards=[{name: a, function: boxed_exact, deadline_s: soon}]", "deadline_s"),
    "memory-zero": ("rewards=[{name: a, function: boxed_exact, memory_mb: 0}]", "memory_mb"),
    "memory-text": ("rewards=[{name: a, function: boxed_exact, memory_mb: all}]", "memory_mb"),
    "rows-unknown": ("rewards=[{name: a, function: boxed_exact, rows: {colour: red}}]", "colour"),
    "rows-none": ("rewards=[{name: a, function: boxed_exact, rows: {source: red}}]", "red"),
    "rows-text": ("rewards=[{name: a, function: boxed_exact, rows: math}]", "rows"),
    "name-slash": ("rewards=[{name: a/b, function: boxed_exact}]", r"rewards\.0\.name"),
    "name-mean": ("rewards=[{name: mean, function: boxed_exact}]", r"rewards\.0\.name"),
    "unknown-key": ("rewards=[{name: a, function: boxed_exact, wieght: 1}]", "wieght"),
}


def _file(name: str, text: str) -> Malformed:
    return Malformed(
        name=f"reward/{name}",
        arguments=["rewards=[{name: mine, function: 'my_rewards.py:f'}]"],
        files={"my_rewards.py": text.encode(errors="surrogateescape")},
        names=[r"mine|my_rewards\.py"],
    )


def _estimator(name: str, text: str) -> Malformed:
    return Malformed(
        name=f"estimator/{name}",
        arguments=["algorithm={name: grpo, estimator: 'mine.py:f'}"],
        files={"mine.py": text.encode(errors="surrogateescape")},
        names=[r"mine\.py|estimator"],
    )


SHARED = ("syntax", "missing-module", "raises", "exits", "exits-hard", "no-such-name", "a-number")
CASES = [
    *(_file(name, text) for name, text in FILES.items()),
    *(_estimator(name, FILES[name]) for name in SHARED),
    *(
        Malformed(name=f"rewards/{name}", arguments=[override], names=[names])
        for name, (override, names) in OPTIONS.items()
    ),
]
