"""An extension of griffe: the Paper, Formula, When and Cost of a docstring become a list."""

import re
from typing import Any

import griffe

FIELD = re.compile(r"^(Paper|Formula|When|Cost):\s+((?:.+\n?(?!\w+:\s))+)", re.MULTILINE)


class FieldsAsLists(griffe.Extension):
    """Named in mkdocs.yml."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Called with each object that was read."""
        if obj.docstring:
            obj.docstring.value = FIELD.sub(_item, obj.docstring.value)


def _item(field: re.Match[str]) -> str:
    name, text = field[1], " ".join(field[2].split())
    return f"- **{name}**: `{text}`\n" if name == "Formula" else f"- **{name}**: {text}\n"
