"""HTML pages that open without a network: plotly and its figures are part of the page."""

from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

TEMPLATES = Environment(
    loader=FileSystemLoader(Path(__file__).with_name("templates")),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


def render(template: str, **values: Any) -> str:
    """A page from a template that extends base.html.j2; all text is escaped."""
    from plotly.offline import get_plotlyjs

    page = TEMPLATES.get_template(template)
    return page.render(plotly=Markup(get_plotlyjs()), **values)


def figure_json(figure: Any, **layout: Any) -> Markup:
    """A plotly figure as JSON, in the layout of the page, for the page's script to draw."""
    figure.update_layout(
        margin={"l": 50, "r": 10, "t": 50, "b": 40},
        legend={"orientation": "h", "y": -0.2},
        template="plotly_white",
        **layout,
    )
    # plotly never wraps a title: this size fits some 50 letters on a phone
    figure.update_layout(title_font_size=14, title_x=0)
    return Markup(figure.to_json())  # plotly escapes anything that could end the script element
