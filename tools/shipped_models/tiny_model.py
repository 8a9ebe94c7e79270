"""The 321,984-parameter Qwen3-architecture model and its tokenizer of 273 tokens, before training.

The vocabulary is the 256 bytes, five special tokens and twelve merges that make `\\boxed{` and
`Answer ` one token each. Digits are split off one by one before merging. The head dimension is 32
because vLLM on CPU has no attention kernel for 24.
"""

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

PAD, END = "<|pad|>", "<|end|>"
ROLES = ("system", "user", "assistant")
CONTEXT_TOKENS = 1024
CHAT_TEMPLATE = (
    "{% for message in messages %}<|{{ message['role'] }}|>{{ message['content'] }}<|end|>"
    "{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
# Ġ is the byte-level alphabet's space
_MERGES = (
    *(("\\", "b"), ("o", "x"), ("e", "d"), ("\\b", "ox"), ("\\box", "ed"), ("\\boxed", "{")),
    *(("A", "n"), ("s", "w"), ("e", "r"), ("An", "sw"), ("Answ", "er"), ("Answer", "Ġ")),
)


def build_tokenizer() -> PreTrainedTokenizerFast:
    """Byte-level BPE with a chat template whose turns concatenate token for token."""
    special = [PAD, END, *(f"<|{role}|>" for role in ROLES)]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    merged = ["".join(pair) for pair in _MERGES]
    vocabulary = {token: index for index, token in enumerate([*special, *alphabet, *merged])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=list(_MERGES)))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        eos_token=END,
        additional_special_tokens=special[2:],
        chat_template=CHAT_TEMPLATE,
        clean_up_tokenization_spaces=False,
        model_max_length=CONTEXT_TOKENS,
    )


def build_model(seed: int, tokenizer: PreTrainedTokenizerFast) -> Qwen3ForCausalLM:
    """Random float32 weights, the same bits for the same seed; the global generator stays put."""
    config = Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=96,
        num_hidden_layers=3,
        intermediate_size=256,
        num_attention_heads=3,
        num_key_value_heads=1,
        head_dim=32,
        max_position_embeddings=CONTEXT_TOKENS,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        dtype="float32",
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Qwen3ForCausalLM(config)
