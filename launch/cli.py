"""The `rlnorm` command. Heavy libraries are imported by the command that needs them, never here."""

import asyncio
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated

# spinning OpenMP threads slow a shared machine up to 30 times; must be set before torch loads
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import typer

from rlnorm import __version__
from rlnorm.errors import InputError
from rlnorm.trainers.config.file import shipped_presets
from rlnorm.trainers.config.paths import local_path

if TYPE_CHECKING:
    from rlnorm.trainers.config.schema import Config

app = typer.Typer(
    name="rlnorm",
    help="Fine-tune language models for reasoning with reinforcement learning.\n\n"
    "Start with: rlnorm train quickstart",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
)

ConfigArgument = Annotated[
    str,
    typer.Argument(
        metavar="CONFIG", help=f"A YAML file, or a preset: {', '.join(shipped_presets())}."
    ),
]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[KEY=VALUE]...",
        help="Overrides, such as learner.lr=1e-6; all keys: docs/configuration.md.",
    ),
]


def _on_this_machine(option: typer.CallbackParam, path: Path | None) -> Path | None:
    """The path with a leading `~` expanded; InputError for a URL, which would become a folder."""
    if path is None:
        return None
    try:
        return Path(local_path(str(path)))
    except ValueError as error:
        named = f"--{option.name}" if option.param_type_name == "option" else option.name
        raise InputError(f"{named}: {error}") from None


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"rlnorm {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    """Options of `rlnorm` itself; the help text is the app's own."""


@app.command()
def train(
    config: ConfigArgument,
    overrides: Overrides = None,
    resume: Annotated[
        bool,
        typer.Option("--resume", help="Continue from the newest checkpoint of the run directory."),
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Delete the run directory first, if there is one.")
    ] = False,
) -> None:
    """Train a model; writes a run directory with metrics, rollouts, checkpoints and a report.

    Example: rlnorm train quickstart algorithm=dr_grpo learner.lr=1e-4 run_name=mine
    """
    from rlnorm import trainers
    from rlnorm.trainers.config.load import load_config

    settings = load_config(config, overrides or [])

    def run() -> None:
        result = trainers.train(settings, resume=resume, overwrite=overwrite)
        if result.ended == "stopped early":
            from rlnorm.trainers.errors import Interrupted
            from rlnorm.trainers.run import stopped_early

            raise Interrupted(stopped_early(settings, int(result.metrics["step"] or 0)))
        print(_next_steps(settings))

    _quietly(run)


@app.command("eval")
def evaluate(
    config: ConfigArgument,
    overrides: Overrides = None,
    checkpoint: Annotated[
        Path | None,
        typer.Option(
            help="A run directory, one of its checkpoints, or a model folder; the config's model "
            "by default."
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            callback=_on_this_machine, help="Folder for one .jsonl of verdicts per benchmark."
        ),
    ] = None,
) -> None:
    """Measure a model on the config's benchmarks: greedy, avg@k and pass@k.

    Example: rlnorm eval quickstart --checkpoint runs/quickstart/checkpoints/step_000020
    """
    from rlnorm.trainers.config.load import load_config

    settings = load_config(config, overrides or [])

    def run() -> None:
        from rlnorm.trainers.config.check import precheck_eval

        precheck_eval(settings, checkpoint, out)
        from rlnorm.trainers.evaluate.command import run_evaluation

        asyncio.run(run_evaluation(settings, checkpoint, out))

    _quietly(run)


@app.command()
def compare(
    config: ConfigArgument,
    overrides: Overrides = None,
    algorithms: Annotated[
        str, typer.Option(help="Names, comma-separated; `config` is the config's own algorithm.")
    ] = "",
    seeds: Annotated[int, typer.Option(help="Runs per algorithm.")] = 3,
    baseline: Annotated[
        str, typer.Option(help="The algorithm that the others are compared with.")
    ] = "grpo",
    out: Annotated[
        Path | None,
        typer.Option(
            callback=_on_this_machine,
            help="Folder for the page and summaries; the runs' by default.",
        ),
    ] = None,
) -> None:
    """Compare algorithms by paired runs: one page of verdicts with intervals. Can be resumed.

    Example: rlnorm compare graded --algorithms grpo,dr_grpo,gdpo --seeds 5
    """
    from rlnorm.trainers.config.load import load_config

    settings = load_config(config, overrides or [])
    # a folder here named like one of our packages must not shadow it in the runs
    isolated = [] if Path.cwd() == Path(__file__).resolve().parents[1] else ["-P"]
    train_command = [sys.executable, *isolated, "-m", "rlnorm.launch.cli", "train"]

    def run() -> None:
        from rlnorm.trainers.compare.command import run_comparison

        run_comparison(
            settings,
            algorithms.split(","),
            seeds=seeds,
            baseline=baseline,
            out=out,
            train=train_command,
        )

    _quietly(run)


