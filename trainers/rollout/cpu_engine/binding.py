"""The compiled engine as an `Engine`: supported models and C interface."""

import ctypes
import logging
from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from rlnorm.trainers.rollout.cpu_engine.build import library
from rlnorm.trainers.rollout.engine import Deadline, Decoded, Group, StopStrings, not_finite, unpack
from rlnorm.trainers.rollout.types import Logprobs, SamplingParams

log = logging.getLogger(__name__)

FAMILY = ("LlamaForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM")
MOST_BYTES = 64 << 20
_STATIC_ROPE = ("default", "linear", "llama3", "yarn")

_FOUND = ctypes.CFUNCTYPE(
    ctypes.c_int32, ctypes.c_int64, ctypes.POINTER(ctypes.c_int32), ctypes.c_int32
)


class _Spec(ctypes.Structure):
    _fields_ = (
        *((n, ctypes.c_int32) for n in ("vocab", "hidden", "layers", "heads", "kv_heads")),
        *((n, ctypes.c_int32) for n in ("head_dim", "ffn")),
        *((n, ctypes.c_float) for n in ("eps", "scale")),
    )


_POINTERS = (
    *("prompt_tokens", "prompt_starts", "row_starts", "seeds", "temperature", "min_p", "top_p"),
    *("top_k", "max_tokens", "has_strings", "end_tokens", "end_starts", "cos_table", "sin_table"),
)
_OUTPUTS = ("tokens", "lengths", "stopped", "logprobs", "scores")


class _Job(ctypes.Structure):
    _fields_ = (
        *((n, ctypes.c_int32) for n in ("groups", "threads", "longest")),
        *((n, ctypes.c_void_p) for n in _POINTERS),
        ("seconds", ctypes.c_double),
        ("cancelled", ctypes.c_void_p),
        ("found_string", _FOUND),
        ("stride", ctypes.c_int64),
        *((n, ctypes.c_void_p) for n in _OUTPUTS),
        ("broken_group", ctypes.c_int32),
        ("broken_position", ctypes.c_int32),
    )


def refusal(model: Any) -> str | None:
    """Why the compiled engine cannot run this model; None when it can."""
    config = model.config
    if type(model).__name__ not in FAMILY:
        return f"{type(model).__name__} is not one of {', '.join(FAMILY)}"
    if model.device.type != "cpu" or model.dtype != torch.float32:
        return f"the weights are {model.dtype} on {model.device}, not float32 on the CPU"
    if config.hidden_act != "silu":
        return f"hidden_act is {config.hidden_act}, not silu"
    if any(kind != "full_attention" for kind in getattr(config, "layer_types", None) or ()):
        return "some layers use sliding-window attention"
    rotary = model.model.rotary_emb
    if rotary.rope_type not in _STATIC_ROPE:
        return f"rope type {rotary.rope_type} is not one of {', '.join(_STATIC_ROPE)}"
    if 2 * rotary.inv_freq.numel() != model.model.layers[0].self_attn.head_dim:
        return "the rotary embedding covers only a part of each head"
    return None


def weight_bytes(model: Any) -> int:
    """Bytes of all parameters; tied parameters count once."""
    return sum(p.numel() * p.element_size() for p in model.parameters())


def _pointer(tensor: Tensor | None) -> int | None:
    return None if tensor is None else tensor.data_ptr()


