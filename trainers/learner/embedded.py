"""The learner of a single process: plain torch on the CPU or on one GPU."""

import copy
import json
from collections.abc import AsyncIterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rlnorm.algorithms import Algorithm
from rlnorm.trainers.config.schema import LearnerConfig, ModelConfig
from rlnorm.trainers.learner.core import microbatch_loss, save_fault, score_batch, to_device
from rlnorm.trainers.learner.model import enable_checkpointing, load_model
from rlnorm.trainers.learner.optimizer import average_into, build_optimizer
from rlnorm.trainers.learner.packing import microbatches, take_rollouts
from rlnorm.trainers.learner.types import Columns
from rlnorm.trainers.models import adapter_weights, merged_weights, save_adapter, save_pretrained
from rlnorm.types import StepResult, TokenBatch


class EmbeddedLearner:
    """A `Learner` with one model and one optimizer in this process."""

    def __init__(
        self,
        model: ModelConfig,
        learner: LearnerConfig,
        algorithm: Algorithm,
        tokenizer: Any,
        *,
        seed: int,
        device: torch.device,
        faults: Path,
    ) -> None:
        """faults: folder for the batches of skipped steps."""
        self.policy_version = 0
        self.device = device
        self._model_config, self._config = model, learner
        self._algorithm, self._tokenizer = algorithm, tokenizer
        self._seed, self._faults = seed, faults
        self._proximal_weight = 1.0
        self.model: Any = None
        self._optimizer: Any = None
        self._reference: Any = None
        self._proximal: Any = None

    async def start(self) -> None:
        """Load the model and the optimizer, and the frozen models that the algorithm needs."""
        self.model = load_model(self._model_config, seed=self._seed).to(self.device)
        if self._config.gradient_checkpointing:
            enable_checkpointing(self.model)
        self._optimizer = build_optimizer(self.model, self._config)
        needs, lora = self._algorithm.needs, self._model_config.lora is not None
        if "ref_logprobs" in needs and not lora:
            self._reference = copy.deepcopy(self.model).requires_grad_(False)
        if "proximal_logprobs" in needs:
            self._proximal = copy.deepcopy(self.model).requires_grad_(False)

    async def score(self, batch: TokenBatch, want: frozenset[str]) -> Columns:
        budget, kappa = self._config.tokens_per_microbatch, self._algorithm.kappa
        columns: dict[str, Tensor] = {}
        if only := want & {"ref_logprobs"}:
            adapted = self._reference is None
            with self.model.disable_adapter() if adapted else nullcontext():
                model = self.model if adapted else self._reference
                columns |= score_batch(model, batch, only, max_tokens=budget)
        if only := want & {"proximal_logprobs"}:
            columns |= score_batch(self._proximal, batch, only, max_tokens=budget)
        own = want - {"ref_logprobs", "proximal_logprobs"}
        if own:
            columns |= score_batch(self.model, batch, own, max_tokens=budget, kappa=kappa)
        return columns

    async def step(self, batch: TokenBatch, lr: float) -> StepResult:
        for group in self._optimizer.param_groups:
            group["lr"] = lr
        self._optimizer.zero_grad(set_to_none=True)
        loss, metrics = self.backward(batch)
        trained = [p for p in self.model.parameters() if p.requires_grad]
        grad_norm = float(torch.nn.utils.clip_grad_norm_(trained, self._config.grad_clip))
        skipped = not (torch.isfinite(torch.tensor([loss, grad_norm])).all())
        if skipped:
            save_fault(batch, self._faults, self.policy_version)
        else:
            self._optimizer.step()
            self._update_proximal()
            self.policy_version += 1
        return StepResult(
            policy_version=self.policy_version,
            loss=loss,
            grad_norm=grad_norm,
            skipped=skipped,
            metrics=metrics,
        )

    def backward(self, batch: TokenBatch) -> tuple[float, dict[str, float]]:
        """Accumulate the gradient of the batch; returns loss and metrics."""
        loss, metrics = 0.0, dict[str, float]()
        for chosen in microbatches(batch, self._config.tokens_per_microbatch):
            micro = to_device(take_rollouts(batch, chosen), self.device)
            part, parts = microbatch_loss(self.model, micro, self._algorithm)
            part.backward()
            loss += float(part.detach())
            for name, value in parts.items():
                metrics[name] = metrics.get(name, 0.0) + float(value)
        return loss, metrics

    async def weights(self) -> AsyncIterator[list[tuple[str, Tensor]]]:
        """All weights in one bucket, as the pool shares this process's memory."""
        yield list(merged_weights(self.model).items())

    async def save(self, folder: Path) -> None:
        save_pretrained(self.model, self._tokenizer, folder / "model")
        if adapter := dict(adapter_weights(self.model)):
            save_adapter(self.model, adapter, folder / "adapter")
        state = folder / "trainer_state"
        state.mkdir()
        tensors = {
            "weights": dict(self.model.state_dict()),
            "optimizer": self._optimizer.state_dict(),
            "proximal": None if self._proximal is None else self._proximal.state_dict(),
        }
        torch.save(tensors, state / "learner.pt")
        numbers = {"policy_version": self.policy_version, "proximal_weight": self._proximal_weight}
        (state / "learner.json").write_text(json.dumps(numbers))

    async def load(self, folder: Path) -> None:
        state = folder / "trainer_state"
        tensors = torch.load(state / "learner.pt", map_location=self.device, weights_only=True)
        self.model.load_state_dict(tensors["weights"])
        self._optimizer.load_state_dict(tensors["optimizer"])
        if self._proximal is not None:
            self._proximal.load_state_dict(tensors["proximal"])
        numbers = json.loads((state / "learner.json").read_text())
        self.policy_version = numbers["policy_version"]
        self._proximal_weight = numbers["proximal_weight"]

    async def close(self) -> None:
        self.model = self._optimizer = self._reference = self._proximal = None
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def _update_proximal(self) -> None:
        if self._proximal is not None:
            slow, fast = self._proximal.parameters(), self.model.parameters()
            self._proximal_weight = average_into(slow, fast, self._proximal_weight)
