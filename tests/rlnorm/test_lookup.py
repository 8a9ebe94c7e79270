"""Objects by module:name and FILE.py:NAME, and what is said where there is none."""

import os
import pickle
import subprocess
import sys

import pytest

from rlnorm.errors import InputError, code_of_user, one_line, with_place
from rlnorm.lookup import absolute_reference, choices, load_object, suggest
from rlnorm.rewards.environments import load_environment

MINE = """
class Reward:
    def __call__(self, sample):
        return 1.0

    @staticmethod
    def twice(x):
        return 2 * x

def length(sample):
    return float(len(sample.completion))

COUNT = []
COUNT.append("loaded")
SCALE = 3
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / "mine_of_test.py").write_text(MINE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def test_suggest_and_choices():
    assert suggest("gropo", ["grpo", "rloo"]) == ", did you mean 'grpo'?"
    assert suggest("xyz", ["grpo", "rloo"]) == ""
    assert suggest(3, ["grpo"]) == ""
    assert (
        choices("gropo", {"rloo": 1, "grpo": 2}) == "allowed ['grpo', 'rloo'], did you mean 'grpo'?"
    )


def test_one_file_by_any_spelling_is_one_module(folder):
    spellings = ["mine_of_test.py", "./mine_of_test.py", str(folder / "mine_of_test.py")]
    found = [load_object(f"{s}:Reward", "w") for s in spellings]
    assert found[0] is found[1] is found[2]
    assert load_object("mine_of_test.py:COUNT", "w") == ["loaded"]
    assert load_object("mine_of_test.py:Reward.twice", "w")(4) == 8
    assert load_object("mine_of_test:SCALE", "w") == 3
    assert absolute_reference("./mine_of_test.py:length") == f"{folder}/mine_of_test.py:length"
    assert absolute_reference("mine_of_test:length") == "mine_of_test:length"


def test_an_odd_path_is_found_again_from_the_modules_name(tmp_path):
    odd = tmp_path / "a_b.c é_2e_"
    odd.mkdir()
    (odd / "my-rewards.v2.py").write_text("class A: pass")
    kind = load_object(f"{odd}/my-rewards.v2.py:A", "w")
    name = kind.__module__
    assert name.isidentifier()
    del sys.modules[name]
    assert pickle.loads(f"c{name}\nA\n.".encode()).__module__ == name


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("mine_of_test", "needs module:name or FILE.py:NAME"),
        ("mine_of_test:", "needs module:name or FILE.py:NAME"),
        (":f", "needs module:name or FILE.py:NAME"),
        ("no_such_module:f", "no module named 'no_such_module' in this folder or installed"),
        ("mine_of_test.sub:f", "no module named 'mine_of_test.sub'"),
        ("nowhere.py:f", "no such file /.*nowhere.py"),
        ("mine_of_test:lenght", "no 'lenght' in it, only .*, did you mean 'length'"),
        ("mine_of_test:Reward.thrice", "no 'thrice' in it, only .*'twice'"),
        ("mine_of_test:SCALE.x", "no 'x' in it"),
    ],
)
def test_what_is_not_there_is_named_with_what_is(folder, reference, message):
    with pytest.raises(InputError, match=f"^k = {reference!r}: .*{message}"):
        load_object(reference, "k")


BROKEN = {
    "raises": ("\nraise RuntimeError('at\\nimport')", "RuntimeError: at import", 2),
    "misses": ("import json\nimport not_installed_here", "ModuleNotFoundError: No module named "
               "'not_installed_here'", 2),
    "ends": ("import sys\nsys.exit('bye')", "SystemExit: bye", 2),
    "syntax": ("x = 1\ndef f(", "SyntaxError: '(' was never closed", 2),
    "long": ("raise ValueError('x' * 3000)", "ValueError: " + "x" * 3000, 1),
    "refuses": ("import rlnorm.errors as e\nraise e.InputError('no')", "InputError: no", 2),
}  # fmt: skip


@pytest.mark.parametrize("as_file", [True, False])
@pytest.mark.parametrize("name", BROKEN)
def test_code_that_fails_is_reported_with_its_own_error_and_line(folder, name, as_file):
    code, error, line = BROKEN[name]
    module = f"broken_{name}_{as_file}"
    (folder / f"{module}.py").write_text(code)
    reference = f"./{module}.py:f" if as_file else f"{module}:f"
    with pytest.raises(InputError) as told:
        load_object(reference, "k")
    expected = f"k = {reference!r}: importing it: {error} ({folder}/{module}.py, line {line})"
    assert str(told.value) == expected


def test_a_failed_file_can_be_repaired_and_loaded_again(folder):
    file = folder / "twice.py"
    file.write_text("raise RuntimeError")
    with pytest.raises(InputError, match=r"RuntimeError \(.*twice.py, line 1\)"):
        load_object("twice.py:f", "k")
    file.write_text("def f(): return 5")
    assert load_object("twice.py:f", "k")() == 5


def test_the_line_of_the_users_file_stands_beside_that_of_the_library(folder):
    (folder / "helper_of_test.py").write_text("def check(x):\n    raise TypeError('bad')\n")
    (folder / "calls_it.py").write_text("import helper_of_test\n\nhelper_of_test.check(1)\n")
    with pytest.raises(InputError) as told:
        load_object("calls_it.py:f", "k")
    helper, mine = folder / "helper_of_test.py", folder / "calls_it.py"
    assert str(told.value).endswith(
        f"importing it: TypeError: bad ({helper}, line 2, called from {mine}, line 3)"
    )


def test_our_own_checks_need_no_place():
    with pytest.raises(InputError, match=r"^environment: chain\.turns = \(\), .*above 0$"):
        load_environment("chain", {"turns": ()})
    with pytest.raises(InputError, match=r"^a: ValueError: no \(.*test_lookup.py, line \d+\)$"):  # noqa: SIM117
        with code_of_user("a"):
            raise ValueError("no")
    assert one_line(KeyError("a\nb")) == "KeyError: 'a\\nb'"
    assert with_place(ValueError()) == "ValueError"


def test_files_of_the_names_of_our_folders_are_the_users_own(folder):
    for name in ("rewards", "trainers", "launch", "configs"):
        (folder / f"{name}.py").write_text(f"def f():\n    return 'own {name}'\n")
    code = (
        "from rlnorm.lookup import load_object\nimport rlnorm.rewards.registry\n"
        "for n in ('rewards', 'trainers', 'launch', 'configs'): print(load_object(n + ':f', n)())"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True)
    assert done.stdout.split("\n")[:4] == [
        "own rewards", "own trainers", "own launch", "own configs",
    ], done.stderr  # fmt: skip


def test_what_a_file_defines_is_unpickled_in_a_process_in_another_folder(folder, tmp_path_factory):
    from rlnorm.stages import resolve_stage

    file = folder / "estimator.py"
    file.write_text("def doubled(rewards, *, factor=2.0):\n    return rewards * factor\n")
    stage = resolve_stage("estimator", "./estimator.py:doubled", {}, {"rewards"})
    (folder / "stage.pkl").write_bytes(pickle.dumps(stage))
    code = (
        "import pickle, sys\nimport rlnorm.trainers.cluster.ray\n"
        "stage = pickle.load(open(sys.argv[1], 'rb'))\nprint(stage({'rewards': 4}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder / "stage.pkl")],
        cwd=tmp_path_factory.mktemp("elsewhere"),
        env={k: v for k, v in os.environ.items() if k != "PYTHONPATH"},
        capture_output=True,
        text=True,
    )
    assert done.stdout == "8.0\n", done.stderr


def test_a_file_that_ends_the_process_is_an_error_in_one_line(tmp_path):
    (tmp_path / "ends.py").write_text("import os\n\nos._exit(0)\n")
    with pytest.raises(InputError) as refused:
        load_object(f"{tmp_path}/ends.py:f", "rewards.x.function")
    message = str(refused.value)
    assert "importing it: RuntimeError: it calls os._exit(0), which would end the run" in message
    assert message.endswith(f"({tmp_path}/ends.py, line 3)")


def test_a_forked_child_may_still_end_itself(tmp_path):
    lines = ["import os", "if (child := os.fork()) == 0:", "    os._exit(7)"]
    lines += ["_, status = os.waitpid(child, 0)", "code = os.waitstatus_to_exitcode(status)"]
    (tmp_path / "forks.py").write_text("\n".join(lines))
    assert load_object(f"{tmp_path}/forks.py:code", "w") == 7
