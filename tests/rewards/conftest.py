"""A real HTTP server on a free loopback port that replies as a test scripts it."""

import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest


@dataclass
class Reply:
    """One scripted answer. cut: close after that many bytes; drip_s: pause between bytes."""

    body: Any = field(default_factory=dict)
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    wait_s: float = 0.0
    cut: int | None = None
    drip_s: float = 0.0


class ScriptedServer:
    """script(path, payload, number of this request) -> Reply; keeps every (path, payload)."""

    def __init__(self, script: Callable[[str, Any, int], Reply]) -> None:
        self.requests: list[tuple[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.stopping = threading.Event()
        outer, lock = self, threading.Lock()

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                payload = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with lock:
                    outer.requests.append((self.path, payload))
                    outer.headers.append(dict(self.headers))
                    number = len(outer.requests) - 1
                outer.answer(self, script(self.path, payload, number))

            def log_message(self, *args: Any) -> None:
                return

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def answer(self, handler: BaseHTTPRequestHandler, reply: Reply) -> None:
        self.stopping.wait(reply.wait_s)
        data = reply.body if isinstance(reply.body, bytes) else json.dumps(reply.body).encode()
        try:
            handler.send_response(reply.status)
            for name, value in reply.headers.items():
                handler.send_header(name, value)
            handler.send_header("Content-Length", str(len(data)))
            handler.end_headers()
            if reply.drip_s:
                for byte in data:
                    handler.wfile.write(bytes([byte]))
                    if self.stopping.wait(reply.drip_s):
                        return
            else:
                handler.wfile.write(data[: reply.cut])
        except (BrokenPipeError, ConnectionResetError):
            return  # the client under test gave up, as it should
        finally:
            if reply.cut is not None:
                handler.close_connection = True

    def stop(self) -> None:
        self.stopping.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)


@pytest.fixture
def scripted_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., ScriptedServer]]:
    """Start servers; each is stopped at the end of the test."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    started: list[ScriptedServer] = []

    def start(script: Callable[[str, Any, int], Reply]) -> ScriptedServer:
        started.append(ScriptedServer(script))
        return started[-1]

    yield start
    for server in started:
        server.stop()


@pytest.fixture
def reply() -> type[Reply]:
    """The class of scripted answers."""
    return Reply
