"""`rlnorm compare`: check, run what is missing, report."""

from collections.abc import Sequence
from pathlib import Path

from rlnorm.trainers.compare.display import CompareDisplay
from rlnorm.trainers.compare.runs import (
    check_buildable,
    check_folder,
    open_comparison,
    plan_comparison,
    raise_for_failures,
    run_all,
)
from rlnorm.trainers.config.schema import Config
from rlnorm.trainers.errors import RunError
from rlnorm.trainers.files import check_writable


def run_comparison(
    config: Config,
    algorithms: Sequence[str],
    *,
    seeds: int,
    baseline: str,
    out: Path | None,
    train: Sequence[str],
) -> Path:
    """Run what is missing, then write table, page and summaries; returns the page.

    train: the command that trains a config file. Raises RunError at the end if a run failed.
    """
    comparison = plan_comparison(config, algorithms, seeds, baseline)
    if out is not None:
        check_writable(out, "--out")
    check_folder(comparison)
    check_buildable(comparison)
    # imported only now because they load torch, which takes seconds
    from rlnorm.trainers.compare.page import write_reports
    from rlnorm.trainers.compare.results import collect_results
    from rlnorm.trainers.compare.tables import print_table

    with open_comparison(comparison) as lock:
        with CompareDisplay(comparison) as display:
            outcome = run_all(comparison, train, lock, display)
        results = collect_results(comparison, outcome)
        if not results.compared:
            why = "; ".join(f"{name}: {cause}" for name, cause in results.left_out.items())
            raise RunError(
                f"nothing to compare with {baseline}: {why}; correct the cause and run the same "
                "command again"
            )
        page = write_reports(results, out or comparison.folder)
    print_table(results, display.console)
    display.note(f"page: {page}\nsummaries: {page.parent}/summary.md, summary.json")
    raise_for_failures(outcome, page)
    return page
