import io
import json

import pytest
from rich.console import Console

from rlnorm.trainers.compare.page import write_reports
from rlnorm.trainers.compare.results import as_json, collect_results
from rlnorm.trainers.compare.runs import Outcome, open_comparison, plan_comparison
from rlnorm.trainers.compare.tables import print_table, reading, verdict_grids


@pytest.mark.parametrize(("width", "columns"), [(80, 5), (160, 11)])
def test_the_table_fits_its_terminal_and_cuts_no_number(written, width, columns):
    comparison, runs = written
    results = collect_results(comparison, Outcome(finished=runs))
    console = Console(width=width, file=io.StringIO())
    print_table(results, console)
    text = console.file.getvalue()
    assert "…" not in text
    [grid] = verdict_grids(results)
    [header] = [line for line in text.splitlines() if line.startswith(" algorithm")]
    assert sum(name in header for name in grid.header) == columns


def test_one_seed_is_reported_without_a_verdict(tmp_path, config_for, write_run, verdicts):
    comparison = plan_comparison(config_for(tmp_path), ["grpo", "gdpo"], 1, "grpo")
    with open_comparison(comparison):
        pass
    for run in comparison.runs():
        write_run(run, verdicts[run.algorithm, run.seed])
    results = collect_results(comparison, Outcome(finished=comparison.runs()))
    assert verdict_grids(results)[0].rows[1][-1] == "not distinguishable"
    assert any("no verdict is possible" in line for line in reading(results))
    entry = json.loads(as_json(results))["benchmarks"]["chain"]["algorithms"]["gdpo"]
    assert entry["judgement"]["detectable"] is None
    write_reports(results, tmp_path / "out")
