"""Any Hugging Face causal LM: bad folders are told, LoRA merges exactly, exports load back."""

import asyncio
import json
import shutil

import pytest
import torch
from peft import PeftModel
from rich.console import Console
from safetensors.torch import load_file
from transformers import (
    AutoModelForCausalLM,
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    LlamaConfig,
    LlamaForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from rlnorm.algorithms import resolve_algorithm
from rlnorm.errors import InputError
from rlnorm.trainers.config.load import load_config
from rlnorm.trainers.config.resolve import model_path
from rlnorm.trainers.config.schema import LearnerConfig, LoraConfig, ModelConfig
from rlnorm.trainers.files import read_jsonl
from rlnorm.trainers.learner.embedded import EmbeddedLearner
from rlnorm.trainers.learner.model import load_model
from rlnorm.trainers.models import (
    check_end_token,
    load_model_config,
    load_tokenizer,
    merged_weights,
    save_pretrained,
)
from rlnorm.trainers.prompts import check_tokens
from rlnorm.trainers.record.display import Display
from rlnorm.trainers.run import run_training
from rlnorm.types import Prompt

SHAPE = dict(
    vocab_size=273, hidden_size=32, intermediate_size=48, max_position_embeddings=64,
    num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
)  # fmt: skip
MODELS = {
    "qwen2": lambda: Qwen2ForCausalLM(Qwen2Config(**SHAPE)),
    "qwen3": lambda: Qwen3ForCausalLM(Qwen3Config(**SHAPE, head_dim=8, tie_word_embeddings=True)),
    "llama": lambda: LlamaForCausalLM(LlamaConfig(**SHAPE)),
    "gemma3": lambda: Gemma3ForCausalLM(Gemma3TextConfig(**SHAPE, head_dim=8)),
}


@pytest.fixture(params=MODELS)
def folder(request, tmp_path):
    """A small random model of each family with the shipped tokenizer."""
    torch.manual_seed(0)
    path = tmp_path / request.param
    MODELS[request.param]().save_pretrained(path)
    load_tokenizer("shipped:quick").save_pretrained(path)
    return path


def logits(model):
    with torch.no_grad():
        return model(input_ids=torch.arange(5, 15)[None], use_cache=False).logits


def test_an_exported_model_loads_in_plain_transformers_with_the_same_logits(folder, tmp_path):
    model = load_model(ModelConfig(path=str(folder)))
    save_pretrained(model, load_tokenizer(str(folder)), tmp_path / "out")
    plain = AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype=torch.float32)
    model.set_attn_implementation("sdpa")
    torch.testing.assert_close(logits(plain), logits(model), atol=1e-5, rtol=1e-5)
    assert plain.config.to_dict().get("_attn_implementation") != "rlnorm_varlen"


def test_merged_lora_equals_the_adapted_model_and_leaves_it_alone(folder):
    model = load_model(ModelConfig(path=str(folder), lora=LoraConfig(rank=4, alpha=8)), seed=1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_()
    before = {n: p.clone() for n, p in model.state_dict().items()}
    plain = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    missing = plain.load_state_dict(merged_weights(model), strict=False)
    assert missing.unexpected_keys == []
    model.get_base_model().set_attn_implementation("sdpa")
    torch.testing.assert_close(logits(plain), logits(model), atol=1e-4, rtol=1e-4)
    assert all(torch.equal(before[n], p) for n, p in model.state_dict().items())


@pytest.mark.parametrize("target", ["all-linear", ["q_proj", "mlp.down_proj"]])
async def test_peft_loads_the_adapter_of_a_checkpoint_on_its_base(folder, tmp_path, target):
    config = ModelConfig(path=str(folder), lora=LoraConfig(rank=4, alpha=8, target=target))
    learner = EmbeddedLearner(
        config,
        LearnerConfig(),
        resolve_algorithm("grpo", {}),
        load_tokenizer(str(folder)),
        seed=1,
        device=torch.device("cpu"),
        faults=tmp_path / "faults",
    )
    await learner.start()
    with torch.no_grad():
        for name, parameter in learner.model.named_parameters():
            if "lora_B" in name:
                parameter.normal_()
    (tmp_path / "step").mkdir()
    await learner.save(tmp_path / "step")
    adapter = tmp_path / "step" / "adapter"
    base, merged = (
        AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)
        for path in (folder, tmp_path / "step" / "model")
    )
    assert sorted(path.name for path in adapter.iterdir()) == [
        "adapter_config.json",
        "adapter_model.safetensors",
    ]
    table = json.loads((adapter / "adapter_config.json").read_text())
    assert table["base_model_name_or_path"] == str(folder)
    untouched = logits(base)
    adapted = logits(PeftModel.from_pretrained(base, adapter))
    torch.testing.assert_close(adapted, logits(merged), atol=1e-4, rtol=1e-4)
    assert float((adapted - untouched).abs().max()) > 0.1
    layers = {name.split(".lora_")[0] for name in load_file(adapter / "adapter_model.safetensors")}
    assert len(layers) == (2 if target != "all-linear" else 7) * SHAPE["num_hidden_layers"]


@pytest.mark.parametrize(
    ("target", "wrong"),
    [(["q_proj", "qkv"], "qkv"), (["proj"], "proj"), (["embed_tokens"], "embed_tokens")],
)
def test_a_target_that_names_no_linear_layer_is_refused_before_anything_starts(
    tmp_path, target, wrong
):
    config = load_config("quickstart", [f"output_dir={tmp_path}/runs", "model.lora.rank=2"])
    lora = LoraConfig(rank=2, target=target)
    config = config.model_copy(update={"model": config.model.model_copy(update={"lora": lora})})
    with pytest.raises(InputError) as caught:
        asyncio.run(run_training(config, Display(1, Console(quiet=True))))
    assert str(caught.value) == (
        f"model.lora.target = {target}: {wrong!r} ends the name of no linear layer of the model, "
        "choose from q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj"
    )
    assert not (tmp_path / "runs").exists()


