"""The local pool: sampling in this process, with the compiled engine for models it supports.

The pool reads a model's parameters without copying them. With the learner's model the two share
memory, and a weight sync only needs `refresh`; `load_weights` gives the pool its own tensors. Calls
run one at a time on the pool's thread, so weights never change while it samples.
"""

import asyncio
import copy
import logging
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from rlnorm.trainers.rollout.cpu_engine.binding import (
    MOST_BYTES,
    CompiledEngine,
    refusal,
    weight_bytes,
)
from rlnorm.trainers.rollout.cpu_engine.build import BuildError
from rlnorm.trainers.rollout.engine import Deadline, Decoded, Engine, Group, StopStrings
from rlnorm.trainers.rollout.sampling import check_sampling
from rlnorm.trainers.rollout.torch_engine import TorchEngine
from rlnorm.trainers.rollout.types import GenerateRequest, Logprobs
from rlnorm.types import Completion, FinishReason

log = logging.getLogger(__name__)
T = TypeVar("T")

_MOST_DISAGREEMENT = 1e-3
ENGINES = ("auto", "compiled", "torch")


def twin_of(model: Any) -> Any:
    """A second module with the same parameters, in eval mode and with its own config."""
    if hasattr(model, "peft_config"):
        raise ValueError(
            "LocalPool: model has LoRA adapters: give the pool its own plain model and publish "
            "merged weights with load_weights"
        )
    memo = {id(t): t for t in (*model.parameters(), *model.buffers())}
    twin = copy.deepcopy(model, memo)
    if twin.config._attn_implementation != "sdpa":
        twin.set_attn_implementation("sdpa")
    return twin.eval()


def _disagreement(one: Engine, other: Engine) -> float:
    """Mean difference of two engines' logprobs of a few fixed tokens; inf if one is NaN.

    A large value reveals a faulty build, or an architecture that only seems to be supported.
    """
    size = other.model.get_input_embeddings().num_embeddings
    probe = [tuple((7 * i * i + 3 * i) % size for i in range(24))]
    a, b = (engine.score(probe, 1.0, Deadline(60.0))[0] for engine in (one, other))
    mean = float((a - b).abs().mean())
    return mean if mean == mean else float("inf")


