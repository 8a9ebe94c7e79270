"""The vLLM engine inside its Ray actor; the only module that imports vllm (tested with 0.32).

It depends on internals of vLLM: the V1 sampler's `forward` and `compute_logprobs` (see
`FullVocabSampler`, checked when an engine starts), `Worker.reload_weights`, and the layer of weight
transfer. The GPU transfer (`DeviceSender`) follows vLLM's protocol but has not been run on GPUs.
"""

import copy
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
import vllm
from torch import Tensor
from vllm.distributed.weight_transfer import ParamMeta, WeightSource, WeightTransferTrainerFactory
from vllm.distributed.weight_transfer.ipc_engine import IPCTrainerInitInfo
from vllm.distributed.weight_transfer.nccl_engine import NCCLTrainerInitInfo
from vllm.v1.sample.sampler import Sampler

from rlnorm.trainers.cluster.buckets import Bucket, bucket_digests, digest, shapes_of, unpack
from rlnorm.trainers.config.resolve import model_path
from rlnorm.trainers.rollout.types import GenerateRequest, SamplingParams
from rlnorm.trainers.rollout.vllm_messages import EngineInfo, RawCompletion


class FullVocabSampler(Sampler):
    """vLLM's sampler, but it reports log-softmax(logits / temperature) over the full vocabulary.

    vLLM's `raw_logprobs` ignore the temperature, and its `processed_logprobs` are renormalised over
    the tokens that top-p, top-k and min-p keep; neither fits a learner's ratio (TRL #7269).
    """

    probe_temperature = 1.0
    """Temperature for the logprobs of fixed tokens."""
    _divisor: Tensor | None = None

    def forward(self, logits: Tensor, sampling_metadata: Any, *args: Any, **kwargs: Any) -> Any:
        """Sample, and compute this call's logprobs at its temperature."""
        self._divisor = torch.ones(1, 1, device=logits.device)
        if sampling_metadata.temperature is not None:
            rows = sampling_metadata.temperature.unsqueeze(1)
            # rows with temperature 0 are greedy: their logprobs are computed at temperature 1
            self._divisor = rows.where(rows > 1e-5, 1.0)
        try:
            return super().forward(logits, sampling_metadata, *args, **kwargs)
        finally:
            self._divisor = None

    def compute_logprobs(self, logits: Tensor) -> Tensor:  # type: ignore[override]  # static in vLLM, but called on the instance
        """Called for sampled tokens inside `forward`, and for fixed tokens outside it."""
        divisor = self.probe_temperature if self._divisor is None else self._divisor
        return (logits.float() / divisor).log_softmax(-1)


class WorkerSide:
    """Methods that vLLM adds to each worker process (`worker_extension_cls`)."""

    model_runner: Any
    vllm_config: Any

    def rlnorm_install(self) -> str:
        """Replace the sampler; returns the dtype of the weights."""
        sampler = self.model_runner.sampler
        if type(sampler) is not Sampler:
            raise RuntimeError(
                f"vllm {vllm.__version__}: the model runner samples with {type(sampler).__name__}, "
                "not with vllm.v1.sample.sampler.Sampler; full-vocabulary logprobs need that one"
            )
        own = FullVocabSampler(sampler.logprobs_mode, sampler.use_fp64_gumbel)
        self.model_runner.sampler = own
        return str(self.vllm_config.model_config.dtype).removeprefix("torch.")

    def rlnorm_probe_temperature(self, temperature: float) -> None:
        """Set the temperature for the logprobs of fixed tokens."""
        self.model_runner.sampler.probe_temperature = temperature

    def rlnorm_reload(self, buckets: Sequence[Bucket]) -> None:
        """Load weights in checkpoint format; all in one call, so that layers that vLLM fuses or
        repacks are complete when they are processed."""
        self.reload_weights(weights_iterator=self._with_head(buckets))  # type: ignore[attr-defined]  # a method of the vLLM worker

    def _with_head(self, buckets: Sequence[Bucket]) -> Iterator[tuple[str, Tensor]]:
        # on a CPU vLLM 0.32 repacks a tied head and updates that copy only under its own name
        config = self.vllm_config.model_config.hf_text_config
        alone = "lm_head.weight" not in shapes_of(buckets)
        tied = alone and getattr(config, "tie_word_embeddings", False)
        for bucket in buckets:
            for name, weight in unpack(bucket):
                yield name, weight
                if tied and name.endswith("embed_tokens.weight"):
                    yield "lm_head.weight", weight

    def rlnorm_digests(self, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, str]:
        """Digests of the named parameters that vLLM keeps in checkpoint layout.

        Fused (qkv, gate_up), repacked and tensor-parallel parameters are left out; embeddings may
        be padded at the end.
        """
        found = {}
        parameters = dict(self.model_runner.get_model().named_parameters())
        for name, shape in shapes.items():
            here = parameters.get(name)
            if here is None or here.dim() != len(shape) or here.shape[1:] != torch.Size(shape[1:]):
                continue
            if here.shape[0] == shape[0] or (here.shape[0] > shape[0] and "embed" in name):
                found[name] = digest(here.detach()[: shape[0]].cpu())
        return found


