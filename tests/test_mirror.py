"""tests/ mirrors the tree: tests/x/test_y.py is about x/y.py, in the rooms named here."""

from pathlib import Path

ROOT = Path(__file__).parents[1]
ROOMS = ("rlnorm", "trainers/learner", "trainers/rollout", "trainers/compare", "rewards/math")
EXEMPT = {
    "rlnorm/losses/types.py": "fields only",
    "rlnorm/regularizers/types.py": "fields only",
    "rewards/math/node.py": "a type and a protocol",
    "trainers/learner/types.py": "a protocol",
    "trainers/learner/shares.py": "fields only",
    "trainers/learner/deepspeed_rank.py": "in its actor: tests/trainers/cluster/test_learner.py",
    "trainers/rollout/vllm_messages.py": "fields only",
    "trainers/rollout/vllm_engine.py": "in its actor: tests/trainers/cluster/test_pool.py",
}
"""Modules without a test file, and why."""
INTEGRATION = {
    "rlnorm/test_option_bounds.py": "numbers that no stage takes",
    "rlnorm/test_package.py": "the package: what importing it costs",
    "rlnorm/test_plugin.py": "a user's own file as every kind of stage",
    "rlnorm/advantages/test_bad_input.py": "what every estimator refuses",
    "rlnorm/advantages/test_weights.py": "what the weights of rewards mean to every estimator",
    "rlnorm/kernels/test_accuracy.py": "every backend against the definition",
    "rewards/math/test_cross_check.py": "the verifier where it differs from Math-Verify",
    "rewards/math/test_exact_arithmetic.py": "the verifier beside arithmetic with fractions",
    "rewards/math/test_properties.py": "what holds of every verdict",
    "rewards/math/test_unseen.py": "the verifier on cases that it had not met",
    "rewards/math/test_styles.py": "the verifier on every style in which models write an answer",
}
"""Test files that are about several modules at once, and what they are about."""


def sources() -> set[str]:
    return {
        file.relative_to(ROOT).as_posix()
        for room in ROOMS
        for file in (ROOT / room).rglob("*.py")
        if file.name != "__init__.py"
    }


def named(source: str) -> str:
    room, _, name = source.rpartition("/")
    return f"{room}/test_{name}"


def test_every_module_has_a_test_file_of_its_name():
    there = {name for name in sources() if (ROOT / "tests" / named(name)).is_file()}
    assert sources() - there == set(EXEMPT)


def test_every_test_file_names_a_module():
    files = {
        file.relative_to(ROOT / "tests").as_posix()
        for room in ROOMS
        for file in (ROOT / "tests" / room).rglob("test_*.py")
    }
    assert files - {named(name) for name in sources()} == set(INTEGRATION)
