"""Models and data sets of the Hugging Face hub: pinned to a commit and downloaded; errors are one
line each.

A name is resolved to a commit once per process and everything later asks for that commit, so all
files come from one state of the repository. With HF_HUB_OFFLINE=1 only the cache is used.
"""

import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any, Literal

from rlnorm.errors import InputError

Kind = Literal["model", "dataset"]

MODEL_FILES = ["*.json", "*.safetensors", "*.txt", "*.model", "*.jinja", "*.tiktoken"]
"""The files of a model repository that transformers and vLLM read; pickled weights only if it has
no others."""
DATASET_CARD = ("README.md", ".gitattributes")

_ID = re.compile(r"(?P<repo>[A-Za-z0-9][\w.-]*/[\w.-]+?)(@(?P<revision>[\w.-]+))?")
_COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True, kw_only=True, slots=True)
class HubName:
    """A repository as a config names it. Example: parse_name("Qwen/Qwen3-0.6B@main", "model")."""

    repo: str
    revision: str | None
    kind: Kind

    def __str__(self) -> str:
        return self.repo if self.revision is None else f"{self.repo}@{self.revision}"


def parse_name(text: str, kind: Kind) -> HubName | None:
    """`OWNER/NAME` or `OWNER/NAME@REVISION`; None for anything else."""
    match = _ID.fullmatch(text)
    return match and HubName(repo=match["repo"], revision=match["revision"], kind=kind)


def check(name: HubName) -> None:
    """Check that the repository exists and may be read, before anything is downloaded."""
    if not _offline():
        _found(name)


def pinned(name: HubName) -> str:
    """`OWNER/NAME@COMMIT` of a model, by which another process reads the same files."""
    return f"{name.repo}@{model_folder(name).name}"


def model_folder(name: HubName) -> Path:
    """The local snapshot of a model, downloaded unless it is in the cache."""
    folder = _snapshot(name, tuple(MODEL_FILES))
    if not any(folder.glob("*.safetensors")):
        folder = _snapshot(name, (*MODEL_FILES, "*.bin"))
    if not (folder / "config.json").is_file():
        raise InputError("the repository has no config.json, so it holds no transformers model")
    return folder


def dataset_rows(name: HubName, subset: str | None, split: str) -> Iterator[Mapping[str, Any]]:
    """The rows of one split, from the pinned commit."""
    try:
        import datasets
    except ImportError as error:
        raise InputError("reading the hub needs `pip install rlnorm[data]`") from error
    _bound_requests()
    commit = _snapshot(name, DATASET_CARD).name  # the cached card links a branch to its commit
    datasets.disable_progress_bars()
    datasets.logging.set_verbosity_error()
    try:
        table = datasets.load_dataset(
            name.repo, subset, split=split, revision=None if _offline() else commit
        )
    except Exception as error:  # datasets raises many unrelated types
        explained = _explained(error, name)
        if "config" in str(error).casefold() or "subset" in str(error).casefold():
            explained = InputError(f"{explained} (a subset is named hf:OWNER/NAME/SUBSET:SPLIT)")
        raise explained from error
    # when anything fails, datasets silently falls back to the newest commit in its own cache
    read = {Path(file["filename"]).parent.name for file in table.cache_files} - {commit}
    if read:
        raise InputError(
            f"commit {commit} could not be read, only {min(read)} from the cache: repeat the "
            f"command, or name @{min(read)} to use that"
        )
    yield from table


@cache
def _snapshot(name: HubName, patterns: tuple[str, ...]) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    fetch = partial(
        snapshot_download,
        name.repo,
        repo_type=name.kind,
        allow_patterns=list(patterns),
        ignore_patterns=["*/*", "consolidated*"],
    )
    try:
        if _offline():
            return Path(fetch(revision=name.revision))
        commit = _found(name)
        try:
            fetch(revision=commit, local_files_only=True)
        except LocalEntryNotFoundError:
            print(f"downloading {name} from the hub, once", file=sys.stderr)
        # by revision, so that the cache knows offline which commit it stands for
        return Path(fetch(revision=name.revision))
    except InputError:
        raise
    except _failures() as error:
        raise _explained(error, name) from error


