"""Loads and checks the causal LM that a learner trains, with rlnorm's attention and LoRA."""

from collections.abc import Mapping
from typing import Any

import torch

from rlnorm.errors import InputError
from rlnorm.trainers.config.resolve import model_path
from rlnorm.trainers.config.schema import LoraConfig, ModelConfig
from rlnorm.trainers.learner.attention import NAME as ATTENTION
from rlnorm.trainers.models import DTYPES, first_line


def load_model(config: ModelConfig, *, seed: int = 0) -> Any:
    """The causal LM with rlnorm's attention, and with LoRA adapters if configured."""
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM
    from transformers.utils.logging import disable_progress_bar

    source = model_path(config.path)
    disable_progress_bar()
    try:
        # with output_loading_info the result is a pair, which its type does not say
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            source,
            dtype=DTYPES[config.dtype],
            attn_implementation=ATTENTION,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # reported below, by name
        )
    except (OSError, ValueError, SafetensorError) as error:
        raise InputError(f"model.path = {source!r}: cannot load: {first_line(error)}") from None
    model, report = loaded
    _check_complete(source, report)
    model.eval()  # dropout would make the learner's logprobs differ from the sampler's
    return add_lora(model, config.lora, seed) if config.lora else model


def _check_complete(source: str, report: Mapping[str, Any]) -> None:
    """Refuse an incomplete checkpoint, for which transformers only initializes random weights."""
    if names := sorted(map(str, report["missing_keys"])):
        raise InputError(
            f"model.path = {source!r}: {len(names)} missing keys in the weights, for example "
            f"{', '.join(names[:3])}: the checkpoint is incomplete"
        )
    if wrong := sorted(report["mismatched_keys"]):
        name, has, needs = wrong[0]
        raise InputError(
            f"model.path = {source!r}: {len(wrong)} weights do not have the shape that config.json "
            f"asks for, for example {name}: {list(has)}, needs {list(needs)}"
        )


def plain_model(config: ModelConfig) -> ModelConfig:
    """The same model without adapters, as the pool of a LoRA run needs it."""
    return config.model_copy(update={"lora": None})


def add_lora(model: Any, lora: LoraConfig, seed: int) -> Any:
    """Add peft adapters to every linear layer of the body; all other weights are frozen."""
    import peft

    torch.manual_seed(seed)  # random initial values that are the same on every rank
    adapters = peft.LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,  # type: ignore[arg-type]  # peft only divides it by r
        target_modules="all-linear",
        task_type="CAUSAL_LM",
    )
    return peft.get_peft_model(model, adapters)


def enable_checkpointing(model: Any) -> None:
    """Recompute activations in the backward pass. Transformers does so only in training mode, which
    enables dropout, so every dropout is set to 0."""
    model.gradient_checkpointing_enable({"use_reentrant": False})
    model.train()
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
        if isinstance(getattr(module, "attention_dropout", None), float):
            module.attention_dropout = 0.0
