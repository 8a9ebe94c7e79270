"""One DeepSpeed rank inside its Ray actor; the only module that imports deepspeed (tested: 0.19).

The model is wrapped in a module whose forward uses the head, so that ZeRO-3 gathers the head for
the fused logprobs and their gradient, as it does for any layer.

DeepSpeed averages gradients over ranks, but the loss is the sum of its parts under global
denominators; each part is therefore multiplied by the world size before its backward pass.
"""

import datetime
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import deepspeed
import torch
import torch.distributed as dist
from deepspeed.utils import safe_get_full_grad
from jaxtyping import Int
from torch import Tensor, nn
from transformers.integrations.deepspeed import HfDeepSpeedConfig

from rlnorm.algorithms import Algorithm
from rlnorm.trainers.cluster.buckets import bucket_digests, digest, pack_buckets, sample_names
from rlnorm.trainers.config.schema import LearnerConfig, ModelConfig
from rlnorm.trainers.learner.core import head_of, microbatch_loss, score_batch, to_device
from rlnorm.trainers.learner.deepspeed_config import engine_config, interface_of
from rlnorm.trainers.learner.model import enable_checkpointing, load_model
from rlnorm.trainers.learner.optimizer import average_into, build_optimizer
from rlnorm.trainers.learner.packing import microbatches, take_rollouts, token_index
from rlnorm.trainers.learner.shares import RankResult, RankShare
from rlnorm.trainers.learner.types import Columns
from rlnorm.trainers.learner.weight_units import WeightUnit, weight_units
from rlnorm.trainers.models import (
    adapter_weights,
    load_tokenizer,
    save_adapter,
    write_model_folder,
)
from rlnorm.types import TokenBatch