class Engine:
    """One vLLM engine in this process. All calls come from one thread and never overlap, so weights
    do not change during a generation, and vLLM's pause and resume are not needed."""

    def __init__(
        self,
        *,
        model: str,
        node: str,
        dtype: str,
        tensor_parallel_size: int,
        transfer: str,
        engine_options: Mapping[str, Any],
    ) -> None:
        """engine_options: passed to `vllm.LLM` unchanged; they override the defaults here."""
        started = time.monotonic()
        options: dict[str, Any] = {
            "dtype": dtype,
            "enable_prefix_caching": True,
            "generation_config": "auto",
            "worker_extension_cls": f"{__name__}.WorkerSide",
            "logprobs_mode": "raw_logprobs",
        }
        if not torch.cuda.is_available():
            options["enforce_eager"] = True
            # after a chunked prefill vLLM rewinds the request's generator by an offset, which
            # torch's CPU generators do not support
            options["enable_chunked_prefill"] = False
        if transfer != "object_store":
            options["weight_transfer_config"] = vllm.config.WeightTransferConfig(backend=transfer)
        options |= engine_options
        self._llm = vllm.LLM(
            model=model_path(model), tensor_parallel_size=tensor_parallel_size, **options
        )
        config = self._llm.llm_engine.vllm_config.model_config
        self._info = EngineInfo(
            node=node,
            dtype=self._llm.collective_rpc("rlnorm_install")[0],
            max_model_len=config.max_model_len,
            vocab_size=config.get_vocab_size(),
            start_s=time.monotonic() - started,
        )

    def info(self) -> EngineInfo:
        """Properties of this engine."""
        return self._info

    def generate(self, requests: Sequence[GenerateRequest]) -> list[list[RawCompletion]]:
        """Completions of each request, one per seed, in order; all are decoded together."""
        prompts, params = [], []
        for request in requests:
            base = _vllm_sampling(request.sampling)
            for seed in request.seeds:
                one = copy.copy(base)
                one.seed = seed
                prompts.append(vllm.TokensPrompt(prompt_token_ids=list(request.prompt_ids)))
                params.append(one)
        outputs = iter(self._llm.generate(prompts, params, use_tqdm=False))
        return [[_raw(next(outputs).outputs[0]) for _ in r.seeds] for r in requests]

    def score(self, sequences: Sequence[tuple[int, ...]], temperature: float) -> list[np.ndarray]:
        """Log-probabilities of tokens 1.. of fixed sequences."""
        one = vllm.SamplingParams(
            max_tokens=1, temperature=0.0, prompt_logprobs=0, detokenize=False
        )
        prompts = [vllm.TokensPrompt(prompt_token_ids=list(ids)) for ids in sequences]
        self._llm.collective_rpc("rlnorm_probe_temperature", args=(temperature,))
        outputs = self._llm.generate(prompts, [one] * len(prompts), use_tqdm=False)
        given: list[Any] = [o.prompt_logprobs for o in outputs]  # typed as optional
        return [
            np.array(
                [row[t].logprob for row, t in zip(rows[1:], ids[1:], strict=True)], dtype=np.float32
            )
            for rows, ids in zip(given, sequences, strict=True)
        ]

    def load(self, refs: Sequence[Any], names: Sequence[str], deadline_s: float) -> dict[str, str]:
        """Load all weights from the buckets `refs`. Returns digests of the named tensors as they
        are in the model, or as they arrived where vLLM does not keep them in that form."""
        import ray

        buckets = ray.get(list(refs), timeout=deadline_s)
        arrived = bucket_digests(buckets, names)
        self._llm.collective_rpc("rlnorm_reload", args=(buckets,))
        shapes = {name: shape for name, shape in shapes_of(buckets).items() if name in arrived}
        return arrived | self.installed(shapes)

    def installed(self, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, str]:
        """Clear cached prefixes; returns digests of the parameters in the model."""
        if not self._llm.reset_prefix_cache():
            raise RuntimeError("vllm kept its prefix cache: requests are still running")
        found: list[dict[str, str]]
        found = self._llm.collective_rpc("rlnorm_digests", args=(dict(shapes),))
        return found[0]

    def transfer(self, stage: str, payload: Mapping[str, Any] | None) -> None:
        """Run one stage of vLLM's own weight transfer on all workers of this engine, such as
        update_weights; see `EngineClient` for all stages."""
        field = {"init_weight_transfer_engine": "init_info", "update_weights": "update_info"}
        kwargs = {field[stage]: payload} if stage in field else {}
        self._llm.collective_rpc(stage, kwargs=kwargs)


