"""Reading a config: a YAML file or shipped preset, and `key=value` on the command line."""

import os
import re
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from rlnorm.errors import InputError
from rlnorm.lookup import suggest


class _Loader(yaml.SafeLoader):
    """YAML in which 1e-6 is a number, a date is text, and a repeated key is an error."""

    def compose_mapping_node(self, anchor: Any) -> Any:
        node = super().compose_mapping_node(anchor)
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value in seen:
                problem = f"the key {key.value!r} is given twice"
                raise yaml.composer.ComposerError(None, None, problem, key.start_mark)
            seen.add(str(key.value))
        return node


_Loader.yaml_implicit_resolvers = {
    letter: [rule for rule in rules if not rule[0].endswith(":timestamp")]
    for letter, rules in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"),
    list("-+.0123456789"),
)


def read_table(path: Path) -> dict[str, Any]:
    """The keys and values of a YAML file; InputError if it cannot be read."""
    try:
        table = _parse(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"config {path}: {error}") from None
    if table is None:
        raise InputError(f"config {path}: is empty")
    if not isinstance(table, dict):
        raise InputError(f"config {path}: expected keys and values, got {type(table).__name__}")
    return table


def shipped_presets() -> dict[str, Path]:
    """The file of each shipped preset, by name."""
    folder = Path(str(resources.files("rlnorm.configs")))
    return {path.name.removesuffix(".yaml"): path for path in sorted(folder.glob("*.yaml"))}


def find_preset(source: str) -> Path:
    """The file `source`, or the shipped preset of that name."""
    path = Path(os.path.expanduser(source))
    if _is_file(path):
        return path
    shipped, name = shipped_presets(), path.name.removesuffix(".yaml")
    if name in shipped and path.parent.name in ("", "configs"):
        return shipped[name]
    raise InputError(
        f"config {source!r}: no such file; shipped presets: {', '.join(shipped)}"
        f"{suggest(name, shipped)}"
    )


def override(table: dict[str, Any], assignment: str) -> None:
    """Set one `section.key=value` in the table; a list item is addressed by its name or index."""
    key, equals, text = assignment.partition("=")
    if not equals or not key:
        raise InputError(f"override {assignment!r}: write key=value, for example learner.lr=1e-6")
    try:
        value = _parse(text)
    except ValueError as error:
        raise InputError(f"override {assignment!r}: {error}") from None
    *parents, leaf = key.split(".")
    node: Any = table
    for name in parents:
        if isinstance(node, list):
            node = _list_item(node, name, assignment)
            continue
        child = node.get(name)
        if not isinstance(child, dict | list):
            # `algorithm: grpo` becomes {name: grpo} when one of its slots is overridden
            child = {} if child is None else {"name": child}
            node[name] = child
        node = child
    if isinstance(node, list):
        raise InputError(f"override {assignment!r}: name the field of the list item to set")
    node[leaf] = value


def _parse(text: str) -> Any:
    """The value of a YAML text; ValueError in one line."""
    try:
        return yaml.load(text, _Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        problem = ", ".join(part for part in (error.context, error.problem) if part)
        hint = "; indent with spaces" if "'\\t'" in problem else ""
        raise ValueError(f"{where}{problem}{hint}") from None
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split())) from None
    except RecursionError:
        raise ValueError("is nested too deeply") from None


def _list_item(items: list[Any], name: str, assignment: str) -> Any:
    for index, item in enumerate(items):
        if isinstance(item, dict) and name in (item.get("name"), str(index)):
            return item
    names = [item.get("name") for item in items if isinstance(item, dict)]
    raise InputError(f"override {assignment!r}: no item named {name!r}, choose from {names}")


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name too long for the file system
        return False
