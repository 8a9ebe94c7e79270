"""The warm start of the multi-turn model: the quick model learns what a second turn looks like.

Supervised on right conversations of the `chain` environment's train split, of which a share of the
turns states the value without working: reinforcement then has something to remove. One row a turn,
conditioned on all before it, token for token as the environment will render it.
"""

from collections.abc import Callable, Sequence

import torch
from transformers import PreTrainedTokenizerFast, Qwen3ForCausalLM

from rlnorm.rewards.environments.chain import demonstrations
from rlnorm.rewards.environments.chat import ChatTokenizer
from rlnorm.rewards.environments.types import Message
from rlnorm.trainers.tasks import shipped_model
from shipped_models.tiny_model import build_tokenizer
from shipped_models.warm_start import Row, WarmStart, batch_loss

STEPS = 120
CONVERSATIONS = 48
LR = 1e-3
SEED = 1


def turns_warm_start(
    *, steps: int | None = None, progress: Callable[[int, float], None] | None = None
) -> WarmStart:
    """Train on from the shipped quick model; the same bits for the same thread count."""
    tokenizer = build_tokenizer()
    chat = ChatTokenizer(tokenizer)
    model = Qwen3ForCausalLM.from_pretrained(shipped_model("quick"), dtype=torch.float32)
    optimizer = torch.optim.AdamW(model.train().parameters(), lr=LR, weight_decay=0.0)
    talks = demonstrations(STEPS * CONVERSATIONS, seed=SEED, turns=(2, 3), worked=0.7)
    loss_value = float("nan")
    for step in range(STEPS if steps is None else steps):
        optimizer.param_groups[0]["lr"] = LR * (1 - step / STEPS)
        batch = talks[step * CONVERSATIONS : (step + 1) * CONVERSATIONS]
        rows = [row for talk in batch for row in turn_rows(talk, chat, tokenizer)]
        loss = batch_loss(model, rows, tokenizer)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        loss_value = loss.item()
        if progress is not None:
            progress(step, loss_value)
    return WarmStart(model=model.eval(), tokenizer=tokenizer, final_loss=loss_value)


def turn_rows(
    talk: Sequence[Message], chat: ChatTokenizer, tokenizer: PreTrainedTokenizerFast
) -> list[Row]:
    """(context, turn) for every assistant turn of a conversation."""
    context = chat.open(talk[:1])
    rows = []
    for index in range(1, len(talk), 2):
        turn = [*tokenizer(talk[index]["content"])["input_ids"], tokenizer.eos_token_id]
        rows.append((list(context), turn))
        context = context + turn
        if index + 1 < len(talk):
            context = context + chat.extend(talk[index + 1 : index + 2], turn[-1])
    return rows
