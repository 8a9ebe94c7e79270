"""A chat model behind any OpenAI-compatible server, with a cache of its replies."""

import asyncio
import hashlib
import json
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rlnorm.rewards.judges.client import HttpClient, RemoteError


@dataclass(frozen=True, slots=True)
class ChatReply:
    """One reply."""

    text: str
    key: str
    """SHA-256 of the request: model, messages, every sampling option."""
    cached: bool


class ChatModel:
    """`ask(messages)` from one event loop at a time.

    Equal requests are sent once, even while the first is in flight; failures are not cached. seed
    and temperature go into the request; whether they make replies equal depends on the server.
    """

    def __init__(
        self,
        *,
        base_url: str,
        model: str,
        api_key_env: str | None = None,
        temperature: float = 0.0,
        seed: int = 0,
        max_tokens: int = 1024,
        deadline_s: float = 120.0,
        attempt_s: float = 60.0,
        retries: int = 5,
        concurrency: int = 32,
        cache_size: int = 100_000,
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        self.model = model
        self._client = HttpClient(
            base_url,
            api_key_env=api_key_env,
            retries=retries,
            attempt_s=attempt_s,
            concurrency=concurrency,
        )
        self._options = {"temperature": temperature, "seed": seed, "max_tokens": max_tokens}
        self._options |= dict(extra or {})
        self._deadline_s, self._cache_size = deadline_s, cache_size
        self._cache: OrderedDict[str, str] = OrderedDict()
        self._asking: dict[str, asyncio.Lock] = {}

    async def ask(self, messages: Sequence[Mapping[str, str]], **options: Any) -> ChatReply:
        """The reply's text; RemoteError when there is none, or one cut off at max_tokens."""
        payload = {"model": self.model, "messages": list(messages), **self._options, **options}
        key = hashlib.sha256(json.dumps(payload, sort_keys=True).encode()).hexdigest()
        lock = self._asking.setdefault(key, asyncio.Lock())
        try:
            async with lock:
                if key in self._cache:
                    self._cache.move_to_end(key)
                    return ChatReply(self._cache[key], key, cached=True)
                reply = await self._client.post(
                    "/v1/chat/completions", payload, deadline_s=self._deadline_s
                )
                text = _content(reply)
                self._remember(key, text)
                return ChatReply(text, key, cached=False)
        finally:
            self._asking.pop(key, None)

    def _remember(self, key: str, text: str) -> None:
        if self._cache_size > 0:
            self._cache[key] = text
        while len(self._cache) > self._cache_size:
            self._cache.popitem(last=False)

    def forget(self, key: str) -> None:
        """Drop an unusable reply from the cache."""
        self._cache.pop(key, None)

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()


def _content(reply: Any) -> str:
    try:
        choice = reply["choices"][0]
        text, finish = choice["message"]["content"], choice.get("finish_reason", "stop")
    except (KeyError, IndexError, TypeError) as error:
        raise RemoteError(f"chat reply without choices[0].message: {str(reply)[:300]}") from error
    if not isinstance(text, str) or finish != "stop":
        raise RemoteError(f"chat reply with finish_reason {finish!r}: {str(text)[:300]!r}")
    return text
