import pytest
import torch
from transformers import Qwen3Config, Qwen3ForCausalLM

from rlnorm.errors import InputError
from rlnorm.trainers.config.schema import ModelConfig
from rlnorm.trainers.learner.attention import NAME
from rlnorm.trainers.learner.model import enable_checkpointing, load_model, plain_model

SHAPE = {
    "vocab_size": 11, "hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1,
    "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 4,
}  # fmt: skip


@pytest.fixture
def folder(tmp_path):
    Qwen3ForCausalLM(Qwen3Config(**SHAPE, attention_dropout=0.5)).save_pretrained(tmp_path)
    return tmp_path


def test_a_model_is_loaded_with_our_attention_and_without_dropout(folder):
    model = load_model(ModelConfig(path=str(folder), dtype="float32"))
    assert model.config._attn_implementation == NAME
    assert not model.training
    enable_checkpointing(model)
    assert model.training
    assert model.model.layers[0].self_attn.attention_dropout == 0.0


def test_adapters_start_from_the_seed_and_only_they_train(folder):
    config = ModelConfig(path=str(folder), dtype="float32", lora={"rank": 2})
    one, two = load_model(config, seed=1), load_model(config, seed=1)
    trained = [(n, p) for n, p in one.named_parameters() if p.requires_grad]
    assert trained
    assert all("lora_" in name for name, _ in trained)
    other = dict(two.named_parameters())
    assert all(torch.equal(p, other[name]) for name, p in trained)
    assert plain_model(config).lora is None


def test_a_checkpoint_that_lacks_a_weight_is_refused(folder):
    from safetensors.torch import load_file, save_file

    weights = load_file(folder / "model.safetensors")
    del weights["model.norm.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(InputError, match=r"1 missing keys in the weights.* model\.norm\.weight"):
        load_model(ModelConfig(path=str(folder), dtype="float32"))
