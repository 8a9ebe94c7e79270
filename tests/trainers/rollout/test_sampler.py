from dataclasses import replace
from typing import ClassVar

import torch

from rlnorm.trainers.rollout.sampler import Sampled, SingleTurn, make_rollout
from rlnorm.trainers.rollout.types import SamplingParams
from rlnorm.trainers.scoring import as_sample
from rlnorm.types import Completion, FinishReason, Prompt, Role


def completion(tokens, mask=None):
    n = len(tokens)
    return Completion(
        token_ids=torch.tensor(tokens),
        sampler_logprobs=torch.zeros(n),
        policy_mask=torch.tensor(mask or [True] * n),
        turn_index=torch.zeros(n, dtype=torch.int64),
        finish_reason=FinishReason.STOP,
        policy_versions=((0, 0),),
    )


class Pool:
    """Answers each seed with the prompt's first token and the seed."""

    policy_version = 0

    async def generate(self, requests):
        return [[completion([r.prompt_ids[0], seed]) for seed in r.seeds] for r in requests]


class Letters:
    """One token a letter; token 25 ends a turn, and the template opens one with `<think>`."""

    eos_token_id, pad_token_id, bos_token_id = 25, None, None
    added_tokens_decoder: ClassVar[dict] = {}
    chat_template = None

    def decode(self, ids, skip_special_tokens):
        assert not skip_special_tokens
        return "".join("<think>" if i == 26 else chr(97 + i) for i in ids)


async def test_one_completion_a_seed_in_order():
    prompts = [Prompt(prompt_id=p, token_ids=(i,)) for i, p in ((1, "a"), (2, "b"))]
    got = await SingleTurn(Pool()).sample(prompts, [(5, 6), (7,)], SamplingParams())
    tokens = [[s.completion.token_ids.tolist() for s in group] for group in got]
    assert tokens == [[[1, 5], [1, 6]], [[2, 7]]]


def test_the_text_is_what_the_policy_wrote():
    sampled = Sampled(completion=completion([0, 1, 2], [True, False, True]), turn_rewards=(0.5,))
    prompt = Prompt(prompt_id="p", token_ids=(1,))
    got = make_rollout(prompt, sampled, "1/p/0", Letters(), role=Role.BASELINE)
    assert (got.text, got.role, got.turn_rewards) == ("ac", Role.BASELINE, (0.5,))
    assert (got.turns, got.failure) == ((), "")


def test_a_rollout_knows_the_tag_that_its_prompt_leaves_open():
    prompt = Prompt(prompt_id="p", token_ids=(1, 24, 26), messages=({"content": "b"},))
    got = make_rollout(prompt, Sampled(completion=completion([0, 2, 25])), "1/p/0", Letters())
    assert (got.text, got.open_tag, got.open_at) == ("ac", "<think>", 0)
    assert as_sample(got, "p").after_reasoning is None


def test_with_turns_the_prompt_of_the_last_one_decides():
    tokens = completion([0, 25, 1, 2, 25], [True, True, False, True, True])
    last = replace(tokens, turn_index=torch.tensor([0, 0, 0, 1, 1]))
    turns = ({"text": "a", "open_tag": ""}, {"text": "<think>c", "open_tag": "<think>"})
    prompt = Prompt(prompt_id="p", token_ids=(1,), messages=({"content": "b"},))
    got = make_rollout(prompt, Sampled(completion=last, turns=turns), "1/p/0", Letters())
    assert (got.text, got.open_tag, got.open_at) == ("ac", "<think>", 1)
    assert as_sample(got, "p").full_text == "a<think>c"
