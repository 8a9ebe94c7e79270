"""Hugging Face models and tokenizers: loading, checking, exporting."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from rlnorm.errors import InputError
from rlnorm.trainers.config.resolve import model_path

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def load_tokenizer(path: str) -> Any:
    """The tokenizer; InputError if it has no end token. A pad token is not needed."""
    from transformers import AutoTokenizer

    folder = model_path(path)
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder)
    except Exception as error:  # transformers raises many kinds of errors for a broken file
        raise InputError(f"model.path = {path!r}: no tokenizer: {first_line(error)}") from error
    if not tokenizer("1 + 1").input_ids:  # the result of a folder without tokenizer files
        raise InputError(f"model.path = {path!r}: no tokenizer: the folder has no tokenizer.json")
    if tokenizer.eos_token_id is None:
        raise InputError(
            f"model.path = {path!r}: the tokenizer has no end token; set eos_token in its "
            "tokenizer_config.json"
        )
    return tokenizer


def check_end_token(tokenizer: Any, model_config: Any) -> None:
    """Refuse an end token that the model has no row for: no completion would ever end."""
    rows, end = model_config.get_text_config().vocab_size, tokenizer.eos_token_id
    if end >= rows:
        raise InputError(
            f"model.path = {tokenizer.name_or_path!r}: the tokenizer's end token "
            f"{tokenizer.eos_token!r} is token {end}, but the model embeds {rows}; correct "
            "eos_token in its tokenizer_config.json"
        )


def load_model_config(path: str) -> Any:
    """The Hugging Face config of a model; InputError if transformers cannot use it."""
    from transformers import AutoConfig

    try:
        return AutoConfig.from_pretrained(model_path(path))
    except Exception as error:  # wrong keys and wrong values raise many kinds of errors
        raise InputError(f"model.path = {path!r}: cannot use: {first_line(error)}") from error


def base_model(model: Any) -> Any:
    """The model without peft's wrapper, which it has with LoRA."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


@torch.no_grad()
def merged_weights(model: Any) -> dict[str, torch.Tensor]:
    """Plain weights by Hugging Face name; LoRA is merged in float32, into copies."""
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
    """A LoRA layer's base weight plus its adapters, added in float32, in the dtype of the base."""
    merged = weight.float()
    for adapter in layer.active_adapters:
        a, b = layer.lora_A[adapter].weight.float(), layer.lora_B[adapter].weight.float()
        merged = merged + layer.scaling[adapter] * (b @ a)
    return merged.to(weight.dtype)


def save_pretrained(model: Any, tokenizer: Any, folder: Path) -> None:
    """Write a Hugging Face folder that transformers and vLLM can load."""
    write_model_folder(model, merged_weights(model), tokenizer, folder)


def adapter_weights(model: Any) -> list[tuple[str, torch.nn.Parameter]]:
    """The trained weights of a LoRA model by name, none of a plain model."""
    if not hasattr(model, "get_base_model"):
        return []
    return [(name, p) for name, p in model.named_parameters() if p.requires_grad]


def save_adapter(model: Any, weights: Mapping[str, torch.Tensor], folder: Path) -> None:
    """Write a LoRA model's adapter as peft loads it. weights: those of `adapter_weights`."""
    model.save_pretrained(folder, state_dict=dict(weights), save_embedding_layers=False)
    (folder / "README.md").unlink()  # an empty model card


def write_model_folder(
    model: Any, weights: Mapping[str, torch.Tensor], tokenizer: Any, folder: Path
) -> None:
    """Write plain weights, config and tokenizer; a tensor with two names is written once."""
    from huggingface_hub import save_torch_state_dict

    plain = base_model(model)
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


def first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return " ".join(line.strip() for line in lines[: 2 if lines[0].endswith(":") else 1])


def context_length(model_config: Any) -> int | None:
    """Maximum tokens of a prompt with its completion; None if the model states no limit."""
    context = getattr(model_config.get_text_config(), "max_position_embeddings", None)
    return None if context is None else int(context)
