"""The table of metrics covers every name that is logged, and nothing else."""

from pathlib import Path

import pytest

from rlnorm.trainers.record.metrics import METRICS, undocumented
from rlnorm.trainers.record.run_dir import RunDir

ROOT = Path(__file__).parents[3]


def test_names_with_a_part_of_the_config_s_own_are_covered_one_part_each():
    names = ["reward/format", "reward/my_format/std", "reward/a/timeout_frac", "eval/gsm8k/avg@16"]
    assert undocumented(["loss", "policy/my/file.py:f_loss", *names]) == []
    assert undocumented(["losses", "reward/a/b/c", "eval/avg@k"]) == [
        "losses",
        "reward/a/b/c",
        "eval/avg@k",
    ]


def test_the_logger_refuses_a_metric_that_no_row_describes(tmp_path):
    run = RunDir(tmp_path)
    run.log_metrics({"step": 1, "loss": 0.5})
    with pytest.raises(ValueError, match=r"metrics policy/los: no row of METRICS describes them"):
        run.log_metrics({"step": 2, "policy/los": 0.5})
    assert run.metrics.read_text().count("\n") == 1


@pytest.mark.parametrize("name", METRICS)
def test_each_row_is_logged_by_the_code(name):
    last = name.rpartition("/")[2].replace("<k>", "{k}").replace("<regularizer>", "{name}")
    last = last.replace("<status>", "{status}").replace("<component>", "{name}")
    texts = [
        path.read_text()
        for folder in ("rlnorm", "rewards", "trainers")
        for path in (ROOT / folder).rglob("*.py")
        if path.name != "metrics.py"
    ]
    assert any(f'{last}"' in text for text in texts)