@cache
def _found(name: HubName) -> str:
    """The commit that the name stands for; one request, or two where access is restricted."""
    if name.revision is not None and _COMMIT.fullmatch(name.revision):
        return name.revision
    from huggingface_hub import HfApi, constants

    _bound_requests()
    api, timeout = HfApi(), constants.HF_HUB_ETAG_TIMEOUT
    try:
        info = api.repo_info(
            name.repo, repo_type=name.kind, revision=name.revision, timeout=timeout
        )
        if info.gated:
            api.auth_check(name.repo, repo_type=name.kind)
    except _failures() as error:
        raise _explained(error, name) from error
    return str(info.sha)


@cache
def _bound_requests() -> None:
    """Cap the timeout of every request of the hub's client at the client's own two limits. Without
    this some wait forever and some a minute, six times over with 23 seconds of pauses."""
    from huggingface_hub import constants, get_session, set_client_factory
    from huggingface_hub.utils import logging

    def limit(request: Any) -> None:
        head = request.method == "HEAD"
        most = constants.HF_HUB_ETAG_TIMEOUT if head else constants.HF_HUB_DOWNLOAD_TIMEOUT
        limits = request.extensions.get("timeout", {})
        request.extensions["timeout"] = {k: min(v or most, most) for k, v in limits.items()}

    client, hooks = type(get_session()), get_session().event_hooks
    hooks = {**hooks, "request": [*hooks["request"], limit]}
    set_client_factory(lambda: client(event_hooks=hooks, follow_redirects=True))
    logging.set_verbosity_error()  # else one line for every retry and for a plain README


def _offline() -> bool:
    from huggingface_hub import constants

    return bool(constants.HF_HUB_OFFLINE)


def _failures() -> tuple[type[Exception], ...]:
    from huggingface_hub import errors

    # of whichever httpx the client uses
    http = errors.HTTPError  # type: ignore[attr-defined]  # imported there, not declared
    return (OSError, ValueError, http)


def _explained(error: Exception, name: HubName) -> InputError:
    """What went wrong and what to do, in one line."""
    from huggingface_hub import constants, errors

    what, status = "data set" if name.kind == "dataset" else "model", _status(error)
    if isinstance(error, errors.GatedRepoError) or status == 403:
        line = (
            f"access to this {what} is restricted: ask for it at "
            f"{constants.ENDPOINT}/{'datasets/' * (name.kind == 'dataset')}{name.repo}, then set "
            "HF_TOKEN or run `hf auth login`"
        )
    elif isinstance(error, errors.RevisionNotFoundError):
        line = f"the {what} has no revision {name.revision!r}"
    elif isinstance(error, errors.RepositoryNotFoundError) or status == 401:
        line = (
            f"no such {what} at {constants.ENDPOINT}, or it is private: check the spelling; for a "
            "private one set HF_TOKEN or run `hf auth login`"
        )
    elif _offline() and _unreachable(error, status):
        line = f"not in the cache ({constants.HF_HUB_CACHE}), and HF_HUB_OFFLINE=1 forbids asking"
        line += " the hub: run once without it"
    elif _unreachable(error, status):
        line = (
            f"no answer from {constants.ENDPOINT} ({_brief(error)}): check the network and "
            "HF_ENDPOINT; HF_HUB_OFFLINE=1 uses what was downloaded before"
        )
    else:
        line = _brief(error)
    return InputError(line)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _status(error: Exception) -> int | None:
    found = (getattr(getattr(e, "response", None), "status_code", None) for e in _chain(error))
    return next((status for status in found if status is not None), None)


def _unreachable(error: Exception, status: int | None) -> bool:
    if status is not None:
        return status >= 500 or status == 429
    *_, http = _failures()
    unanswered = (ConnectionError, TimeoutError, FileNotFoundError, http)
    return any(isinstance(e, unanswered) for e in _chain(error))


def _brief(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {' '.join(lines[:2])[:300]}"
