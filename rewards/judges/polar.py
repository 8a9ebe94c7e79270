"""POLAR: a reward model that compares a candidate with a reference trajectory, over its server.

Source: arXiv:2507.05197 and the client of InternLM/POLAR. One text per candidate:
    prompt \\n reference <|reward|> prompt \\n candidate [UNUSED_TOKEN_130]
Departures: the markers, which could forge a comparison, are removed from prompt, reference and
candidate; requests are batched and a failure is infra_error for its batch, where the released
client prints the texts, tries eight times in 1.6 s and returns None.
Scores are unbounded and uncalibrated (about 0 for an equal answer, -11 for a wrong one with the
7B model): normalise them within the group, never add them raw to a 0/1 reward.
"""

import asyncio
import math
import time
from collections.abc import Sequence
from typing import Any, Literal, Protocol, cast

from rlnorm.rewards.judges.client import HttpClient, RemoteError
from rlnorm.rewards.types import Sample, Score, Status

_MIDDLE, _END = "<|reward|>", "[UNUSED_TOKEN_130]"
_SERVERS = ("sglang", "vllm", "lmdeploy")


class Tokenizer(Protocol):
    """The tokenizer methods that truncation uses."""

    def encode(self, text: str) -> list[int]:
        """Token ids."""
        ...

    def decode(self, token_ids: list[int], *, skip_special_tokens: bool) -> str:
        """Text."""
        ...


def _text(value: Any) -> str:
    """A text, or messages joined by line ends, without the model's own markers."""
    if not isinstance(value, str):
        value = "\n".join(str(message["content"]) for message in value)
    while _MIDDLE in value or _END in value:
        value = value.replace(_MIDDLE, "").replace(_END, "")
    return str(value)


def join(prompt: str, reference: str, candidate: str) -> str:
    """The model's input."""
    return f"{prompt}\n{reference}{_MIDDLE}{prompt}\n{candidate}{_END}"


def truncate(
    texts: tuple[str, str, str], tokenizer: Tokenizer, max_answer: int, max_total: int
) -> tuple[str, str, str]:
    """Keep the last tokens of each: max_answer of reference and candidate, the rest shared by two
    copies of the prompt; 4 tokens are the markers and line ends."""
    ids = [tokenizer.encode(text) for text in texts]
    ids[1:] = [answer[-max_answer:] for answer in ids[1:]]
    room = (max_total - 4 - len(ids[1]) - len(ids[2])) // 2
    ids[0] = ids[0][-room:] if room > 0 else []
    prompt, reference, candidate = (tokenizer.decode(i, skip_special_tokens=True) for i in ids)
    return prompt, reference, candidate


def read_scores(reply: Any, server: str, count: int) -> list[float]:
    """The scores of one reply in order; RemoteError unless it holds `count` finite numbers."""
    try:
        if server == "sglang":
            values = [item["embedding"][0] for item in reply]
        else:
            items = sorted(reply["data"], key=lambda item: item.get("index", 0))
            values = [_last(item["data"]) for item in items]
        scores = [float(value) for value in values]
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise RemoteError(f"{server} reply of unexpected shape: {str(reply)[:300]}") from error
    if len(scores) != count or not all(math.isfinite(score) for score in scores):
        raise RemoteError(f"{server} reply holds {scores[:8]}: needs {count} finite numbers")
    return scores


def _last(value: Any) -> Any:
    """The pooled number; vLLM and lmdeploy nest it in a vector per token or per text."""
    while isinstance(value, list):
        value = value[-1]
    return value


