"""Batched decoding in plain torch for any Hugging Face causal LM, on any device.

Prompts are padded on the left and prefilled once per group, and their cache rows are repeated; all
rows of a wave then advance together. When a row is finished the last row takes its place, so the
batch shrinks immediately and only moved rows are copied. The order of sums in torch's matrix
products depends on the batch, so a seed determines its completion only up to rounding.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from transformers.cache_utils import DynamicCache, DynamicLayer

from rlnorm.trainers.rollout.engine import Deadline, Decoded, Group, StopStrings, not_finite, unpack
from rlnorm.trainers.rollout.sampling import RowSampling, sample, uniforms
from rlnorm.trainers.rollout.types import Logprobs

_LOGITS_AT_ONCE = 1 << 26
_TOKENS_AT_ONCE = 1 << 14


class RoomyLayer(DynamicLayer):
    """A cache layer that writes into preallocated memory; its parent copies the cache each time."""

    def __init__(self, room: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # transformers
        self.room = room
        self.used = 0

    def update(
        self,
        key_states: Float[Tensor, "b h n e"],
        value_states: Float[Tensor, "b h n _"],
        *_: Any,
        **__: Any,
    ) -> Any:
        """Append the states of new tokens; returns the keys and values of all tokens."""
        if not self.is_initialized:
            b, h, _n, d = key_states.shape
            self._keys = key_states.new_zeros(b, h, self.room, d)
            self._values = value_states.new_zeros(b, h, self.room, value_states.shape[-1])
            self.dtype, self.device, self.is_initialized = key_states.dtype, key_states.device, True
        end = self.used + key_states.shape[2]
        self._keys[:, :, self.used : end] = key_states
        self._values[:, :, self.used : end] = value_states
        self.used = end
        return self._view()

    def _view(self) -> tuple[Tensor, Tensor]:
        self.keys, self.values = self._keys[:, :, : self.used], self._values[:, :, : self.used]
        return self.keys, self.values

    def reorder_cache(self, beam_idx: Int[Tensor, " rows"]) -> None:
        """Keep these rows in this order; rows may be repeated."""
        self._keys, self._values = self._keys[beam_idx], self._values[beam_idx]
        self._view()

    def move_rows(self, source: Int[Tensor, " k"], target: Int[Tensor, " k"], rows: int) -> None:
        """Copy rows source to rows target, then keep the first `rows`."""
        for cache in (self._keys, self._values):
            cache[target, :, : self.used] = cache[source, :, : self.used]
        self._keys, self._values = self._keys[:rows], self._values[:rows]
        self._view()


def _new_cache(config: Any, room: int) -> DynamicCache:
    cache = DynamicCache(config=config)
    cache.layers = [RoomyLayer(room) if type(x) is DynamicLayer else x for x in cache.layers]
    return cache


def _drop_rows(cache: DynamicCache, alive: Bool[Tensor, " b"]) -> Int[Tensor, " rows"]:
    """Move the last live rows to the places of finished rows; returns the new order."""
    rows = int(alive.sum())
    order = torch.arange(rows, device=alive.device)
    target = (~alive[:rows]).nonzero()[:, 0]
    source = alive[rows:].nonzero()[:, 0] + rows
    order[target] = source
    for layer in cache.layers:
        if isinstance(layer, RoomyLayer):
            layer.move_rows(source, target, rows)
        else:
            layer.reorder_cache(order)  # type: ignore[arg-type]  # int64 is a LongTensor
    return order


class _Wave:
    """Rows that are decoded together, with their output."""

    def __init__(self, groups: Sequence[tuple[int, Group]], device: torch.device) -> None:
        self.groups = groups
        of_row = [i for i, (_, g) in enumerate(groups) for _ in g.seeds]
        per_row = [groups[i][1] for i in of_row]
        self.max_tokens = max(g.max_tokens for g in per_row)
        self.group_of_row = torch.tensor(of_row, device=device)
        self.seeds = torch.tensor([s for _, g in groups for s in g.seeds], device=device)
        self.sampling = RowSampling.of([g.sampling for g in per_row], device)
        self.budget = torch.tensor([g.max_tokens for g in per_row], device=device)
        width = max((len(g.end_ids) for g in per_row), default=0)
        ends = [[*g.end_ids, *[-1] * (width - len(g.end_ids))] for g in per_row]
        self.end_ids = torch.tensor(ends, dtype=torch.int64, device=device).view(len(ends), width)
        self.row = torch.arange(len(of_row), device=device)
        self.tokens = torch.zeros(len(of_row), self.max_tokens, dtype=torch.int64, device=device)
        self.logprobs = torch.zeros(self.tokens.shape, device=device)
        self.lengths = torch.zeros(len(of_row), dtype=torch.int64, device=device)
        self.stopped = torch.zeros(len(of_row), dtype=torch.bool, device=device)

    def keep(self, order: Int[Tensor, " rows"]) -> None:
        """Keep these rows in this order; their output so far is not moved."""
        for name in ("seeds", "budget", "end_ids", "row", "group_of_row"):
            setattr(self, name, getattr(self, name)[order])
        self.sampling = self.sampling.select(order)

    def found_strings(self, step: int, stop: StopStrings | None) -> Bool[Tensor, " b"]:
        """The rows whose new token completes one of their stop strings."""
        found = torch.zeros(len(self.row), dtype=torch.bool)
        if stop is not None and any(g.sampling.stop for _, g in self.groups):
            owners, rows = self.group_of_row.tolist(), self.tokens[self.row, : step + 1].tolist()
            for i, owner in enumerate(owners):
                strings = self.groups[owner][1].sampling.stop
                found[i] = bool(strings) and stop.found(rows[i], strings)
        return found.to(self.row.device)

    def append(
        self, logits: Float[Tensor, "b v"], step: int, stop: StopStrings | None
    ) -> Bool[Tensor, " b"]:
        """Sample token number `step` of every row; returns the rows that continue."""
        new, logprobs = sample(logits, self.sampling, uniforms(self.seeds, step))
        broken = ~logprobs.isfinite()
        if broken.any():
            owner = int(self.group_of_row[broken.nonzero()[0, 0]])
            raise not_finite(self.groups[owner][0], step)
        self.tokens[self.row, step] = new
        self.logprobs[self.row, step] = logprobs
        self.lengths[self.row] = step + 1
        stopped = (new[:, None] == self.end_ids).any(dim=1) | self.found_strings(step, stop)
        self.stopped[self.row] = stopped
        return ~stopped & (self.budget > step + 1)

    def results(self) -> Iterator[tuple[int, list[Decoded]]]:
        """(index of the group in the call, its completions) for each group of the wave."""
        columns = (self.tokens, self.logprobs, self.lengths, self.stopped)
        rows = iter(unpack(*(c.cpu() for c in columns)))
        for index, group in self.groups:
            yield index, [next(rows) for _ in group.seeds]


class TorchEngine:
    """Decodes with the model's own forward pass; the model is not changed."""

    name = "torch"

    def __init__(self, model: Any, cache_bytes: int | None = None) -> None:
        """cache_bytes: maximum size of the key-value cache; None for 2 GiB on a CPU and half of the
        free memory on a CUDA device."""
        self.model = model
        self.cache_bytes = cache_bytes

    def refresh(self) -> None:
        """Nothing is cached between calls."""

    def _tokens_in_cache(self) -> int:
        config = self.model.config.get_text_config()
        head_dim = getattr(config, "head_dim", None)
        head_dim = head_dim or config.hidden_size // config.num_attention_heads
        heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
        size: int = 2 * config.num_hidden_layers * heads * head_dim * self.model.dtype.itemsize
        if self.cache_bytes is not None:
            total = self.cache_bytes
        elif self.model.device.type == "cuda":
            total = torch.cuda.mem_get_info(self.model.device)[0] // 2
        else:
            total = 2 << 30
        return max(1, total // size)

    def _waves(self, groups: Sequence[Group]) -> Iterator[list[tuple[int, Group]]]:
        """Batches of groups with similar prompt lengths that fit into the cache."""
        limit = self._tokens_in_cache()
        wave: list[tuple[int, Group]] = []
        rows = prompt = new = 0
        for index in sorted(range(len(groups)), key=lambda i: len(groups[i].prompt_ids)):
            group = groups[index]
            if not group.seeds:
                continue
            prompt, new = len(group.prompt_ids), max(new, group.max_tokens)
            rows += len(group.seeds)
            if wave and rows * (prompt + new) > limit:
                yield wave
                wave, rows, new = [], len(group.seeds), group.max_tokens
            wave.append((index, group))
        if wave:
            yield wave

    @torch.no_grad()
    def generate(
        self, groups: Sequence[Group], deadline: Deadline, stop: StopStrings | None
    ) -> list[list[Decoded]]:
        results: list[list[Decoded]] = [[] for _ in groups]
        for wave_groups in self._waves(groups):
            wave = _Wave(wave_groups, self.model.device)
            self._decode(wave, deadline, stop)
            for index, completions in wave.results():
                results[index] = completions
        return results

    def _decode(self, wave: _Wave, deadline: Deadline, stop: StopStrings | None) -> None:
        prompts = [g.prompt_ids for _, g in wave.groups]
        width = max(len(p) for p in prompts)
        device = self.model.device
        ids = torch.tensor([[0] * (width - len(p)) + list(p) for p in prompts], device=device)
        pad = torch.tensor([width - len(p) for p in prompts], device=device)[:, None]
        columns = torch.arange(width + wave.max_tokens, device=device)
        cache = _new_cache(self.model.config, width + wave.max_tokens)
        logits = self._forward(ids, (columns[:width] - pad).clamp(min=0), columns >= pad, cache)
        for layer in cache.layers:
            layer.reorder_cache(wave.group_of_row)  # type: ignore[arg-type]  # int64, the same
        logits, pad = logits[wave.group_of_row], pad[wave.group_of_row]
        for step in range(wave.max_tokens):
            alive = wave.append(logits, step, stop)
            if not alive.any():
                return
            deadline.check(f"{len(wave.row)} completions at token {step + 1}")
            if not alive.all():
                order = _drop_rows(cache, alive)
                wave.keep(order)
                pad = pad[order]
            new = wave.tokens[wave.row, step][:, None]
            logits = self._forward(new, width + step - pad, columns >= pad, cache)

    def _forward(
        self,
        ids: Int[Tensor, "b n"],
        positions: Int[Tensor, "b n"],
        mask: Bool[Tensor, "b room"],
        cache: DynamicCache,
    ) -> Float[Tensor, "b v"]:
        """Logits of the last token of each row."""
        end = cache.get_seq_length() + ids.shape[1]
        output = self.model(
            input_ids=ids,
            attention_mask=mask[:, :end].long(),
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )
        logits: Tensor = output.logits[:, -1]
        return logits

    @torch.no_grad()
    def score(
        self, sequences: Sequence[tuple[int, ...]], temperature: float, deadline: Deadline
    ) -> list[Logprobs]:
        results = [torch.zeros(0) for _ in sequences]
        vocab_size = self.model.config.get_text_config().vocab_size
        limit = min(_TOKENS_AT_ONCE, _LOGITS_AT_ONCE // vocab_size)
        batch: list[int] = []
        order = sorted(range(len(sequences)), key=lambda i: len(sequences[i]))
        for place, index in enumerate(order):
            batch.append(index)
            nxt = order[place + 1] if place + 1 < len(order) else None
            if nxt is None or (len(batch) + 1) * len(sequences[nxt]) > limit:
                self._score_batch(sequences, batch, temperature, results)
                deadline.check(f"the score of {len(order) - place - 1} more sequences")
                batch = []
        return results

    def _score_batch(
        self,
        sequences: Sequence[tuple[int, ...]],
        batch: list[int],
        temperature: float,
        results: list[Logprobs],
    ) -> None:
        device, width = self.model.device, max(len(sequences[i]) for i in batch)
        rows = [list(sequences[i]) + [0] * (width - len(sequences[i])) for i in batch]
        ids = torch.tensor(rows, device=device)
        mask = torch.tensor([[j < len(sequences[i]) for j in range(width)] for i in batch])
        output = self.model(input_ids=ids, attention_mask=mask.long().to(device), use_cache=False)
        for row, index in enumerate(batch):
            length = len(sequences[index])
            scaled = output.logits[row, : length - 1].float() / temperature
            chosen = scaled.gather(1, ids[row, 1:length, None])[:, 0]
            results[index] = (chosen - scaled.logsumexp(dim=-1)).cpu()