class CompiledEngine:
    """Decodes a small Llama or Qwen model on CPU threads; completions do not depend on the batch or
    the number of threads, bit for bit."""

    name = "compiled"

    def __init__(self, model: Any, threads: int | None = None) -> None:
        """Raises ValueError for an unsupported model, BuildError if compilation fails."""
        if reason := refusal(model):
            raise ValueError(f"compiled engine: {reason}")
        self.model = model
        self.threads = threads or torch.get_num_threads()
        self._library = ctypes.CDLL(str(library()))
        self._library.rlnorm_create.restype = ctypes.c_void_p
        config, attention = model.config, model.model.layers[0].self_attn
        spec = _Spec(
            vocab=model.lm_head.weight.shape[0],
            hidden=config.hidden_size,
            layers=config.num_hidden_layers,
            heads=config.num_attention_heads,
            kv_heads=config.num_key_value_heads,
            head_dim=attention.head_dim,
            ffn=config.intermediate_size,
            eps=config.rms_norm_eps,
            scale=attention.scaling,
        )
        self._handle = self._library.rlnorm_create(ctypes.byref(spec))
        if not self._handle:
            raise MemoryError("compiled engine: no memory for the packed weights")
        self._rope = (torch.zeros(0, 0), torch.zeros(0, 0))
        self.refresh()

    def __del__(self) -> None:
        if handle := getattr(self, "_handle", None):
            self._library.rlnorm_destroy(ctypes.c_void_p(handle))
            self._handle = None

    @torch.no_grad()
    def refresh(self) -> None:
        body, tensors = self.model.model, []
        for layer in body.layers:
            a, mlp = layer.self_attn, layer.mlp
            tensors += [layer.input_layernorm.weight]
            for linear in (a.q_proj, a.k_proj, a.v_proj):
                tensors += [linear.weight, linear.bias]
            tensors += [getattr(getattr(a, n, None), "weight", None) for n in ("q_norm", "k_norm")]
            tensors += [a.o_proj.weight, a.o_proj.bias, layer.post_attention_layernorm.weight]
            for linear in (mlp.gate_proj, mlp.up_proj, mlp.down_proj):
                tensors += [linear.weight, linear.bias]
        tensors += [body.embed_tokens.weight, body.norm.weight, self.model.lm_head.weight]
        tensors = [None if t is None else t.contiguous() for t in tensors]
        pointers = (ctypes.c_void_p * len(tensors))(*(_pointer(t) for t in tensors))
        self._library.rlnorm_fill(ctypes.c_void_p(self._handle), pointers)

    def _rope_tables(self, positions: int) -> tuple[Float[Tensor, "p e"], Float[Tensor, "p e"]]:
        if self._rope[0].shape[0] < positions:
            rotary = self.model.model.rotary_emb
            angle = torch.arange(positions).float()[:, None] * rotary.inv_freq.float()
            scaling = rotary.attention_scaling
            self._rope = (angle.cos() * scaling, angle.sin() * scaling)
        return self._rope

    def generate(
        self, groups: Sequence[Group], deadline: Deadline, stop: StopStrings | None
    ) -> list[list[Decoded]]:
        owner = [i for i, g in enumerate(groups) for _ in g.seeds]
        if not owner:
            return [[] for _ in groups]
        stride = max(g.max_tokens for g in groups)
        outputs = {
            "tokens": torch.zeros(len(owner), stride, dtype=torch.int32),
            "lengths": torch.zeros(len(owner), dtype=torch.int32),
            "stopped": torch.zeros(len(owner), dtype=torch.int32),
            "logprobs": torch.zeros(len(owner), stride),
        }
        errors: list[BaseException] = []
        found = _string_finder(groups, owner, stop, errors, deadline)
        status, job = self._run(groups, outputs, deadline, found)
        if errors:
            raise errors[0]
        unfinished = int((outputs["lengths"] == 0).sum())
        _raise_for(status, job, deadline, f"{unfinished} of {len(owner)} completions")
        rows = iter(unpack(*(outputs[n] for n in ("tokens", "logprobs", "lengths", "stopped"))))
        return [[next(rows) for _ in g.seeds] for g in groups]

    def score(
        self, sequences: Sequence[tuple[int, ...]], temperature: float, deadline: Deadline
    ) -> list[Logprobs]:
        sampling = SamplingParams(temperature=temperature)
        groups = [
            Group(prompt_ids=s, seeds=(), sampling=sampling, max_tokens=0, end_ids=())
            for s in sequences
        ]
        if not groups:
            return []
        scores = torch.zeros(sum(len(s) for s in sequences))
        status, job = self._run(groups, {"scores": scores}, deadline, _FOUND())
        _raise_for(status, job, deadline, f"the score of {len(groups)} sequences")
        return [part[1:].clone() for part in scores.split([len(s) for s in sequences])]

    def _run(
        self, groups: Sequence[Group], outputs: dict[str, Tensor], deadline: Deadline, found: Any
    ) -> tuple[int, _Job]:
        inputs = _columns(groups)
        longest = max(len(g.prompt_ids) + g.max_tokens for g in groups)
        cosine, sine = self._rope_tables(longest)
        job = _Job(
            groups=len(groups),
            threads=self.threads,
            longest=longest,
            cos_table=cosine.data_ptr(),
            sin_table=sine.data_ptr(),
            seconds=deadline.left_s(),
            cancelled=ctypes.addressof(deadline.cancelled),
            found_string=found,
            stride=outputs["tokens"].shape[1] if "tokens" in outputs else 0,
            **{name: tensor.data_ptr() for name, tensor in (inputs | outputs).items()},
        )
        return self._library.rlnorm_run(ctypes.c_void_p(self._handle), ctypes.byref(job)), job


