"""A training run whose user and judge are real HTTP servers: it trains, and closes connections."""

import asyncio
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import yaml
from rich.console import Console

from rlnorm.trainers.config.load import load_config
from rlnorm.trainers.files import read_jsonl
from rlnorm.trainers.record.display import Display
from rlnorm.trainers.run import run_training


class ChatServer:
    """Says one text to every request, keeps connections alive and counts the open ones."""

    def __init__(self, text: str) -> None:
        body = {"choices": [{"message": {"content": text}, "finish_reason": "stop"}]}
        data, lock, server = json.dumps(body).encode(), threading.Lock(), self
        self.open = self.most_open = self.requests = 0

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle(self):
                with lock:
                    server.open += 1
                    server.most_open = max(server.most_open, server.open)
                try:
                    super().handle()  # until the client closes
                finally:
                    with lock:
                        server.open -= 1

            def do_POST(self):
                self.rfile.read(int(self.headers["Content-Length"]))
                with lock:
                    server.requests += 1
                self.send_response(200)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *args):
                return

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def all_closed(self) -> bool:
        """True as soon as no connection is open; False after five seconds."""
        deadline = time.monotonic() + 5.0
        while self.open and time.monotonic() < deadline:
            time.sleep(0.02)
        return self.open == 0

    def stop(self) -> None:
        self._server.daemon_threads = True  # a leaked connection must not hang the test
        self._server.shutdown()
        self._server.block_on_close = False
        self._server.server_close()
        self._thread.join(5)


@pytest.fixture
def servers(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    both = ChatServer("1+1 ?"), ChatServer('{"score": 5}')
    yield both
    for server in both:
        server.stop()


@pytest.mark.slow
def test_a_run_leaves_no_connection_of_its_environment_open(servers, tmp_path):
    user, judge = servers
    environment = {
        "name": "dialogue",
        "turns": 2,
        "scenarios": [{"persona": "a child", "goal": "to add"}],  # the user speaks first
        "user": {"base_url": user.url, "model": "m"},
        "judge": {"base_url": judge.url, "model": "m"},
    }
    overrides = [
        f"rollout.environment={yaml.safe_dump(environment, default_flow_style=True)}",
        "data.train=env:test",
        "data.eval={}",
        "rollout.prompts_per_step=2",
        "rollout.group_size=2",
        "steps=1",
        f"output_dir={tmp_path}",
        "run_name=talk",
    ]
    config = load_config("multi_turn", overrides)

    async def run():
        await run_training(config, Display(1, Console(quiet=True)))
        return user.all_closed(), judge.all_closed()

    closed = asyncio.run(run())
    rows = read_jsonl(tmp_path / "talk" / "metrics.jsonl")
    assert rows[-1]["reward/solved/mean"] == 0.5  # every transcript gets 5 of 10
    assert user.requests >= 256 + 4  # an opening each prompt, and what follows a first turn
    assert min(user.most_open, judge.most_open) >= 1
    assert closed == (True, True)
