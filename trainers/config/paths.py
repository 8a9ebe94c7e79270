"""Paths and data sources as a config writes them: `~` is expanded, a URL is refused."""

import os
import re

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:/")
_HUB = ", or OWNER/NAME for the Hugging Face hub (hf:OWNER/NAME in data)"


def local_path(text: str) -> str:
    """The path with a leading `~` replaced by the home folder. ValueError for a URL."""
    if _URL.match(text.lstrip()):
        hub = _HUB if "huggingface" in text or text.startswith("hf:") else ""
        raise ValueError(f"got {text!r}: is a URL, needs a path on this machine{hub}")
    if "\0" in text:
        raise ValueError(f"got {text!r}, needs a path, which holds no NUL character")
    path = os.path.expanduser(text)
    if path.startswith("~"):
        raise ValueError(f"got {text!r}: no such user; write ./{text} for a folder of that name")
    return path


def source_text(text: str) -> str:
    """A data source with the path in it (`PATH` or `FORMAT=PATH`) as `local_path` gives it."""
    if re.match(r"(\w+=)?(hf|task|env):(?!/)", text):
        return text
    data_format, equals, path = text.partition("=")
    if equals and "/" not in data_format:
        return f"{data_format}={local_path(path)}"
    return local_path(text)