def test_the_head_can_be_a_target_where_it_is_not_the_embedding(tmp_path):
    for tied in (False, True):
        Qwen3ForCausalLM(
            Qwen3Config(**SHAPE, head_dim=8, tie_word_embeddings=tied)
        ).save_pretrained(tmp_path / str(tied))
    lora = LoraConfig(rank=2, target=["lm_head"])
    load_model(ModelConfig(path=str(tmp_path / "False"), lora=lora))
    with pytest.raises(InputError, match="'lm_head' ends the name of no linear layer"):
        load_model(ModelConfig(path=str(tmp_path / "True"), lora=lora))


def test_adapters_start_from_the_seed():
    def first(seed):
        model = load_model(ModelConfig(path="shipped:quick", lora=LoraConfig(rank=2)), seed=seed)
        return next(p for n, p in model.named_parameters() if "lora_A" in n)

    assert torch.equal(first(3), first(3))
    assert not torch.equal(first(3), first(4))


def test_a_missing_folder_and_a_folder_without_a_model_are_told(tmp_path):
    with pytest.raises(InputError, match=r"model.path = '/nowhere': no such folder"):
        model_path("/nowhere")
    with pytest.raises(InputError, match=r"the folder has no config.json"):
        model_path(str(tmp_path))


def without_token(folder, token):
    """A copy of the shipped model whose tokenizer lacks one of its tokens."""
    shutil.copytree(model_path("shipped:quick"), folder)
    path = folder / "tokenizer_config.json"
    table = json.loads(path.read_text())
    table.pop(token)
    path.write_text(json.dumps(table))
    return str(folder)


def test_a_tokenizer_without_an_end_token_is_told(tmp_path):
    with pytest.raises(InputError, match="has no end token"):
        load_tokenizer(without_token(tmp_path / "m", "eos_token"))


def test_a_tokenizer_without_a_pad_token_trains_to_the_same_numbers(tmp_path):
    folder = without_token(tmp_path / "m", "pad_token")
    assert load_tokenizer(folder).pad_token_id is None
    metrics = {}
    for name, path in (("with", "shipped:quick"), ("without", folder)):
        overrides = [f"model.path={path}", f"output_dir={tmp_path}", f"run_name={name}", "steps=2"]
        overrides += ["rollout.prompts_per_step=8", "rollout.group_size=4", "data.train_limit=64"]
        overrides += ["eval_samples=1", "deterministic=true"]
        config = load_config("quickstart", overrides)
        asyncio.run(run_training(config, Display(2, Console(quiet=True))))
        metrics[name] = read_jsonl(tmp_path / name / "metrics.jsonl")[-1]
    timed = ("time/", "throughput/", "seconds_p")
    same = [key for key in metrics["with"] if not any(part in key for part in timed)]
    assert len(same) > 20
    assert {k: metrics["with"][k] for k in same} == {k: metrics["without"][k] for k in same}
    saved = tmp_path / "without" / "checkpoints" / "step_000002" / "model"
    assert load_tokenizer(str(saved)).pad_token_id is None


def load_all(folder):
    load_model_config(folder)
    load_model(ModelConfig(path=folder))
    load_tokenizer(folder)


def change(path, **keys):
    path.write_text(json.dumps({**json.loads(path.read_text()), **keys}))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (
            lambda m: change(m / "config.json", vocab_size=99),
            r"1 weights do not .*\[273, 96\], needs",
        ),
        (lambda m: change(m / "config.json", num_hidden_layers=5), r"cannot use: .*layer_types"),
        (lambda m: (m / "config.json").write_text("[]"), r"cannot use: Unrecognized model"),
        (lambda m: (m / "model.safetensors").write_bytes(b"version 1"), r"cannot load: .*header"),
        (lambda m: (m / "model.safetensors").unlink(), r"cannot load: .*model.safetensors"),
        (lambda m: (m / "tokenizer.json").write_text('{"a": 1}'), r"no tokenizer: "),
        (lambda m: [p.unlink() for p in m.glob("tokenizer*")], r"the folder has no tokenizer.json"),
    ],
    ids=["shapes", "layers", "list", "no weights", "missing", "tokenizer", "no tokenizer"],
)
def test_a_damaged_folder_is_one_line(tmp_path, damage, message):
    folder = tmp_path / "m"
    shutil.copytree(model_path("shipped:quick"), folder)
    damage(folder)
    with pytest.raises(InputError, match=message) as caught:
        load_all(str(folder))
    assert "\n" not in str(caught.value)


def test_a_prompt_that_the_model_cannot_read_is_named():
    config = load_model_config("shipped:quick")
    check_tokens([Prompt(prompt_id="a", token_ids=(0, 272))], config)
    with pytest.raises(InputError, match=r"prompt 'b' .* has token 273, but the model embeds 273"):
        check_tokens([Prompt(prompt_id="b", token_ids=(0, 273))], config)


def test_an_end_token_that_the_model_cannot_write_is_refused():
    config, tokenizer = load_model_config("shipped:quick"), load_tokenizer("shipped:quick")
    check_end_token(tokenizer, config)
    tokenizer.add_special_tokens({"eos_token": "[END]"})
    told = r"the tokenizer's end token '\[END\]' is token 273, but the model embeds 273"
    with pytest.raises(InputError, match=told):
        check_end_token(tokenizer, config)