class PolarReward:
    """Component `polar`; `sample.gold` is the reference, a text or messages.

    server: "sglang" (/classify), "vllm" or "lmdeploy" (/pooling). tokenizer: a name for
    transformers, or an object with encode and decode; without one texts are sent uncut and the
    server must hold them. An answer whose reasoning never ends is scored as an empty one.
    Status `correct` only means that there is a score.
    """

    components = ("polar",)

    def __init__(
        self,
        *,
        base_url: str,
        server: Literal["sglang", "vllm", "lmdeploy"] = "sglang",
        model: str = "POLAR-7B",
        tokenizer: str | Tokenizer | None = None,
        max_answer_tokens: int = 4096,
        max_tokens: int = 16384,
        batch_size: int = 16,
        deadline_s: float = 120.0,
        retries: int = 5,
        api_key_env: str | None = None,
    ) -> None:
        if server not in _SERVERS:
            raise ValueError(f"polar.server = {server!r}: allowed {sorted(_SERVERS)}")
        if isinstance(tokenizer, str):
            from transformers import AutoTokenizer

            # typed to decode batches too, which would give a list
            tokenizer = cast(Tokenizer, AutoTokenizer.from_pretrained(tokenizer))
        self._client = HttpClient(base_url, retries=retries, api_key_env=api_key_env)
        self._server, self._model, self._tokenizer = server, model, tokenizer
        self._max_answer, self._max_tokens = max_answer_tokens, max_tokens
        self._batch_size, self._deadline_s = batch_size, deadline_s

    @staticmethod
    def check_gold(gold: Any) -> None:
        """Raise ValueError if the gold is no reference."""
        if not _is_reference(gold):
            raise ValueError(_no_reference(gold))

    async def score(self, batch: Sequence[Sample]) -> list[Score]:
        """One Score per sample, in order."""
        chunks = [batch[i : i + self._batch_size] for i in range(0, len(batch), self._batch_size)]
        scored = await asyncio.gather(*(self._score_chunk(chunk) for chunk in chunks))
        return [score for chunk in scored for score in chunk]

    async def _score_chunk(self, samples: Sequence[Sample]) -> list[Score]:
        began = time.monotonic()
        good = [sample for sample in samples if _is_reference(sample.gold)]
        found: dict[int, float] = {}
        detail: dict[str, Any] = {"model": self._model}
        failed = Status.INFRA_ERROR
        try:
            if good:
                scores = await self._ask([self._input(sample) for sample in good])
                found = {id(sample): score for sample, score in zip(good, scores, strict=True)}
        except RemoteError as error:
            detail["error"] = str(error)
        seconds = (time.monotonic() - began) / len(samples)
        results = []
        for sample in samples:
            value, note = found.get(id(sample), math.nan), detail
            status = Status.CORRECT if id(sample) in found else failed
            if status is Status.CORRECT and sample.after_reasoning is None:
                status = Status.NO_ANSWER
            if not _is_reference(sample.gold):
                status = Status.GOLD_ERROR
                note = {"error": _no_reference(sample.gold)}
            results.append(
                Score(components={"polar": value}, status=status, seconds=seconds, detail=note)
            )
        return results

    def _input(self, sample: Sample) -> str:
        candidate = sample.after_reasoning or ""
        texts = _text(sample.messages), _text(sample.gold), _text(candidate.strip())
        if self._tokenizer is not None and not isinstance(self._tokenizer, str):
            texts = truncate(texts, self._tokenizer, self._max_answer, self._max_tokens)
        return join(*texts)

    async def _ask(self, texts: list[str]) -> list[float]:
        if self._server == "sglang":
            path, payload = "/classify", {"model": self._model, "text": texts}
        else:
            path, payload = "/pooling", {"model": self._model, "input": texts}
        reply = await self._client.post(path, payload, deadline_s=self._deadline_s)
        return read_scores(reply, self._server, len(texts))

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()


def _no_reference(gold: Any) -> str:
    return f"gold {str(gold)[:100]!r}: needs a text or messages"


def _is_reference(gold: Any) -> bool:
    if isinstance(gold, str):
        return True
    return (
        isinstance(gold, Sequence)
        and bool(gold)
        and all(isinstance(message, dict) and "content" in message for message in gold)
    )
