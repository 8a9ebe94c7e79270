"""Tiny random models of the supported architectures, and the engines that decode them."""

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    Gemma3TextConfig,
    LlamaConfig,
    Qwen2Config,
    Qwen3Config,
)

from rlnorm.trainers.rollout.cpu_engine.build import BuildError, library

SHAPE = {
    "vocab_size": 61,
    "hidden_size": 42,
    "intermediate_size": 52,
    "num_hidden_layers": 2,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "head_dim": 20,
    "max_position_embeddings": 96,
    "rms_norm_eps": 0.05,  # large, so that leaving it out shows
    # large weights, so that the logits differ by more than rounding
    "initializer_range": 0.25,
}
# scaled at all of its frequencies: none, part and whole
LLAMA3_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 10000.0,
    "factor": 4.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}


def qwen2():
    without = {k: v for k, v in SHAPE.items() if k != "head_dim"}
    return Qwen2Config(**without | {"hidden_size": 48})


def qwen3():
    return Qwen3Config(**SHAPE, tie_word_embeddings=True)


def llama():
    return LlamaConfig(**SHAPE | {"num_key_value_heads": 1}, attention_bias=True, mlp_bias=True)


def llama3():
    return LlamaConfig(**SHAPE | {"num_key_value_heads": 6}, rope_parameters=LLAMA3_ROPE)


def gemma3():
    kinds = ["sliding_attention", "full_attention"]
    return Gemma3TextConfig(**SHAPE, sliding_window=8, layer_types=kinds, query_pre_attn_scalar=20)


CONFIGS = {f.__name__: f for f in (qwen2, qwen3, llama, llama3, gemma3)}


def build(name):
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(CONFIGS[name]()).eval()
    for parameter_name, parameter in model.named_parameters():
        if parameter.ndim == 1:  # biases start at 0 and norms at 1, which would hide their loss
            with torch.no_grad():
                parameter.add_(0.3 * torch.randn_like(parameter))
        assert parameter.isfinite().all(), parameter_name
    model.generation_config.eos_token_id = None
    model.generation_config.pad_token_id = 0
    return model


@pytest.fixture(scope="session")
def models():
    made = {}
    return lambda name: made.setdefault(name, build(name))


@pytest.fixture(scope="session", autouse=True)
def engine_cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RLNORM_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def compiler(engine_cache):
    """Skips what needs the compiled engine where nothing can compile it."""
    try:
        library()
    except BuildError as error:
        pytest.skip(f"the compiled engine needs a C++ compiler: {error}")


@pytest.fixture(params=["torch", "compiled"])
def engine(request):
    if request.param == "compiled":
        request.getfixturevalue("compiler")
    return request.param
