"""Pages: what comes from a model or a config is text in them, and nothing is fetched."""

import json
import re

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from jinja2 import UndefinedError
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from rlnorm.trainers.record.html import figure_json, render
from rlnorm.trainers.record.report import write_report
from rlnorm.trainers.record.run_dir import RunDir

EVIL = "</script><script>alert(1)</script>"


def report(**values) -> str:
    empty = {"title": "t", "steps": 1, "gains": [], "curves": [], "samples": {}, "config": ""}
    empty |= {"ends": [], "warnings": []}
    return render("report.html.j2", **empty | values)


def test_markup_in_a_completion_is_shown_as_text():
    row = {"prompt": EVIL, "text": "a < b & c", "answer": EVIL, "rewards": "1"}
    page = report(title=EVIL, samples={3: [row]}, config=EVIL)
    assert EVIL not in page
    assert page.count("&lt;/script&gt;&lt;script&gt;alert(1)&lt;/script&gt;") == 5
    assert "a &lt; b &amp; c" in page


def test_a_name_in_a_figure_does_not_end_its_script_element():
    import plotly.graph_objects as go

    figure = go.Figure()
    figure.add_scatter(x=[1], y=[2], name=EVIL)
    text = figure_json(figure, title=EVIL)
    assert isinstance(text, Markup)
    assert EVIL not in report(curves=[text])
    # once as the trace's name, once as the title
    assert text.count("alert(1)") == 2


@pytest.fixture
def written(tmp_path) -> str:
    """The report of a run of one step, whose every text is markup."""
    rows = [{"step": s, "reward/mean": s / 2, "reward/<script>": 0.5} for s in (0, 1)]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "config.yaml").write_text(f"run_name: {EVIL}\n")
    ended = {"status": "failed", "step": 1, "cause": EVIL, "seconds": 61.4}
    warning = {"name": "truncated", "step": 1, "message": EVIL, "cause": EVIL, "key": EVIL}
    events = [{"event": "warning", **warning}, {"event": "ended", **ended}]
    (tmp_path / "events.jsonl").write_text("".join(json.dumps(e) + "\n" for e in events))
    (tmp_path / "rollouts").mkdir()
    columns = {
        "group_index": [0],
        "prompt": [EVIL],
        "text": [EVIL],
        "answer": [EVIL],
        f"reward/{EVIL}": [0.25],
        "advantage": [1.0],
    }
    pq.write_table(pa.table(columns), tmp_path / "rollouts" / "step_000001.parquet")
    for step, correct in ((0, 0), (1, 1)):
        folder = tmp_path / "eval" / f"step_{step:06d}"
        folder.mkdir(parents=True)
        verdict = {"id": "p", "greedy": correct, "sampled": [correct]}
        (folder / "<b>bench.jsonl").write_text(json.dumps(verdict) + "\n")
    return write_report(RunDir(tmp_path), EVIL).read_text()


def test_a_report_shows_markup_of_any_text_in_a_run_as_text(written):
    assert EVIL not in written
    # the title twice; prompt, completion, answer, the reward's name, the config and the cause of
    # the end once each; a warning's message, cause and key
    assert written.count("&lt;script&gt;alert(1)&lt;/script&gt;") == 11
    assert "failed after step 1: &lt;/script&gt;" in written
    assert "(61 s)" in written
    # one benchmark by three measures
    assert written.count("<td>&lt;b&gt;bench</td>") == 3
    assert "<b>" not in written.replace(get_plotlyjs(), "")
    # plotly, the reward curve's figure and the code that draws it
    assert written.replace(get_plotlyjs(), "").count("<script") == 3


def test_nothing_outside_the_page_is_loaded(written):
    own = written.replace(get_plotlyjs(), "")
    assert len(own) < len(written) / 100
    assert "//" not in own
    for page in (report(), written):
        assert re.findall(r"<(?:script|img|link)[^>]+(?:src|href)=", page) == []


def test_a_value_that_a_template_lacks_is_an_error():
    with pytest.raises(UndefinedError, match="'steps' is undefined"):
        render("report.html.j2", title="t")
