"""A folder served as a Hugging Face hub on a free loopback port, and `rlnorm` run against it."""

import hashlib
import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pytest

API = re.compile(r"/api/(model|dataset)s/([^/]+/[^/]+)(?:/(revision|tree|paths-info)/([^/]+))?")
AUTH = re.compile(r"/api/(model|dataset)s/([^/]+/[^/]+)/auth-check")
FILE = re.compile(r"/(datasets/)?([^/]+/[^/]+)/resolve/([^/]+)/(.+)")


class FolderHub:
    """Serves `root/{model,dataset}/OWNER/NAME`; a commit is a hash of the files.

    gated: repository -> status of its files. hangs: paths that are never answered. on_file is
    called with the repository of every file asked for.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.gated: dict[str, int] = {}
        self.hangs: Callable[[str], bool] = lambda path: False
        self.on_file: Callable[[str], object] = lambda repo: None
        self.requests: list[str] = []
        self._stopping = threading.Event()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                path = unquote(urlsplit(self.path).path)
                outer.requests.append(f"{self.command} {path}")
                self.body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                if outer.hangs(path):
                    outer._stopping.wait()
                    return
                outer.answer(self, path)

            do_HEAD = do_POST = do_GET

            def log_message(self, *args: Any) -> None:
                return

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def stop(self) -> None:
        self._stopping.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)

    def add(self, kind: str, repo: str, files: dict[str, bytes | str]) -> Path:
        folder = self.root / kind / repo
        for name, content in files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content.encode() if isinstance(content, str) else content)
        return folder

    def commit(self, kind: str, repo: str) -> str:
        digest = hashlib.sha1()
        for path in self.files(kind, repo):
            digest.update(path.read_bytes())
        return digest.hexdigest()

    def files(self, kind: str, repo: str) -> list[Path]:
        return sorted(p for p in (self.root / kind / repo).rglob("*") if p.is_file())

    def answer(self, handler: BaseHTTPRequestHandler, path: str) -> None:
        if match := AUTH.fullmatch(path):
            repo = match[2]
            status = self.gated.get(repo, 200)
            self.send(handler, {}, status=status, error="GatedRepo" if status != 200 else None)
        elif match := API.match(path):
            self.answer_api(handler, *match.groups())
        elif match := FILE.fullmatch(path):
            self.answer_file(handler, "dataset" if match[1] else "model", match[2], match[4])
        else:
            self.send(handler, {}, status=404)

    def answer_api(
        self, handler: BaseHTTPRequestHandler, kind: str, repo: str, what: str, revision: str
    ) -> None:
        if not (self.root / kind / repo).is_dir():
            self.send(handler, {}, status=401, error="RepoNotFound")
            return
        commit = self.commit(kind, repo)
        if revision not in (None, "main", commit):
            self.send(handler, {}, status=404, error="RevisionNotFound")
            return
        folder, files = self.root / kind / repo, self.files(kind, repo)
        if what in ("tree", "paths-info"):
            rows = [self.entry(folder, path) for path in files]
            rows += [
                {"type": "directory", "path": str(p.relative_to(folder)), "oid": "0" * 40}
                for p in folder.rglob("*")
                if p.is_dir()
            ]
            if what == "paths-info":
                wanted = parse_qs(handler.body.decode())["paths"]  # type: ignore[attr-defined]
                rows = [row for row in rows if row["path"] in wanted]
            self.send(handler, rows)
            return
        siblings = [{"rfilename": str(p.relative_to(folder))} for p in files]
        gated = "manual" if repo in self.gated else False
        self.send(
            handler,
            {"id": repo, "sha": commit, "private": False, "gated": gated, "siblings": siblings},
        )

    @staticmethod
    def entry(folder: Path, path: Path) -> dict[str, Any]:
        oid = hashlib.sha1(path.read_bytes()).hexdigest()
        size = path.stat().st_size
        return {"type": "file", "path": str(path.relative_to(folder)), "size": size, "oid": oid}

    def answer_file(self, handler: BaseHTTPRequestHandler, kind: str, repo: str, name: str) -> None:
        path = self.root / kind / repo / name
        self.on_file(repo)
        if repo in self.gated:
            self.send(handler, {}, status=self.gated[repo], error="GatedRepo")
        elif not path.is_file():
            self.send(handler, {}, status=404, error="EntryNotFound")
        else:
            data = path.read_bytes()
            headers = {
                "ETag": f'"{hashlib.sha1(data).hexdigest()}"',
                "X-Repo-Commit": self.commit(kind, repo),
            }
            self.send(handler, data, headers=headers)

    def send(
        self,
        handler: BaseHTTPRequestHandler,
        body: Any,
        *,
        status: int = 200,
        error: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        start, end = 0, len(data)
        if status == 200 and (wanted := handler.headers.get("Range")):
            first, _, last = wanted.removeprefix("bytes=").partition("-")
            start, end = int(first), min(end, int(last) + 1) if last else end
            status = 206
        handler.send_response(status)
        handler.send_header("Content-Length", str(end - start))
        for key, value in (headers or {}).items():
            handler.send_header(key, value)
        if error is not None:
            handler.send_header("X-Error-Code", error)
        if status == 206:
            handler.send_header("Content-Range", f"bytes {start}-{end - 1}/{len(data)}")
        handler.end_headers()
        if handler.command != "HEAD":
            handler.wfile.write(data[start:end])


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[FolderHub]:
    """An empty hub; `org/tiny` and what else a test needs are added to it."""
    server = FolderHub(tmp_path / "hub")
    yield server
    server.stop()


@pytest.fixture
def rlnorm(tmp_path: Path, hub: FolderHub) -> Callable[..., subprocess.CompletedProcess[str]]:
    """`rlnorm ARGUMENTS` in a process of its own, whose hub is `hub` and whose cache is new."""

    def run(
        *arguments: str, timeout: float = 240, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        started = time.monotonic()
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "TRANSFORMERS_"))}
        result = subprocess.run(
            [sys.executable, "-m", "rlnorm.launch.cli", *arguments],
            capture_output=True,
            text=True,
            timeout=timeout,
            cwd=tmp_path,
            env=clean
            | {
                "HF_ENDPOINT": hub.url,
                "HF_HOME": str(tmp_path / "home"),
                "HF_HUB_DISABLE_TELEMETRY": "1",
                "NO_PROXY": "127.0.0.1",
                "PYTHONPATH": str(Path(__file__).resolve().parents[3]),
            }
            | environment,
        )
        result.seconds = time.monotonic() - started  # type: ignore[attr-defined]
        return result

    return run