class LocalPool:
    """A `RolloutPool` in this process."""

    def __init__(
        self,
        model: Any,
        *,
        tokenizer: Any = None,
        end_token_ids: Sequence[int] = (),
        device: str | torch.device | None = None,
        dtype: torch.dtype | None = None,
        engine: str = "auto",
        threads: int | None = None,
        deadline_s: float = 600.0,
        cache_bytes: int | None = None,
    ) -> None:
        """model: a Hugging Face causal LM, whose parameters are shared, or a folder or id to load.

        tokenizer: needed for stop strings; its end token is added to those of the model.
        device, dtype: of a model that is loaded; None for the CPU, and for float32 on the CPU and
        the folder's dtype on CUDA. engine: auto uses the compiled engine for small Llama and Qwen
        models on a CPU. threads: of the compiled engine; None for torch.get_num_threads().
        """
        if engine not in ENGINES:
            raise ValueError(f"LocalPool: engine = {engine!r}: choose from {list(ENGINES)}")
        self.policy_version = 0
        self.deadline_s = deadline_s
        self._source, self._device, self._dtype = model, device, dtype
        self._tokenizer, self._end_token_ids = tokenizer, tuple(end_token_ids)
        self._engine_choice, self._threads, self._cache_bytes = engine, threads, cache_bytes
        self._stop = StopStrings(tokenizer.decode) if tokenizer is not None else None
        self._model: Any = None
        self._engine: Engine | None = None
        self._executor: ThreadPoolExecutor | None = None
        self._owns_weights = False

    @property
    def engine_name(self) -> str:
        """The engine in use: torch or compiled."""
        return self._started().name

    async def start(self) -> None:
        """Load or share the model and choose the engine, building it on first use."""
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="rollout")
        await self._call(self._start)

    def _start(self, _deadline: Deadline) -> None:
        source = self._source
        if isinstance(source, str | Path):
            from transformers import AutoModelForCausalLM

            device = torch.device(self._device or "cpu")
            dtype = self._dtype or (torch.float32 if device.type == "cpu" else "auto")
            loaded: Any = AutoModelForCausalLM.from_pretrained(source, dtype=dtype)
            source = loaded.to(device)  # the type of `to` is lost, as transformers wraps it
            self._owns_weights = True
        self._bind(source)

    def _bind(self, model: Any) -> None:
        device = torch.device(self._device or model.device)
        if model.device.type != device.type:
            raise ValueError(f"LocalPool: device = {str(device)!r}: the model is on {model.device}")
        self._model = twin_of(model)
        generation = getattr(model, "generation_config", None)
        ends = getattr(generation, "eos_token_id", None)
        ends = [] if ends is None else [ends] if isinstance(ends, int) else list(ends)
        eos = getattr(self._tokenizer, "eos_token_id", None)
        ends += [*self._end_token_ids, *([] if eos is None else [eos])]
        self._ends = tuple(dict.fromkeys(ends))
        self._engine = self._choose_engine()

    def _choose_engine(self) -> Engine:
        model, plain = self._model, TorchEngine(self._model, self._cache_bytes)
        is_free = self._engine_choice == "auto"
        is_large = weight_bytes(model) > MOST_BYTES
        if self._engine_choice == "torch" or (is_free and (refusal(model) or is_large)):
            return plain
        try:
            compiled = CompiledEngine(model, self._threads)
        except BuildError as error:
            if not is_free:
                raise
            log.warning("rollout: sampling with plain torch, several times slower: %s", error)
            return plain
        difference = _disagreement(compiled, plain)
        if difference < _MOST_DISAGREEMENT:
            return compiled
        message = f"compiled and torch logprobs differ by {difference:.2g} on average"
        if not is_free:
            raise RuntimeError(f"rollout: {message}")
        log.warning("rollout: sampling with plain torch, several times slower: %s", message)
        return plain

    def _started(self) -> Engine:
        if self._engine is None:
            raise RuntimeError("LocalPool: call start() first")
        return self._engine

    async def _call(self, function: Callable[..., T], *arguments: Any) -> T:
        if self._executor is None:
            raise RuntimeError("LocalPool: call start() first")
        deadline = Deadline(self.deadline_s)
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(
                self._executor, partial(function, *arguments, deadline)
            )
        except asyncio.CancelledError:
            deadline.cancel()
            raise

    async def generate(self, requests: Sequence[GenerateRequest]) -> list[list[Completion]]:
        self._started()
        groups = [self._resolve(request, i) for i, request in enumerate(requests)]
        sampled = await self._call(lambda end: self._started().generate(groups, end, self._stop))
        return self._completions(sampled)

    def _resolve(self, request: GenerateRequest, index: int) -> Group:
        where, sampling = f"generate: request {index}", request.sampling
        check_sampling(sampling, where)
        self._check_tokens(request.prompt_ids, where)
        if any(not 0 <= s < 1 << 63 for s in request.seeds):
            raise ValueError(f"{where}: seeds = {request.seeds}: allowed is 0 .. 2**63 - 1")
        if sampling.stop and self._stop is None:
            raise ValueError(f"{where}: sampling.stop = {sampling.stop}: the pool has no tokenizer")
        room = self._context() - len(request.prompt_ids)
        if room < 1:
            raise ValueError(
                f"{where}: the prompt has {len(request.prompt_ids)} tokens and the model's context "
                f"holds {self._context()}, including the completion: shorten or drop the prompt"
            )
        return Group(
            prompt_ids=request.prompt_ids,
            seeds=request.seeds,
            sampling=sampling,
            max_tokens=min(sampling.max_tokens, room),
            end_ids=tuple(dict.fromkeys((*self._ends, *sampling.stop_token_ids))),
        )

    def _context(self) -> int:
        # a few architectures have no limit
        config = self._model.config.get_text_config()
        return getattr(config, "max_position_embeddings", None) or 1 << 31

    def _check_tokens(self, token_ids: Sequence[int], where: str) -> None:
        size = self._model.get_input_embeddings().num_embeddings
        if not token_ids:
            raise ValueError(f"{where}: no tokens: the model needs at least one to start from")
        if min(token_ids) < 0 or max(token_ids) >= size:
            bad = next(t for t in token_ids if not 0 <= t < size)
            raise ValueError(f"{where}: token id {bad}: the model knows 0 .. {size - 1}")

    def _completions(self, groups: list[list[Decoded]]) -> list[list[Completion]]:
        sizes = [len(s.token_ids) for group in groups for s in group]
        # views of one tensor, which is faster than one tensor per completion
        masks = iter(torch.ones(sum(sizes), dtype=torch.bool).split(sizes))
        turns = iter(torch.zeros(sum(sizes), dtype=torch.int64).split(sizes))
        return [
            [
                Completion(
                    token_ids=sampled.token_ids,
                    sampler_logprobs=sampled.logprobs,
                    policy_mask=next(masks),
                    turn_index=next(turns),
                    finish_reason=FinishReason.STOP if sampled.stopped else FinishReason.LENGTH,
                    policy_versions=((0, self.policy_version),),
                )
                for sampled in group
            ]
            for group in groups
        ]

    async def score(
        self, sequences: Sequence[tuple[int, ...]], temperature: float
    ) -> list[Logprobs]:
        self._started()
        if not 0 < temperature < float("inf"):
            raise ValueError(f"score: temperature = {temperature}: allowed is a finite number > 0")
        for i, sequence in enumerate(sequences):
            self._check_tokens(sequence, f"score: sequence {i}")
            if len(sequence) > self._context():
                raise ValueError(
                    f"score: sequence {i} has {len(sequence)} tokens and the model's context holds "
                    f"{self._context()}"
                )
        return await self._call(lambda end: self._started().score(sequences, temperature, end))

    def share(self, model: Any) -> None:
        """Use this model's parameters from the next call on, without a copy."""
        self._source, self._owns_weights = model, False
        if self._executor is not None:
            self._bind(model)

    async def refresh(self, version: int) -> None:
        """Call after the shared parameters have changed in place; version: their new version."""
        await self._call(lambda _deadline: self._started().refresh())
        self.policy_version = version

    async def load_weights(self, weights: Iterable[tuple[str, Tensor]], version: int) -> None:
        """See `RolloutPool.load_weights`; a tied lm_head may be left out."""
        await self._call(self._load_weights, weights)
        self.policy_version = version

    @torch.no_grad()
    def _load_weights(self, weights: Iterable[tuple[str, Tensor]], _deadline: Deadline) -> None:
        self._started()
        if not self._owns_weights:
            # the shared tensors belong to the learner, so this writes to copies
            self._bind(copy.deepcopy(self._model))
            self._owns_weights = True
        own = self._model.state_dict()
        given = dict(weights)
        filled = {own[name].data_ptr() for name in given if name in own}
        missing = [n for n, t in own.items() if n not in given and t.data_ptr() not in filled]
        wrong = [n for n, t in given.items() if n not in own or t.shape != own[n].shape]
        if missing or wrong:
            raise ValueError(
                f"load_weights: missing {missing[:3]} ({len(missing)}), unknown or of another "
                f"shape {wrong[:3]} ({len(wrong)}); nothing was loaded"
            )
        for name, tensor in given.items():
            own[name].copy_(tensor)
        self._started().refresh()

    async def close(self) -> None:
        self._engine = self._model = None
        if self._executor is not None:
            self._executor.shutdown(wait=True)
            self._executor = None
