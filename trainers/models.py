"""Hugging Face models and tokenizers: loading, checking, exporting."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from rlnorm.errors import InputError
from rlnorm.trainers.config.check import model_path
from rlnorm.trainers.config.schema import ModelConfig

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def load_tokenizer(path: str) -> Any:
    """The tokenizer, refused when it cannot end a completion or pad a batch."""
    from transformers import AutoTokenizer

    folder = model_path(path)
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder)
    except Exception as error:  # the readers of a broken file have no error in common
        raise InputError(f"model.path = {path!r}: no tokenizer: {_first_line(error)}") from error
    if not tokenizer("1 + 1").input_ids:  # what comes of a folder without tokenizer files
        raise InputError(f"model.path = {path!r}: no tokenizer: the folder has no tokenizer.json")
    if tokenizer.eos_token_id is None:
        raise InputError(
            f"model.path = {path!r}: the tokenizer has no end token; set eos_token in its "
            "tokenizer_config.json"
        )
    if tokenizer.pad_token_id is None:
        raise InputError(
            f"model.path = {path!r}: the tokenizer has no pad token; set pad_token in its "
            "tokenizer_config.json (the end token serves)"
        )
    return tokenizer


def load_model_config(path: str) -> Any:
    """The Hugging Face config of a model, whose architecture must be known to transformers."""
    from transformers import AutoConfig

    try:
        return AutoConfig.from_pretrained(model_path(path))
    except Exception as error:  # wrong keys and wrong values have no error in common
        raise InputError(f"model.path = {path!r}: cannot use: {_first_line(error)}") from error


def load_model(config: ModelConfig, *, path: str | None = None, seed: int = 0) -> Any:
    """The causal LM with rlnorm's attention, LoRA adapters added when asked for."""
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM
    from transformers.utils.logging import disable_progress_bar

    from rlnorm.trainers.learner import attention

    source = model_path(path or config.path)
    disable_progress_bar()
    try:
        model, report = AutoModelForCausalLM.from_pretrained(
            source,
            dtype=DTYPES[config.dtype],
            attn_implementation=attention.NAME,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # told below, by name
        )
    except (OSError, ValueError, SafetensorError) as error:
        raise InputError(f"model.path = {source!r}: cannot load: {_first_line(error)}") from None
    _check_whole(source, report)
    model.eval()  # dropout would make the learner's logprobs differ from the sampler's
    return add_lora(model, config, seed) if config.lora_rank else model


def _check_whole(source: str, report: Mapping[str, Any]) -> None:
    """transformers fills weights that a checkpoint lacks with random ones and goes on."""
    if names := sorted(map(str, report["missing_keys"])):
        raise InputError(
            f"model.path = {source!r}: {len(names)} missing keys in the weights, for example "
            f"{', '.join(names[:3])}: the checkpoint is not whole"
        )
    if wrong := sorted(report["mismatched_keys"]):
        name, has, needs = wrong[0]
        raise InputError(
            f"model.path = {source!r}: {len(wrong)} weights do not have the shape that config.json "
            f"asks for, for example {name}: {list(has)}, needs {list(needs)}"
        )


def plain_model(config: ModelConfig) -> ModelConfig:
    """The same model without adapters: what a pool holds of a LoRA run."""
    return config.model_copy(update={"lora_rank": 0})


def add_lora(model: Any, config: ModelConfig, seed: int) -> Any:
    """Wrap with peft adapters on every linear layer of the body; the rest is frozen."""
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(seed)  # adapters start from seeded noise, the same on every rank
    return get_peft_model(
        model,
        LoraConfig(
            r=config.lora_rank,
            lora_alpha=config.lora_alpha,
            target_modules="all-linear",
            task_type="CAUSAL_LM",
        ),
    )


def enable_checkpointing(model: Any) -> None:
    """Recompute activations in the backward pass. Transformers does so in training mode only, so
    every dropout is set to 0 instead of being switched off by evaluation mode."""
    model.gradient_checkpointing_enable({"use_reentrant": False})
    model.train()
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
        if isinstance(getattr(module, "attention_dropout", None), float):
            module.attention_dropout = 0.0


@torch.no_grad()
def merged_weights(model: Any) -> dict[str, torch.Tensor]:
    """Plain weights by Hugging Face name; LoRA is merged in float32 into copies, never in place."""
    if not hasattr(model, "get_base_model"):
        return dict(model.state_dict(keep_vars=True))
    layers = {name: m for name, m in model.get_base_model().named_modules() if hasattr(m, "lora_A")}
    weights = {}
    for name, tensor in model.get_base_model().state_dict().items():
        if ".lora_" in name or "lora_magnitude" in name:
            continue
        plain = name.replace(".base_layer.", ".")
        owner = layers.get(name.removesuffix(".base_layer.weight"))
        if owner is not None and name.endswith(".base_layer.weight"):
            tensor = merged_layer(owner, tensor)
        weights[plain] = tensor
    return weights


@torch.no_grad()
def merged_layer(layer: Any, weight: torch.Tensor) -> torch.Tensor:
    """A LoRA layer's base weight plus its adapters, added in float32, in the base's dtype."""
    merged = weight.float()
    for adapter in layer.active_adapters:
        a, b = layer.lora_A[adapter].weight.float(), layer.lora_B[adapter].weight.float()
        merged = merged + layer.scaling[adapter] * (b @ a)
    return merged.to(weight.dtype)


def save_pretrained(model: Any, tokenizer: Any, folder: Path) -> None:
    """A Hugging Face folder that transformers and vLLM load as it is."""
    write_model_folder(model, merged_weights(model), tokenizer, folder)


def write_model_folder(
    model: Any, weights: Mapping[str, torch.Tensor], tokenizer: Any, folder: Path
) -> None:
    """Plain weights, config and tokenizer; a tensor that two names share is written once."""
    from huggingface_hub import save_torch_state_dict

    plain = model.get_base_model() if hasattr(model, "get_base_model") else model
    folder.mkdir(parents=True, exist_ok=True)
    seen: set[int] = set()
    state = {}
    for name, tensor in weights.items():
        if tensor.data_ptr() not in seen:
            state[name] = tensor.detach().cpu().contiguous()
        seen.add(tensor.data_ptr())
    save_torch_state_dict(state, folder, metadata={"format": "pt"})
    plain.config.save_pretrained(folder)
    if plain.generation_config is not None:
        plain.generation_config.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return " ".join(line.strip() for line in lines[: 2 if lines[0].endswith(":") else 1])