class EngineClient:
    """vLLM's control protocol through Ray actors. Each engine gets its own ranks in the NCCL group;
    vLLM's own Ray client gives all engines the same ranks."""

    def __init__(
        self, engines: Sequence[Any], tensor_parallel_size: int, deadline_s: float
    ) -> None:
        self._engines, self._tp = engines, tensor_parallel_size
        self._deadline_s = deadline_s

    def init_weight_transfer_engine(self, init_info: dict[str, Any]) -> None:
        """Let every engine join the transfer group."""
        infos = [dict(init_info) for _ in self._engines]
        if "rank_offset" in init_info:
            for i, info in enumerate(infos):
                info["rank_offset"] += i * self._tp
        self._all("init_weight_transfer_engine", infos)

    def start_weight_update(self) -> None:
        """Prepare the engines' layers for new weights."""
        self._all("start_weight_update", [None] * len(self._engines))

    def update_weights(self, update_info: Any) -> None:
        """Let every engine receive the weights that are being sent."""
        self._all("update_weights", [update_info] * len(self._engines))

    def finish_weight_update(self, weight_version: str | None = None) -> None:
        """Process the received layers."""
        self._all("finish_weight_update", [None] * len(self._engines))

    def _all(self, stage: str, payloads: Sequence[Any]) -> None:
        import ray

        pairs = zip(self._engines, payloads, strict=True)
        refs = [engine.call.remote("transfer", stage, payload) for engine, payload in pairs]
        ray.get(refs, timeout=self._deadline_s)


class _Weights(WeightSource):
    """A learner rank's weights as vLLM expects them: metadata, then the tensors of each round."""

    def __init__(self, described: Sequence[ParamMeta], replay: Callable[[], Any]) -> None:
        self._described, self._replay = list(described), replay

    def metadata(self) -> list[ParamMeta]:
        return self._described

    def __iter__(self) -> Iterator[tuple[str, Tensor]]:
        return iter(self._replay())


class DeviceSender:
    """The learner's side of vLLM's own transfer (start, update, finish). Every rank has one; rank 0
    sends, the others only take part in gathering."""

    def __init__(
        self,
        *,
        rank: int,
        backend: str,
        engines: Sequence[Any],
        tensor_parallel_size: int,
        master: tuple[str, int],
        deadline_s: float,
        described: Sequence[tuple[str, torch.dtype, tuple[int, ...]]],
        replay: Callable[[], Any],
    ) -> None:
        """described: name, dtype on the wire and shape of every tensor that replay() yields."""
        self._engine = WeightTransferTrainerFactory.trainer_init(
            IPCTrainerInitInfo(rank=rank, packed=True)
            if backend == "ipc"
            else NCCLTrainerInitInfo(
                master_address=master[0],
                master_port=master[1],
                world_size=1 + len(engines) * tensor_parallel_size,
                rank=rank,
            ),
            client=EngineClient(engines, tensor_parallel_size, deadline_s),
            source=_Weights([ParamMeta(*one) for one in described], replay),
        )

    def send(self) -> None:
        """Send the weights once; called on every rank."""
        self._engine.send_weights()


def _vllm_sampling(sampling: SamplingParams) -> vllm.SamplingParams:
    return vllm.SamplingParams(
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        top_k=sampling.top_k,
        min_p=sampling.min_p,
        max_tokens=sampling.max_tokens,
        stop=list(sampling.stop) or None,
        stop_token_ids=list(sampling.stop_token_ids) or None,
        logprobs=0,
        flat_logprobs=True,
        detokenize=bool(sampling.stop),
        skip_special_tokens=False,  # they may be part of a stop string
    )


def _raw(output: Any) -> RawCompletion:
    if output.finish_reason not in ("stop", "length"):
        raise RuntimeError(f"vllm ended a completion with {output.finish_reason!r}")
    if list(output.logprobs.token_ids) != list(output.token_ids):
        raise RuntimeError("vllm returned logprobs of tokens that it did not sample")
    return RawCompletion(
        token_ids=np.asarray(output.token_ids, dtype=np.int64),
        logprobs=np.asarray(output.logprobs.logprobs, dtype=np.float32),
        stopped=output.finish_reason == "stop",
    )
