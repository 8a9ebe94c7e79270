import json

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from rlnorm.trainers.tasks import SHIPPED, generate_split, shipped_model
from shipped_models.tiny_model import build_model, build_tokenizer

USER = {"role": "user", "content": "47-2 +1 *2 ?"}
ASSISTANT = {"role": "assistant", "content": "47-2=45\n\\boxed{45}"}


def render(tokenizer, *messages, prompt=True):
    return tokenizer.apply_chat_template(
        list(messages), add_generation_prompt=prompt, return_dict=False
    )


@pytest.fixture(scope="module")
def tokenizer():
    return build_tokenizer()


@pytest.mark.parametrize(
    "text",
    [
        "47-2=45\n\\boxed{45}",
        "Answer 92",
        " two  spaces\t",
        "ünïcødé 数 🙂",
        "\\boxe",
        "0123456789",
    ],
)
def test_text_comes_back_as_it_went_in(tokenizer, text):
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text


def test_vocabulary_is_bytes_special_tokens_and_merges(tokenizer):
    assert len(tokenizer) == 273 == 256 + 5 + 12
    assert tokenizer.convert_ids_to_tokens(tokenizer("\\boxed{407} Answer 12")["input_ids"]) == [
        *("\\boxed{", "4", "0", "7", "}", "Ġ", "AnswerĠ", "1", "2"),
    ]
    assert len({tokenizer.pad_token_id, tokenizer.eos_token_id}) == 2


def test_chat_template_by_hand(tokenizer):
    tokens = tokenizer.convert_ids_to_tokens(render(tokenizer, {"role": "user", "content": "4+1"}))
    assert tokens == ["<|user|>", "4", "+", "1", "<|end|>", "<|assistant|>"]


def test_a_longer_chat_begins_with_the_tokens_of_a_shorter_one(tokenizer):
    first = render(tokenizer, USER)
    answer = tokenizer(ASSISTANT["content"])["input_ids"]
    both = render(tokenizer, USER, ASSISTANT, prompt=False)
    assert both == [*first, *answer, tokenizer.eos_token_id]
    longer = render(tokenizer, USER, ASSISTANT, USER)
    assert longer == [*both, *first]


def test_model_has_the_stated_size_and_a_seed_repeats_its_bits(tokenizer):
    model = build_model(3, tokenizer)
    assert sum(p.numel() for p in model.parameters()) == 321_984
    state = torch.get_rng_state()
    again = build_model(3, tokenizer)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(
        torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True)
    )
    other = build_model(4, tokenizer).get_input_embeddings().weight
    assert not torch.equal(model.get_input_embeddings().weight, other)


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_folder_loads_as_any_hugging_face_model(name, tokenizer):
    folder = shipped_model(name)
    model = AutoModelForCausalLM.from_pretrained(folder)
    assert model.dtype == torch.bfloat16
    assert model.num_parameters() == 321_984
    assert (folder / "model.safetensors").stat().st_size < 700_000
    loaded = AutoTokenizer.from_pretrained(folder)
    assert loaded.get_vocab() == tokenizer.get_vocab()
    assert render(loaded, USER, ASSISTANT, USER) == render(tokenizer, USER, ASSISTANT, USER)
    assert (loaded.pad_token, loaded.eos_token) == ("<|pad|>", "<|end|>")
    ends = json.loads((folder / "generation_config.json").read_text())
    assert (ends["eos_token_id"], ends["pad_token_id"]) == (loaded.eos_token_id, 0)


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_model_prefers_a_right_sum_to_a_wrong_one(name):
    folder = shipped_model(name)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    right, problems = 0, generate_split("chain", "heldout", 100)
    for problem in problems:
        before, _, _ = problem.demonstration.partition("=")
        result = problem.demonstration.split("\n")[0].split("=")[1]
        ids = render(tokenizer, *problem.messages) + tokenizer(f"{before}={result}")["input_ids"]
        with torch.no_grad():
            chosen = model(torch.tensor([ids])).logits[0].argmax(-1)
        right += chosen[-1 - len(result) : -1].tolist() == ids[-len(result) :]
    assert right >= 70


def test_unknown_shipped_model_names_those_there_are():
    with pytest.raises(ValueError, match="shipped model = 'fast': allowed 'quick', 'graded'"):
        shipped_model("fast")
