"""Which checkpoints stay, whatever moment a run was killed at."""

import pytest
import torch

from rlnorm.algorithms import resolve_algorithm
from rlnorm.trainers.checkpoint import LoopState, load_state, save_checkpoint
from rlnorm.trainers.config.load import load_config
from rlnorm.trainers.config.schema import LearnerConfig, ModelConfig
from rlnorm.trainers.files import latest_checkpoint, write_atomic
from rlnorm.trainers.learner.embedded import EmbeddedLearner
from rlnorm.trainers.models import load_tokenizer


@pytest.fixture
async def learner(tmp_path):
    path = "shipped:quick"
    learner = EmbeddedLearner(
        ModelConfig(path=path),
        LearnerConfig(),
        resolve_algorithm("grpo", {}),
        load_tokenizer(path),
        seed=0,
        device=torch.device("cpu"),
        faults=tmp_path / "faults",
    )
    await learner.start()
    yield learner
    await learner.close()


def steps(folder) -> list[int]:
    return sorted(int(p.name.removeprefix("step_")) for p in folder.glob("step_*"))


async def save(folder, learner, step: int, keep: int) -> None:
    config = load_config("quickstart", [f"keep_checkpoints={keep}"])
    path = await save_checkpoint(folder, learner, LoopState(step=step), config=config)
    assert latest_checkpoint(folder) == path
    assert load_state(path).step == step


@pytest.mark.parametrize(("keep", "left"), [(1, [5]), (2, [4, 5]), (9, [2, 3, 4, 5])])
async def test_the_newest_are_kept(tmp_path, learner, keep, left):
    for step in (2, 3, 4, 5):
        await save(tmp_path, learner, step, keep)
    assert steps(tmp_path) == left


async def test_what_a_killed_run_left_half_written_is_removed(tmp_path, learner):
    half = tmp_path / ".step_000002.partial"
    half.mkdir()
    (half / "model.safetensors").write_text("half")
    await save(tmp_path, learner, 3, keep=2)
    assert not half.exists()


@pytest.mark.parametrize(("keep", "left"), [(1, [7, 10]), (2, [6, 7, 10])])
async def test_what_latest_names_stays_beside_a_later_step_that_it_never_named(
    tmp_path, learner, keep, left
):
    await save(tmp_path, learner, 5, keep=2)
    await save(tmp_path, learner, 10, keep=2)
    write_atomic(tmp_path / "latest", "step_000005\n")  # killed before this was written
    await save(tmp_path, learner, 6, keep)
    await save(tmp_path, learner, 7, keep)
    assert steps(tmp_path) == left
    await save(tmp_path, learner, 10, keep)
    assert steps(tmp_path) == ([10] if keep == 1 else [7, 10])


async def test_steps_are_ordered_as_numbers(tmp_path, learner):
    for step in (999_998, 999_999, 1_000_000):
        await save(tmp_path, learner, step, keep=2)
    assert steps(tmp_path) == [999_999, 1_000_000]
    (tmp_path / "latest").unlink()  # killed before it was written
    assert latest_checkpoint(tmp_path).name == "step_1000000"
