"""Loads and checks the causal LM that a learner trains, with rlnorm's attention and LoRA."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from rlnorm.errors import InputError
from rlnorm.rewards.data.hub import HubName
from rlnorm.trainers.config.resolve import local_or_hub, model_path
from rlnorm.trainers.config.schema import LoraConfig, ModelConfig
from rlnorm.trainers.learner.attention import NAME as ATTENTION
from rlnorm.trainers.models import DTYPES, first_line, load_model_config


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
    if config.lora is None:
        return model
    return add_lora(model, config.lora, seed, base_name=_base_name(config.path))


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


def check_lora(config: ModelConfig) -> None:
    """Refuse a model.lora.target that names no layer, without loading the weights."""
    from transformers import AutoModelForCausalLM

    if config.lora is not None and config.lora.target != "all-linear":
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(load_model_config(config.path))
        _check_target(model, config.lora.target)


def _check_target(model: Any, target: str | list[str]) -> None:
    layers = [name for name, m in model.named_modules() if isinstance(m, torch.nn.Linear)]
    if model.config.tie_word_embeddings:  # an adapter on the head would change the embedding too
        layers = [n for n in layers if model.get_submodule(n) is not model.get_output_embeddings()]
    for ending in target:
        if not any(name == ending or name.endswith(f".{ending}") for name in layers):
            known = ", ".join(dict.fromkeys(name.rpartition(".")[2] for name in layers))
            raise InputError(
                f"model.lora.target = {target}: {ending!r} ends the name of no linear layer of "
                f"the model, choose from {known}"
            )


def _base_name(path: str) -> str:
    """What an adapter's config names as its base: a hub id without commit, or the folder."""
    found = local_or_hub(path)
    return found.repo if isinstance(found, HubName) else str(Path(found).absolute())


def add_lora(model: Any, lora: LoraConfig, seed: int, *, base_name: str = "") -> Any:
    """Add peft adapters to the targeted linear layers; all other weights are frozen.

    base_name: the base model that the saved adapter's config names.
    """
    import peft

    if lora.target != "all-linear":
        _check_target(model, lora.target)
    torch.manual_seed(seed)  # random initial values that are the same on every rank
    adapters = peft.LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,  # type: ignore[arg-type]  # peft only divides it by r
        target_modules=lora.target,
        task_type="CAUSAL_LM",
    )
    adapted = peft.get_peft_model(model, adapters)
    adapters.base_model_name_or_path = base_name
    return adapted


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
