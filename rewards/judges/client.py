"""JSON over HTTP to a server that may be slow, busy, broken or gone.

Retries only failures that may be temporary: 408, 429, 5xx, timeouts and dropped connections, with
backoff, within one total deadline. Everything else is an error at once. The caller turns
RemoteError into the status infra_error: a server's failure is never a score.
"""

import asyncio
import json
import os
import random
from collections.abc import Mapping
from typing import Any

_RETRIED = {408, 429}
_BACKOFF_S, _BACKOFF_CAP_S = 0.25, 8.0


class RemoteError(RuntimeError):
    """No usable reply; the message gives the server, the number of tries and the reasons."""


class _Temporary(Exception):
    """A failure worth another try, with the wait the server asked for."""

    def __init__(self, reason: str, wait_s: float = 0.0) -> None:
        super().__init__(reason)
        self.wait_s = wait_s


class HttpClient:
    """Posts JSON to paths under one base URL. Usable from one event loop at a time.

    api_key_env names an environment variable, so that no config holds a key. attempt_s bounds one
    try, the deadline of `post` all tries together, from when one of the `concurrency` slots is
    free.
    """

    def __init__(
        self,
        base_url: str,
        *,
        api_key_env: str | None = None,
        retries: int = 5,
        attempt_s: float = 60.0,
        concurrency: int = 32,
        max_reply_bytes: int = 16 << 20,
    ) -> None:
        if not base_url.startswith(("http://", "https://")):
            raise ValueError(f"base_url = {base_url!r}: must start with http:// or https://")
        if api_key_env is not None and not os.environ.get(api_key_env):
            raise ValueError(f"api_key_env = {api_key_env!r}: that environment variable is not set")
        self.base_url = base_url.rstrip("/")
        self._headers = {"Content-Type": "application/json"}
        if api_key_env is not None:
            self._headers["Authorization"] = f"Bearer {os.environ[api_key_env]}"
        self._retries, self._attempt_s = retries, attempt_s
        self._concurrency, self._max_reply_bytes = concurrency, max_reply_bytes
        self._loop: asyncio.AbstractEventLoop | None = None
        self._http: Any = None
        self._slots: asyncio.Semaphore | None = None

    async def post(self, path: str, payload: Mapping[str, Any], *, deadline_s: float) -> Any:
        """The decoded reply; RemoteError when there is none before the deadline."""
        body = json.dumps(payload).encode()
        tries: list[str] = []
        http, slots = self._connect()
        try:
            async with slots, asyncio.timeout(deadline_s):
                for attempt in range(self._retries + 1):
                    try:
                        return await self._attempt(http, path, body)
                    except _Temporary as failure:
                        tries.append(str(failure))
                        if attempt < self._retries:
                            await asyncio.sleep(max(failure.wait_s, self._backoff(attempt)))
        except TimeoutError:
            tries.append(f"the deadline of {deadline_s:g} s")
        seen = ", then ".join(tries[-3:])
        raise RemoteError(f"{self.base_url}{path}: no reply after {len(tries)} tries: {seen}")

    @staticmethod
    def _backoff(attempt: int) -> float:
        return min(_BACKOFF_CAP_S, _BACKOFF_S * 2.0**attempt) * random.uniform(0.5, 1.0)

    async def _attempt(self, http: Any, path: str, body: bytes) -> Any:
        import httpx

        try:
            async with (
                asyncio.timeout(self._attempt_s),
                http.stream("POST", self.base_url + path, content=body) as reply,
            ):
                text = await self._read(reply)
        except (httpx.TransportError, TimeoutError) as error:
            raise _Temporary(f"{type(error).__name__} {error}".strip()) from error
        except httpx.DecodingError as error:
            raise RemoteError(f"{self.base_url}{path}: a garbled reply: {error}") from error
        if reply.status_code in _RETRIED or reply.status_code >= 500:
            raise _Temporary(f"HTTP {reply.status_code}", _retry_after(reply.headers))
        if reply.status_code != 200:
            raise RemoteError(f"{self.base_url}{path}: HTTP {reply.status_code}: {text[:300]!r}")
        try:
            return json.loads(text)
        except (ValueError, RecursionError) as error:
            raise RemoteError(f"{self.base_url}{path}: the reply is not JSON: {error}") from error

    async def _read(self, reply: Any) -> bytes:
        text = bytearray()
        async for chunk in reply.aiter_bytes():
            text += chunk
            if len(text) > self._max_reply_bytes:
                raise RemoteError(f"{self.base_url}: reply over {self._max_reply_bytes} bytes")
        return bytes(text)

    def _connect(self) -> tuple[Any, asyncio.Semaphore]:
        """The connections of the running loop; those of an earlier loop cannot be used again."""
        import httpx

        loop = asyncio.get_running_loop()
        if self._loop is not loop or self._slots is None:
            limits = httpx.Limits(max_connections=self._concurrency)
            self._http = httpx.AsyncClient(headers=self._headers, limits=limits, timeout=None)
            self._slots, self._loop = asyncio.Semaphore(self._concurrency), loop
        return self._http, self._slots

    async def close(self) -> None:
        """Close the connections; the next post opens new ones."""
        if self._http is not None and self._loop is asyncio.get_running_loop():
            await self._http.aclose()
        self._http = self._slots = self._loop = None


def _retry_after(headers: Mapping[str, str]) -> float:
    """Seconds the server asked to wait; 0 if it gives none or a date."""
    value = headers.get("retry-after", "")
    return float(value) if value.replace(".", "", 1).isdecimal() else 0.0
