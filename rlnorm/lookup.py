"""Resolves names in a config: objects in a user's module or file, and near spellings."""

import difflib
import importlib
import os
import re
import sys
from collections.abc import Iterable
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_file_location
from types import ModuleType
from typing import Any

from rlnorm.errors import InputError, with_place, without_exit
from rlnorm.from_python import refuse_name_from_python

_PREFIX = "rlnorm_user_file"


def suggest(got: object, allowed: Iterable[object], *, cutoff: float = 0.6) -> str:
    """`, did you mean 'x'?` if an allowed value is spelt like the one given, else ""."""
    near = difflib.get_close_matches(str(got), map(str, allowed), n=1, cutoff=cutoff)
    return f", did you mean {near[0]!r}?" if near else ""


def choices(got: object, allowed: Iterable[str]) -> str:
    """`allowed [...]`, with a suggestion: the end of an error message."""
    names = sorted(map(str, allowed))
    return f"allowed {names}{suggest(got, names)}"


def load_object(reference: str, where: str) -> Any:
    """The object of `module:name` or `FILE.py:NAME`; a name may have dots.

    A file is loaded once per process, and what it defines can be pickled by reference.
    where: the prefix of the message. Raises InputError, with the place if the file itself raised.
    """
    refuse_name_from_python(reference, where)
    source, _, path = reference.rpartition(":")
    if not source or not path:
        raise InputError(f"{where} = {reference!r}: needs module:name or FILE.py:NAME")
    found: Any = _load_module(source, f"{where} = {reference!r}")
    for part in path.split("."):
        if not hasattr(found, part):
            names = _defined_in(found)
            raise InputError(
                f"{where} = {reference!r}: no {part!r} in it, only {names}{suggest(part, names)}"
            )
        found = getattr(found, part)
    return found


def _defined_in(found: Any) -> list[str]:
    """What a module or class defines itself, without what it imports."""
    own = found.__name__ if isinstance(found, ModuleType) else getattr(found, "__module__", "")
    held = getattr(found, "__dict__", {})
    return [name for name, value in held.items() if getattr(value, "__module__", None) == own]


def absolute_reference(reference: str) -> str:
    """The same, with the full path of a FILE.py: for a process that may run in another folder."""
    source, _, path = reference.rpartition(":")
    return f"{_full_path(source)}:{path}" if source.endswith(".py") else reference


def _full_path(file: str) -> str:
    return os.path.abspath(os.path.expanduser(file))


def _load_module(source: str, where: str) -> ModuleType:
    name = source
    if source.endswith(".py"):
        if not os.path.isfile(_full_path(source)):
            raise InputError(f"{where}: no such file {_full_path(source)}")
        # the path is spelt out in the name, so that any process can find the module again
        name = _PREFIX + re.sub(r"\W|_", lambda m: f"_{ord(m[0]):x}_", _full_path(source))
    try:
        with without_exit():
            return importlib.import_module(name)
    except (Exception, SystemExit) as error:
        missing = error.name if isinstance(error, ModuleNotFoundError) and source == name else None
        if missing and f"{name}.".startswith(f"{missing}."):
            raise InputError(
                f"{where}: no module named {missing!r} in this folder or installed"
            ) from error
        raise InputError(f"{where}: importing it: {with_place(error)}") from error


class _UserFiles:
    """Finds the modules of files by name, also where pickle asks for one in another process."""

    @staticmethod
    def find_spec(name: str, path: object, target: object = None, /) -> ModuleSpec | None:
        if not name.startswith(_PREFIX):
            return None
        file = re.sub(r"_([0-9a-f]+)_", lambda m: chr(int(m[1], 16)), name.removeprefix(_PREFIX))
        return spec_from_file_location(name, file)


sys.meta_path.append(_UserFiles)
