"""The SandboxFusion client against a real server."""

import base64
import math

import pytest

from rlnorm.rewards.sandbox import Limits, RemoteSandbox, SandboxError, SandboxStatus


def finished(stdout="", stderr="", code=0, status="Finished", outer="Success"):
    result = {
        "status": status,
        "execution_time": 0.25,
        "return_code": code,
        "stdout": stdout,
        "stderr": stderr,
    }
    return {"status": outer, "message": "", "compile_result": None, "run_result": result}


async def remote_run(url, files, argv, stdin="", limits=None, **options):
    sandbox = RemoteSandbox(url, **options)
    try:
        return await sandbox.run_async(files, argv, stdin, limits)
    finally:
        await sandbox.close()


async def test_what_is_sent_and_what_comes_back(scripted_server, reply):
    server = scripted_server(lambda *_: reply(finished("out\n", "err\n")))
    result = await remote_run(
        server.url,
        {"main.py": "print(1)", "data.bin": b"\x00\xff"},
        ["/usr/bin/python3.11", "-S", "main.py"],
        "in",
        Limits(wall_s=2, memory_bytes=100 << 20),
    )
    path, order = server.requests[0]
    assert path == "/run_code"
    assert order["language"] == "python"
    assert order["code"] == "print(1)"
    assert (order["stdin"], order["run_timeout"], order["memory_limit_MB"]) == ("in", 2, 100)
    assert base64.b64decode(order["files"]["data.bin"]) == b"\x00\xff"
    assert list(order["files"]) == ["data.bin"]
    assert (result.status, result.returncode) == (SandboxStatus.OK, 0)
    assert (result.stdout, result.stderr, result.wall_s) == (b"out\n", b"err\n", 0.25)
    assert math.isnan(result.cpu_s)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (finished(code=1, status="Error", outer="Failed"), SandboxStatus.FAILED),
        (finished(code=1), SandboxStatus.FAILED),
        (finished(code=None, status="TimeLimitExceeded", outer="Failed"), SandboxStatus.TIMEOUT),
        (finished("x" * 11), SandboxStatus.OUTPUT),
    ],
)
async def test_how_a_program_ended(scripted_server, reply, body, status):
    server = scripted_server(lambda *_: reply(body))
    result = await remote_run(
        server.url, {"a.py": ""}, ["python", "a.py"], limits=Limits(output_bytes=10)
    )
    assert result.status is status
    assert len(result.stdout) <= 10


@pytest.mark.parametrize(
    "body",
    [
        {"status": "SandboxError", "message": "no room"},
        {},
        [],
        {"status": "Success"},
        finished(stdout=5),
        finished(code="0"),
    ],
)
async def test_a_failed_server_gives_no_verdict(scripted_server, reply, body):
    server = scripted_server(lambda *_: reply(body))
    with pytest.raises(SandboxError, match="level 2"):
        await remote_run(server.url, {"a.py": ""}, ["python", "a.py"])


async def test_output_that_is_no_text_comes_back(scripted_server, reply):
    server = scripted_server(lambda *_: reply(finished("a\udcff")))
    result = await remote_run(server.url, {"a.py": ""}, ["python", "a.py"])
    assert (result.status, result.stdout) == (SandboxStatus.OK, b"a?")


async def test_a_server_that_never_answers_ends_at_the_deadline(scripted_server, reply):
    server = scripted_server(lambda *_: reply(finished(), wait_s=30))
    with pytest.raises(SandboxError, match="the deadline of 0"):
        await remote_run(
            server.url, {"a.py": ""}, ["python", "a.py"], limits=Limits(wall_s=0.2), overhead_s=0.1
        )


@pytest.mark.parametrize("argv", [["gcc", "a.py"], ["python", "b.py"], ["python", "a.py", "x"]])
async def test_commands_it_cannot_express_are_refused(argv):
    with pytest.raises(ValueError, match="level 2: argv"):
        await remote_run("http://127.0.0.1:9", {"a.py": ""}, argv)