def _starts(sizes: Sequence[int]) -> Int[Tensor, " starts"]:
    return torch.tensor([0, *sizes], dtype=torch.int64).cumsum(0)


def _columns(groups: Sequence[Group]) -> dict[str, Tensor]:
    def per_group(value: Callable[[Group], float], dtype: torch.dtype) -> Tensor:
        return torch.tensor([value(g) for g in groups], dtype=dtype)

    def flat(value: Callable[[Group], tuple[int, ...]], dtype: torch.dtype) -> Tensor:
        return torch.tensor([t for g in groups for t in value(g)], dtype=dtype)

    return {
        "prompt_tokens": flat(lambda g: g.prompt_ids, torch.int32),
        "prompt_starts": _starts([len(g.prompt_ids) for g in groups]),
        "row_starts": _starts([len(g.seeds) for g in groups]),
        "seeds": flat(lambda g: g.seeds, torch.int64),
        "temperature": per_group(lambda g: g.sampling.temperature, torch.float32),
        "min_p": per_group(lambda g: g.sampling.min_p, torch.float32),
        "top_p": per_group(lambda g: g.sampling.top_p, torch.float64),
        "top_k": per_group(lambda g: min(g.sampling.top_k, 2**31 - 1), torch.int32),
        "max_tokens": per_group(lambda g: g.max_tokens, torch.int32),
        "has_strings": per_group(lambda g: bool(g.sampling.stop), torch.int32),
        "end_tokens": flat(lambda g: g.end_ids, torch.int32),
        "end_starts": _starts([len(g.end_ids) for g in groups]),
    }


def _string_finder(
    groups: Sequence[Group],
    owner: list[int],
    stop: StopStrings | None,
    errors: list[BaseException],
    deadline: Deadline,
) -> Any:
    """The callback that finds stop strings; an exception in it ends the call."""
    if stop is None:
        return _FOUND()

    def found(row: int, tokens: Any, count: int) -> int:
        try:
            return int(stop.found(tokens[:count], groups[owner[row]].sampling.stop))
        except BaseException as error:  # ctypes would print it and continue
            errors.append(error)
            deadline.cancel()
            return 1

    return _FOUND(found)


def _raise_for(status: int, job: _Job, deadline: Deadline, waited_for: str) -> None:
    if status == 1:
        raise deadline.was_late(waited_for)
    if status == 2:
        raise deadline.was_cancelled(waited_for)
    if status == 3:
        raise MemoryError(f"rollout: no memory left for {waited_for}: sample fewer at once")
    if status == 4:
        raise not_finite(job.broken_group, job.broken_position)
