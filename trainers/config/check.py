"""Checks of a config without heavy imports, so that a mistake is reported immediately."""

from collections.abc import Sequence
from pathlib import Path

from rlnorm.errors import InputError
from rlnorm.rewards.data import hub
from rlnorm.rewards.data.hub import HubName
from rlnorm.rewards.data.problems import ProblemRow
from rlnorm.rewards.environments import find_environment
from rlnorm.rewards.scorer import Scorer
from rlnorm.trainers.config.resolve import (
    algorithm_slots,
    build_algorithm,
    build_scorer,
    local_or_hub,
)
from rlnorm.trainers.config.rows import first_task_row, usable_rows
from rlnorm.trainers.config.schema import Config
from rlnorm.trainers.config.sources import (
    check_source,
    data_sources,
    local_files,
    of_key,
    parse_hub_source,
)
from rlnorm.trainers.config.template import fast_tokenizer, messages_of, prompt_tokens
from rlnorm.trainers.files import check_writable, latest_checkpoint


def precheck(config: Config) -> None:
    """Check model, data, rewards and algorithm, the cheapest first; nothing is downloaded yet."""
    if config.learner.backend == "embedded" and config.model.dtype == "bfloat16":
        raise InputError(
            "model.dtype = 'bfloat16' with learner.backend: embedded: small updates are lost in "
            "bfloat16 weights; use float32, or deepspeed, which keeps a float32 copy of the weights"
        )
    _check_address(config.cluster.address)
    rows = _check_rows(config, _check_inputs(config))
    algorithm_slots(config)
    _check_template(config, rows)
    build_algorithm(config)  # its functions need torch, which takes seconds to load
    _ask_hub(config)


def precheck_eval(config: Config, checkpoint: Path | None, out: Path | None) -> None:
    """Check what `rlnorm eval` needs: no algorithm and no learner."""
    if not config.data.eval:
        raise InputError("data.eval is empty: name a benchmark, such as data.eval.chain=task:chain")
    if out is not None:
        check_writable(out, "--out")
    config = at_checkpoint(config, checkpoint)
    _check_template(config, _check_rows(config, _check_inputs(config)))
    _ask_hub(config)


def at_checkpoint(config: Config, checkpoint: Path | None) -> Config:
    """The config with the model of `checkpoint`: of a run, a checkpoint, or a model folder."""
    if checkpoint is None:
        return config
    folder = _model_folder(checkpoint.expanduser())
    if folder is None or not (folder / "config.json").is_file():
        raise InputError(
            f"--checkpoint {checkpoint}: holds no model; needs a run directory, its folder "
            "checkpoints, one checkpoint (step_000020 or latest) or a model folder"
        )
    # absolute: engines may run in another folder
    model = config.model.model_copy(update={"path": str(folder.absolute())})
    return config.model_copy(update={"model": model})


def _model_folder(path: Path) -> Path | None:
    """The model that a path of a run names; the newest one if it names several."""
    if (path / "config.json").is_file():
        return path
    if path.name == "latest" and path.is_file():
        path = path.parent
    if (path / "checkpoints").is_dir():
        path = path / "checkpoints"
    if (path / "latest").is_file() or any(path.glob("step_*")):
        newest = latest_checkpoint(path)
        return newest and newest / "model"
    return path / "model"


def _check_inputs(config: Config) -> Scorer:
    local_or_hub(config.model.path)
    environment = config.rollout.environment
    sources = data_sources(config.data)
    for source in sources:
        source.of_key(check_source, source.text, environment is not None)
    if config.data.fields and all(source.text.startswith("task:") for source in sources):
        raise InputError("data.fields has no effect here: it needs a file or a data set of the hub")
    if environment is not None:
        find_environment(str(environment.get("name", "")), "rollout.environment")
    return build_scorer(config)


def _check_rows(config: Config, scorer: Scorer) -> list[ProblemRow]:
    """Read the rows of files; those of the hub are checked when they are there. Returns the first
    of each source."""
    rows = []
    for source in data_sources(config.data):
        if local_files(source):
            rows.append(usable_rows(source, scorer, config.data.on_bad_row)[0][0])
        elif source.text.startswith("task:"):
            rows.append(first_task_row(source.text))
    return rows


def _check_template(config: Config, rows: Sequence[ProblemRow]) -> None:
    """Render a few rows, which needs a part of transformers that does not load torch."""
    folder = local_or_hub(config.model.path)
    if rows and isinstance(folder, str) and (tokenizer := fast_tokenizer(folder)) is not None:
        for row in rows:
            prompt_tokens(tokenizer, messages_of(row, config.data.system_prompt), row)


def _ask_hub(config: Config) -> None:
    model = local_or_hub(config.model.path)
    if isinstance(model, HubName):
        of_key("model.path", config.model.path, hub.check, model)
    for source in data_sources(config.data):
        if (data := parse_hub_source(source.text)) is not None:
            source.of_key(hub.check, data.name)


def _check_address(address: str | None) -> None:
    host, _, port = (address or "").rpartition(":")
    if address is not None and not (host and port.isdigit()):
        raise InputError(f"cluster.address = {address!r}: expected host:port of a Ray head node")
