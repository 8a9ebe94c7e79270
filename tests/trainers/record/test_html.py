"""Pages: what comes from a model or a config is text in them, and nothing is fetched."""

import re

import pytest
from jinja2 import UndefinedError
from markupsafe import Markup

from rlnorm.trainers.record.html import figure_json, render

EVIL = "</script><script>alert(1)</script>"


def report(**values) -> str:
    empty = {"title": "t", "steps": 1, "gains": [], "curves": [], "samples": {}, "config": ""}
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


def test_nothing_outside_the_page_is_loaded():
    page = report()
    head = page[: page.index("<script>")] + page[page.rindex("</script>") :]
    assert "://" not in head
    assert re.findall(r"<(?:script|img|link)[^>]+(?:src|href)=", page) == []


def test_a_value_that_a_template_lacks_is_an_error():
    with pytest.raises(UndefinedError, match="'steps' is undefined"):
        render("report.html.j2", title="t")