@app.command()
def grade(
    cases: Annotated[
        Path | None,
        typer.Argument(callback=_on_this_machine, help="A .jsonl of rows with id, gold and pred."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(callback=_on_this_machine, help="File for verdicts, one line per row."),
    ] = None,
    workers: Annotated[int, typer.Option(help="Worker processes for the symbolic layer.")] = 2,
    deadline: Annotated[float, typer.Option(help="Seconds per row.")] = 2.0,
    audit: Annotated[
        Path | None,
        typer.Option(
            callback=_on_this_machine,
            help="Check every gold of a data file against itself instead.",
        ),
    ] = None,
    format: Annotated[
        str | None, typer.Option(help="With --audit: the data set's format, such as gsm8k.")
    ] = None,
) -> None:
    """Grade answers against golds, or audit the golds of a data set.

    Example: rlnorm grade cases.jsonl --out verdicts.jsonl --workers 4
    """
    if audit is not None:
        from rlnorm.rewards.grade import audit as run_audit

        if cases is not None or out is not None:
            raise InputError("grade --audit DATA takes neither CASES nor --out")
        run_audit(audit, format=format)
        return
    if cases is None or out is None:
        raise InputError("grade: needs CASES and --out VERDICTS, or --audit DATA")
    from rlnorm.rewards.grade import grade as run_grade

    run_grade(cases, out, workers=workers, deadline=deadline)


@app.command()
def doctor() -> None:
    """Check this machine: package versions, devices, compiler, disk, sandbox."""
    from rich.console import Console

    from rlnorm.launch.doctor import report

    sound: list[bool] = []
    _quietly(lambda: sound.append(report(Console())))
    if not sound[0]:
        raise typer.Exit(1)


@app.command()
def estimators(
    name: Annotated[
        str | None, typer.Argument(help="Show this algorithm in full; without it, a table of all.")
    ] = None,
) -> None:
    """List the named algorithms with their stages, papers, options and defaults.

    Example: rlnorm estimators mc_grpo
    """
    from rich.console import Console

    from rlnorm.launch.estimators import print_algorithm, print_algorithms

    if name is None:
        print_algorithms(Console())
    else:
        print_algorithm(Console(), name)


def _next_steps(settings: "Config") -> str:
    """What to try after the run, as commands to paste."""
    typed, run = Path(sys.argv[0]), settings.run_dir
    rlnorm = str(typed) if typed.name == "rlnorm" and not shutil.which("rlnorm") else "rlnorm"
    config, name = quote(f"{run}/config.yaml"), quote(run.name)
    last = quote(f"{run}/checkpoints/step_{settings.steps:06d}")
    other = "gdpo" if settings.algorithm == "dr_grpo" else "dr_grpo"
    two = f"grpo,{other}" if settings.algorithm == "grpo" else "config,grpo"
    lines = [
        f"measure it         {rlnorm} eval {config} --checkpoint {last}",
        f"compare two        {rlnorm} compare {config} run_name={name}_two --algorithms {two}",
        f"another algorithm  {rlnorm} train {config} algorithm={other} run_name={name}_{other}",
        f"list all           {rlnorm} estimators",
        "your model, data   docs/getting_started.md",
    ]
    shown = lines if settings.data.eval else lines[2:]  # the first two need a benchmark
    return "\nWhat to try next:\n  " + "\n  ".join(shown)


def _quietly(run: Callable[[], None]) -> None:
    """Keep the output of third-party libraries off the terminal; errors pass through."""
    import logging
    import warnings

    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    warnings.filterwarnings("ignore", category=FutureWarning)
    logging.basicConfig(format="%(levelname)s %(name)s: %(message)s", level=logging.WARNING)
    run()


def main() -> None:
    """Entry point: 0 done, 1 failed, 2 bad input, 130 stopped; one line, no traceback."""
    try:
        if os.getcwd() not in sys.path:
            # finds a reward or an estimator beside the config; last, so that it shadows nothing
            sys.path.append(os.getcwd())
        status = app(standalone_mode=False)  # typer.Exit comes back as a value
        if status == 130:  # how the parser reports a Ctrl-C
            raise KeyboardInterrupt
        sys.exit(status)
    except InputError as error:
        _fail(error, 2)
    except (KeyboardInterrupt, typer.Abort):
        _fail(RuntimeError("interrupted"), 130)
    except Exception as error:
        if hasattr(error, "show") and hasattr(error, "exit_code"):  # a usage error of the parser
            error.show()
            sys.exit(2)
        from rlnorm.trainers.errors import Interrupted, RunError, StoppedAtOnce

        if isinstance(error, StoppedAtOnce):
            print(f"rlnorm: {error}", file=sys.stderr, flush=True)
            os._exit(130)  # exit handlers of libraries may take many seconds
        if isinstance(error, RunError):
            _fail(error, 130 if isinstance(error, Interrupted) else 1)
        if isinstance(error, OSError):  # a disk, a file or a network, not the code
            _fail(error, 1)
        raise


def _fail(error: BaseException, status: int) -> None:
    print(f"rlnorm: {error}", file=sys.stderr)
    sys.exit(status)


if __name__ == "__main__":
    main()
