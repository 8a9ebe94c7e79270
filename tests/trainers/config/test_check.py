"""Which model `--checkpoint` names."""

import pytest

from rlnorm.errors import InputError
from rlnorm.trainers.config.check import at_checkpoint, precheck
from rlnorm.trainers.config.load import load_config


@pytest.fixture
def run(tmp_path):
    """A run directory with two checkpoints, of which `latest` names the older one."""
    for step in (10, 20):
        model = tmp_path / "checkpoints" / f"step_{step:06d}" / "model"
        model.mkdir(parents=True)
        (model / "config.json").write_text("{}")
        (model.parent / "trainer_state").mkdir()
    (tmp_path / "checkpoints" / "latest").write_text("step_000010\n")
    return tmp_path


@pytest.mark.parametrize(
    ("path", "step"),
    [
        (".", 10),
        ("checkpoints", 10),
        ("checkpoints/latest", 10),
        ("checkpoints/step_000020", 20),
        ("checkpoints/step_000020/model", 20),
    ],
)
def test_every_path_of_a_run_names_a_model(run, path, step):
    found = at_checkpoint(load_config("quickstart"), run / path).model.path
    assert found == str(run / "checkpoints" / f"step_{step:06d}" / "model")


def test_a_run_that_was_killed_before_latest_was_written_has_a_newest_checkpoint(run):
    (run / "checkpoints" / "latest").unlink()
    found = at_checkpoint(load_config("quickstart"), run).model.path
    assert found == str(run / "checkpoints" / "step_000020" / "model")


@pytest.mark.parametrize(
    "path", ["checkpoints/step_000030", "checkpoints/step_000020/trainer_state", "../nowhere"]
)
def test_a_path_without_a_model_is_one_line_that_says_what_is_allowed(run, path):
    with pytest.raises(InputError) as caught:
        at_checkpoint(load_config("quickstart"), run / path)
    assert str(caught.value) == (
        f"--checkpoint {run / path}: holds no model; needs a run directory, its folder "
        "checkpoints, one checkpoint (step_000020 or latest) or a model folder"
    )


def test_columns_are_refused_where_no_source_has_any():
    config = load_config("quickstart", ["data.fields={question: prompt}"])
    with pytest.raises(InputError, match=r"data\.fields has no effect here"):
        precheck(config)