class Wrapped(nn.Module):
    """The module given to DeepSpeed: from a microbatch to its loss or columns."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, task: str, batch: TokenBatch, *args: Any, **kwargs: Any) -> Any:
        """task: loss (algorithm) or score (want, max_tokens, kappa)."""
        if task == "loss":
            return microbatch_loss(self.model, batch, *args)
        return score_batch(self.model, batch, *args, **kwargs)


class Rank:
    """The object of one actor; methods are called on all ranks at once, in the same order."""

    def __init__(
        self,
        *,
        model: ModelConfig,
        learner: LearnerConfig,
        algorithm: Algorithm,
        seed: int,
        rank: int,
        world_size: int,
        node: str,
        master: tuple[str, int],
        use_gpu: bool,
        deadline_s: float,
    ) -> None:
        self._config, self._algorithm = learner, algorithm
        self._rank, self._world_size = rank, world_size
        self._device = torch.device("cuda", 0) if use_gpu else torch.device("cpu")
        self._join(node, master, use_gpu, deadline_s)
        self._zero3 = learner.zero_stage == 3
        config = engine_config(model, learner)
        # makes transformers shard weights while loading; kept here, as it only has a weak reference
        self._shard_on_load = HfDeepSpeedConfig(config) if self._zero3 else None
        self._tokenizer_path = model.path
        needs, lora = algorithm.needs, model.lora is not None
        self._engine = self._trained_engine(model, config, seed)
        self._model = self._engine.module.model
        self._reference = None
        if "ref_logprobs" in needs and not lora:
            self._reference = self._frozen_copy(model, config)
        self._proximal, self._proximal_weight = None, 1.0
        if "proximal_logprobs" in needs:
            if lora:
                raise ValueError("proximal_logprobs with model.lora: train full weights")
            self._proximal = self._frozen_copy(model, config)
        self._sampled: dict[str, str] = {}

    def _join(self, node: str, master: tuple[str, int], use_gpu: bool, deadline_s: float) -> None:
        os.environ.setdefault("GLOO_SOCKET_IFNAME", interface_of(node))
        os.environ |= {
            "MASTER_ADDR": master[0],
            "MASTER_PORT": str(master[1]),
            "RANK": str(self._rank),
            "WORLD_SIZE": str(self._world_size),
            "LOCAL_RANK": "0",  # Ray shows each actor its own GPU only
        }
        deepspeed.init_distributed(
            dist_backend="nccl" if use_gpu else "gloo",
            auto_mpi_discovery=False,
            timeout=datetime.timedelta(seconds=deadline_s),
            rank=self._rank,
            world_size=self._world_size,
        )

    def _trained_engine(self, model: ModelConfig, config: Mapping[str, Any], seed: int) -> Any:
        loaded = load_model(model, seed=seed)
        _restore_rotary(loaded)
        if self._config.gradient_checkpointing:
            enable_checkpointing(loaded)
        # build_optimizer distinguishes matrices from vectors, so it needs the module's parameters
        engine, *_ = deepspeed.initialize(
            model=Wrapped(loaded),
            optimizer=build_optimizer(loaded, self._config),
            config=dict(config),
            dist_init_required=False,
        )
        _share_head(engine)
        return engine

    def _frozen_copy(self, model: ModelConfig, config: Mapping[str, Any]) -> nn.Module:
        wrapped = Wrapped(load_model(model)).requires_grad_(False)
        _restore_rotary(wrapped)
        if not self._zero3:
            return wrapped.to(self._device)
        names = ("train_micro_batch_size_per_gpu", "bf16", "zero_optimization")
        frozen = {name: config[name] for name in names if name in config}
        engine: nn.Module
        engine, *_ = deepspeed.initialize(model=wrapped, config=frozen, dist_init_required=False)
        _share_head(engine)
        return engine

    def score(self, share: RankShare, want: frozenset[str]) -> Columns:
        """Columns of this rank's rollouts."""
        columns: dict[str, Tensor] = {}
        own = want - {"ref_logprobs", "proximal_logprobs"}
        if own:
            columns |= self._score(self._engine, share, own, self._algorithm.kappa)
        if "proximal_logprobs" in want:
            columns |= self._score(self._proximal, share, frozenset({"proximal_logprobs"}))
        if "ref_logprobs" in want:
            adapted = self._reference is None
            with self._model.disable_adapter() if adapted else nullcontext():
                module = self._engine if adapted else self._reference
                columns |= self._score(module, share, frozenset({"ref_logprobs"}))
        return columns

    @torch.no_grad()
    def _score(
        self, module: Any, share: RankShare, want: frozenset[str], kappa: float | None = None
    ) -> Columns:
        size = 0 if share.batch is None else len(share.batch.token_ids)
        columns = {name: torch.zeros(size) for name in want}
        for chosen, batch in self._microbatches(share):
            options = {"max_tokens": len(batch.token_ids), "kappa": kappa}
            found = module("score", batch, want, **options)
            if chosen is not None and share.batch is not None:
                tokens = token_index(share.batch, chosen)
                for name, column in found.items():
                    columns[name][tokens] = column
        return columns

    def step(self, share: RankShare, lr: float, algorithm: Mapping[str, Any]) -> RankResult:
        """One optimizer step; DeepSpeed skips a step whose gradient norm is not finite.

        algorithm: state of the driver's Algorithm, whose coefficients may be adaptive.
        """
        self._algorithm.load_state_dict(algorithm)
        for group in self._engine.optimizer.param_groups:
            group["lr"] = lr
        loss, metrics = self._backward(share)
        skipped, grad_norm = self._finish()
        if not skipped:
            self._update_proximal()
        return RankResult(loss=loss, metrics=metrics, grad_norm=grad_norm, skipped=skipped)

    def gradients(self, share: RankShare) -> tuple[float, dict[str, Tensor]]:
        """Loss part and full gradients by name, without a step; for comparing learners."""
        loss, _ = self._backward(share)
        named = [(n, p) for n, p in self._model.named_parameters() if p.requires_grad]
        found = {name: safe_get_full_grad(p).float().cpu().clone() for name, p in named}
        # a backward pass with NaN makes every ZeRO stage discard its accumulated gradients
        self._backward(RankShare(batch=None, filler=share.filler, microbatches=1), poison=True)
        skipped, _ = self._finish()
        assert skipped, "a NaN gradient was not skipped"
        return loss, found if self._rank == 0 else {}

    def _backward(self, share: RankShare, poison: bool = False) -> tuple[float, dict[str, float]]:
        loss, metrics = 0.0, dict[str, float]()
        for i, (chosen, batch) in enumerate(self._microbatches(share)):
            part, parts = self._engine("loss", batch, self._algorithm)
            if chosen is None:
                part = part * 0.0
            else:
                loss += float(part.detach())
                for name, value in parts.items():
                    metrics[name] = metrics.get(name, 0.0) + float(value)
            last = i + 1 == share.microbatches
            if last and (poison or not self._all_finite(loss)):
                part = part * torch.nan
            self._engine.set_gradient_accumulation_boundary(last)
            self._engine.backward(part * self._world_size, scale_wrt_gas=False)
        return loss, metrics

    def _finish(self) -> tuple[bool, float]:
        """The optimizer step: (skipped, gradient norm before clipping)."""
        optimizer = self._engine.optimizer
        if not hasattr(optimizer, "overflow"):
            # the plain optimizer of ZeRO 0 in float32 would accept any gradient; here all ranks
            # have the same reduced gradient
            grads = [p.grad for p in self._model.parameters() if p.grad is not None]
            norm = float(torch.nn.utils.get_total_norm(grads))
            if not torch.isfinite(torch.tensor(norm)):
                self._engine.zero_grad()
                return True, norm
            self._engine.step()
            return False, norm
        self._engine.step()
        if optimizer.overflow:
            return True, float("inf")
        return False, float(self._engine.get_global_grad_norm())

    def _all_finite(self, loss: float) -> bool:
        worst = torch.tensor([0.0 if torch.isfinite(torch.tensor(loss)) else 1.0])
        worst = worst.to(self._device)
        dist.all_reduce(worst, op=dist.ReduceOp.MAX)
        return not worst.item()

    def _microbatches(
        self, share: RankShare
    ) -> Iterator[tuple[Int[Tensor, " _"] | None, TokenBatch]]:
        """(rollouts, microbatch), then (None, filler) up to the common number of microbatches."""
        own: list[Int[Tensor, " _"]] = []
        if share.batch is not None:
            own = microbatches(share.batch, self._config.tokens_per_microbatch)
            for chosen in own:
                yield chosen, to_device(take_rollouts(share.batch, chosen), self._device)
        for _ in range(share.microbatches - len(own)):
            yield None, to_device(share.filler, self._device)

    def _update_proximal(self) -> None:
        if self._proximal is not None:  # ZeRO-3 shards both models in the same way
            slow, fast = _shards(self._proximal), _shards(self._engine)
            self._proximal_weight = average_into(slow, fast, self._proximal_weight)

    def full_weights(self, bucket_mb: float) -> Iterator[tuple[str, Tensor]]:
        """All weights by Hugging Face name, with LoRA merged into copies; under ZeRO-3 all ranks
        gather one bucket at a time."""
        held: list[WeightUnit] = []
        size, limit = 0, bucket_mb * 2**20
        for unit in weight_units(self._model):
            if held and size + unit.nbytes > limit:
                yield from self._gathered(held)
                held, size = [], 0
            held.append(unit)
            size += unit.nbytes
        yield from self._gathered(held)

    @torch.no_grad()
    def _gathered(self, units: Sequence[WeightUnit]) -> list[tuple[str, Tensor]]:
        parameters = [p for unit in units for p in unit.parameters]
        with deepspeed.zero.GatheredParameters(parameters, enabled=self._zero3):
            full = [(u.name, u.value()) for u in units]
            # under ZeRO-3 the gathered memory is freed after this block
            return [(n, w.clone() if self._zero3 else w) for n, w in full]

    def put_weights(
        self, version: int, bucket_mb: float, dtype: torch.dtype
    ) -> tuple[list[Any], dict[str, str]]:
        """Rank 0 puts buckets into the object store; returns references and sampled digests."""
        import ray

        weights = self.full_weights(bucket_mb)
        if self._rank != 0:
            for _ in weights:
                pass
            return [], {}
        names = sample_names([unit.name for unit in weight_units(self._model)], version)
        refs, digests = [], dict[str, str]()
        for bucket in pack_buckets(weights, bucket_mb=bucket_mb, dtype=dtype):
            refs.append(ray.put(bucket))
            digests |= bucket_digests([bucket], names)
        return refs, digests

    def connect_device(self, options: Mapping[str, Any]) -> None:
        """Join the group of vLLM's own weight transfer to the engines' GPUs."""
        from rlnorm.trainers.rollout.vllm_engine import DeviceSender

        self._wire_dtype = options["dtype"]
        self._shapes = {u.name: u.shape for u in weight_units(self._model)}
        # a tied head is also sent under its own name, since an engine may keep a copy of it
        self._tied = {n for n in self._shapes if n.endswith("embed_tokens.weight")}
        if "lm_head.weight" in self._shapes or not self._model.config.tie_word_embeddings:
            self._tied = set()
        described = [
            (wire, self._wire_dtype, shape)
            for name, shape in self._shapes.items()
            for wire in self._wire_names(name)
        ]
        rest = {name: value for name, value in options.items() if name != "dtype"}
        self._sender = DeviceSender(
            rank=self._rank, described=described, replay=self._replay, **rest
        )

    def send_device(self, version: int) -> tuple[dict[str, str], dict[str, tuple[int, ...]]]:
        """Send all weights; returns digests and shapes of the sampled tensors as sent."""
        finite = [torch.isfinite(shard).all() for shard in _shards(self._model)]
        if not self._all_finite(0.0 if bool(torch.stack(finite).all()) else float("nan")):
            raise FloatingPointError("weights: NaN or infinity, nothing was sent")
        self._sampled = dict.fromkeys(sample_names(list(self._shapes), version), "")
        self._sender.send()
        return self._sampled, {name: self._shapes[name] for name in self._sampled}

    def _replay(self) -> Iterator[tuple[str, Tensor]]:
        for name, weight in self.full_weights(bucket_mb=256.0):
            sent = weight.to(self._wire_dtype)
            if name in self._sampled:
                self._sampled[name] = digest(sent)
            for wire in self._wire_names(name):
                yield wire, sent

    def _wire_names(self, name: str) -> tuple[str, ...]:
        return (name, "lm_head.weight") if name in self._tied else (name,)

    def save(self, folder: str, state: Mapping[str, Any]) -> None:
        """`model/` and `adapter/` by rank 0, `trainer_state/` by every rank."""
        here, weights = Path(folder), dict[str, Tensor]()
        for name, weight in self.full_weights(bucket_mb=256.0):
            if self._rank == 0:  # other ranks only take part in gathering
                # under ZeRO the weights are views of one flat storage, which safetensors rejects
                weights[name] = weight.cpu().clone()
        adapter = self._adapter()
        if self._rank == 0:
            if adapter:
                save_adapter(self._model, adapter, here / "adapter")
            tokenizer = load_tokenizer(self._tokenizer_path)
            write_model_folder(self._model, weights, tokenizer, here / "model")
            (here / "trainer_state").mkdir()
            saved = {**state, "world_size": self._world_size, "zero_stage": self._config.zero_stage}
            (here / "trainer_state" / "learner.json").write_text(json.dumps(saved))
        dist.barrier()
        self._engine.save_checkpoint(str(here / "trainer_state"), tag="ranks", save_latest=False)
        if self._proximal is not None:
            kept = [shard.cpu() for shard in _shards(self._proximal)]
            path = here / "trainer_state" / f"proximal_{self._rank:03d}.pt"
            torch.save({"weight": self._proximal_weight, "tensors": kept}, path)

    @torch.no_grad()
    def _adapter(self) -> dict[str, Tensor]:
        """The full weights of the adapters; under ZeRO-3 all ranks gather them."""
        named = adapter_weights(self._model)
        with deepspeed.zero.GatheredParameters([p for _, p in named], enabled=self._zero3):
            return {name: p.detach().cpu().clone() for name, p in named}

    @torch.no_grad()
    def load(self, folder: str) -> None:
        """Load what `save` wrote."""
        state = Path(folder) / "trainer_state"
        loaded, _ = self._engine.load_checkpoint(str(state), tag="ranks")
        if loaded is None:
            raise RuntimeError(f"{state}: no DeepSpeed state that rank {self._rank} can read")
        if self._proximal is not None:
            path = state / f"proximal_{self._rank:03d}.pt"
            kept = torch.load(path, map_location="cpu", weights_only=True)
            for shard, tensor in zip(_shards(self._proximal), kept["tensors"], strict=True):
                shard.copy_(tensor)
            self._proximal_weight = kept["weight"]


def _shards(module: nn.Module) -> list[Tensor]:
    """What this rank holds of each parameter."""
    return [getattr(p, "ds_tensor", p) for p in module.parameters()]


def _restore_rotary(model: nn.Module) -> None:
    """Restore rotary frequencies in float32. Sharding on load casts all buffers to the weights'
    dtype, and in bfloat16 the angle of position 1,000 is wrong by more than a radian."""
    for module in model.modules():
        if "RotaryEmbedding" in type(module).__name__ and hasattr(module, "config"):
            for name, exact in type(module)(module.config).named_buffers():
                setattr(module, name, exact.to(getattr(module, name).device))


def _share_head(engine: Any) -> None:
    weight = head_of(engine.module.model).weight
    if hasattr(weight, "ds_id"):
        deepspeed.zero.register_external_parameter(engine.module, weight)
