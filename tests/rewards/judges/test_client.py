"""Retries, deadlines and refusals against a real server that misbehaves on purpose."""

import asyncio
import time

import pytest

from rlnorm.rewards.judges import client as client_module
from rlnorm.rewards.judges.client import HttpClient, RemoteError


@pytest.fixture(autouse=True)
def short_backoff(monkeypatch):
    monkeypatch.setattr(client_module, "_BACKOFF_S", 0.01)


async def post(url, deadline_s=5.0, **options):
    client = HttpClient(url, **options)
    try:
        return await client.post("/v1/x", {"ask": 1}, deadline_s=deadline_s)
    finally:
        await client.close()


def first_then_good(reply, *bad):
    return lambda path, payload, number: bad[number] if number < len(bad) else reply({"good": 1})


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
async def test_passing_failures_are_tried_again(scripted_server, reply, status):
    server = scripted_server(first_then_good(reply, reply({}, status), reply({}, status)))
    assert await post(server.url) == {"good": 1}
    assert server.requests == [("/v1/x", {"ask": 1})] * 3


@pytest.mark.parametrize("status", [400, 401, 403, 404, 422])
async def test_other_refusals_are_not(scripted_server, reply, status):
    server = scripted_server(first_then_good(reply, reply({"why": "bad model"}, status)))
    with pytest.raises(RemoteError, match=f"HTTP {status}.*bad model"):
        await post(server.url)
    assert len(server.requests) == 1


async def test_cut_connections_are_tried_again(scripted_server, reply):
    cut = reply({"text": "x" * 1000}, cut=100)
    server = scripted_server(first_then_good(reply, cut, reply({}, cut=0)))
    assert await post(server.url) == {"good": 1}
    assert len(server.requests) == 3


async def test_a_slow_try_is_given_up_and_repeated(scripted_server, reply):
    server = scripted_server(first_then_good(reply, reply({}, wait_s=30)))
    began = time.monotonic()
    assert await post(server.url, attempt_s=0.2) == {"good": 1}
    assert time.monotonic() - began < 3


async def test_a_dripping_reply_does_not_outlive_its_try(scripted_server, reply):
    server = scripted_server(first_then_good(reply, reply({"text": "x" * 500}, drip_s=0.1)))
    assert await post(server.url, attempt_s=0.3) == {"good": 1}


async def test_the_deadline_bounds_all_tries_together(scripted_server, reply):
    server = scripted_server(lambda *_: reply({}, wait_s=30))
    began = time.monotonic()
    with pytest.raises(RemoteError, match="then the deadline of 0"):
        await post(server.url, deadline_s=0.5, attempt_s=0.2, retries=100)
    assert 0.4 < time.monotonic() - began < 2


async def test_tries_are_counted(scripted_server, reply):
    server = scripted_server(lambda *_: reply({}, 503))
    with pytest.raises(RemoteError, match="after 3 tries: HTTP 503, then HTTP 503"):
        await post(server.url, retries=2)
    assert len(server.requests) == 3


async def test_retry_after_is_obeyed(scripted_server, reply):
    busy = reply({}, 429, headers={"Retry-After": "0.4"})
    server = scripted_server(first_then_good(reply, busy))
    began = time.monotonic()
    await post(server.url)
    assert time.monotonic() - began >= 0.4


@pytest.mark.parametrize("body", [b"<html>", b"", b'{"cut": ', b"\xff\xfe"])
async def test_malformed_replies_are_errors_at_once(scripted_server, reply, body):
    server = scripted_server(lambda *_: reply(body))
    with pytest.raises(RemoteError, match="is not JSON"):
        await post(server.url)
    assert len(server.requests) == 1


async def test_an_endless_reply_is_refused(scripted_server, reply):
    server = scripted_server(lambda *_: reply(b"x" * 100_000))
    with pytest.raises(RemoteError, match="over 1000 bytes"):
        await post(server.url, max_reply_bytes=1000)


async def test_nobody_listening():
    with pytest.raises(RemoteError, match="ConnectError"):
        await post("http://127.0.0.1:9", retries=1)


async def test_concurrency_is_bounded(scripted_server, reply):
    server = scripted_server(lambda *_: reply({}, wait_s=0.3))
    client = HttpClient(server.url, concurrency=2)
    began = time.monotonic()
    # six requests of 0.3 s, two at a time; waiting for a slot does not eat the deadline of 0.8 s
    await asyncio.gather(*(client.post("/", {}, deadline_s=0.8) for _ in range(6)))
    assert time.monotonic() - began >= 0.9
    await client.close()


async def test_cancelling_passes_through(scripted_server, reply):
    server = scripted_server(lambda *_: reply({}, wait_s=30))
    task = asyncio.create_task(post(server.url))
    await asyncio.sleep(0.1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def test_one_client_serves_loop_after_loop(scripted_server, reply):
    server = scripted_server(lambda *_: reply({"good": 1}))
    client = HttpClient(server.url)

    async def once():
        result = await client.post("/", {}, deadline_s=5)
        await client.close()
        return result

    assert [asyncio.run(once()) for _ in range(2)] == [{"good": 1}] * 2


async def test_the_key_comes_from_the_environment(scripted_server, reply, monkeypatch):
    monkeypatch.setenv("JUDGE_KEY", "k-123")
    server = scripted_server(lambda *_: reply({}))
    await post(server.url, api_key_env="JUDGE_KEY")
    assert server.headers[0]["Authorization"] == "Bearer k-123"
    monkeypatch.delenv("JUDGE_KEY")
    with pytest.raises(ValueError, match="'JUDGE_KEY': that environment variable is not set"):
        HttpClient(server.url, api_key_env="JUDGE_KEY")


def test_the_url_is_checked():
    with pytest.raises(ValueError, match="base_url = 'localhost:8000'"):
        HttpClient("localhost:8000")


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"body": b"no gzip", "headers": {"Content-Encoding": "gzip"}}, "a garbled reply"),
        ({"body": b"[" * 100_000}, "the reply is not JSON"),
    ],
)
async def test_what_cannot_be_read_is_an_error_at_once(scripted_server, reply, bad, message):
    server = scripted_server(lambda *_: reply(**bad))
    with pytest.raises(RemoteError, match=message):
        await post(server.url)
    assert len(server.requests) == 1


async def test_a_retry_after_that_is_no_number_is_not_obeyed(scripted_server, reply):
    busy = reply({}, 429, headers={"Retry-After": "\u00b2"})  # a digit to str.isdigit
    server = scripted_server(first_then_good(reply, busy))
    assert await post(server.url) == {"good": 1}
