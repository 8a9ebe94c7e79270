"""Draws of a step: their seeds, their names, and what is told of their rewards."""

import math

import pytest
import torch
from transformers import AutoModelForCausalLM

from rlnorm.algorithms import resolve_algorithm
from rlnorm.rewards.registry import load_rewards
from rlnorm.rewards.types import Score, Status
from rlnorm.trainers.collect import Collector
from rlnorm.trainers.config.load import load_config
from rlnorm.trainers.config.resolve import build_scorer
from rlnorm.trainers.config.schema import RolloutConfig
from rlnorm.trainers.config.sources import data_sources
from rlnorm.trainers.models import load_tokenizer
from rlnorm.trainers.prompt_stream import PromptStream
from rlnorm.trainers.prompts import load_prompts
from rlnorm.trainers.rollout.local import LocalPool
from rlnorm.trainers.rollout.sampler import SingleTurn
from rlnorm.trainers.rollout.types import GenerateRequest, SamplingParams
from rlnorm.trainers.seeds import derive_seed
from rlnorm.trainers.tasks import shipped_model

SEED = 5
LIMITS = {"max_tokens": 12, "group_size": 2, "deadline_s": 60}


@pytest.fixture(scope="module")
def tokenizer():
    return load_tokenizer("shipped:quick")


@pytest.fixture(scope="module")
def prompts(tokenizer):
    config = load_config("quickstart")
    source, scorer = data_sources(config.data)[0], build_scorer(config)
    rows, _ = load_prompts(
        source, config=config.data, tokenizer=tokenizer, scorer=scorer, limit=None
    )
    return rows[:3]


@pytest.fixture
async def pool(tokenizer):
    model = AutoModelForCausalLM.from_pretrained(shipped_model("quick"), dtype=torch.float32)
    pool = LocalPool(model, tokenizer=tokenizer, deadline_s=60)
    await pool.start()
    yield pool
    await pool.close()


def collector(pool, prompts, tokenizer, reward, *, prompts_per_step, **plan) -> Collector:
    return Collector(
        prompts=PromptStream(prompts, SEED),
        sampler=SingleTurn(pool),
        scorer=load_rewards([{"name": "mine", "function": reward}]),
        algorithm=resolve_algorithm("grpo", {"sample_plan": plan} if plan else {}),
        config=RolloutConfig(prompts_per_step=prompts_per_step, **LIMITS),
        tokenizer=tokenizer,
        seed=SEED,
    )


async def by_length(sample) -> float:
    return float(len(sample.token_ids))


async def test_a_prompt_drawn_again_within_a_step_is_sampled_and_named_anew(
    pool, prompts, tokenizer
):
    # 3 prompts, 7 draws: each twice, one of them three times
    parts = collector(pool, prompts, tokenizer, by_length, prompts_per_step=7)
    groups = (await parts.collect(12)).groups
    rollouts = [r for g in groups for r in g.group.rollouts]
    assert len({g.group.group_id for g in groups}) == 7
    assert len({r.rollout_id for r in rollouts}) == 14
    first = groups[0].group.rollouts[0].prompt.prompt_id
    own = [g for g in groups if g.group.rollouts[0].prompt.prompt_id == first]
    assert [g.group.group_id for g in own[:2]] == [f"12/{first}", f"12.1/{first}"]
    texts = {tuple(r.text for r in g.group.rollouts) for g in own}
    assert len(texts) == len(own)


async def test_first_draws_have_the_seed_of_step_prompt_and_sample(pool, prompts, tokenizer):
    parts = collector(pool, prompts, tokenizer, by_length, prompts_per_step=3)
    groups = (await parts.collect(4)).groups
    for group in groups:
        rollouts = group.group.rollouts
        name = rollouts[0].prompt.prompt_id
        assert [r.rollout_id for r in rollouts] == [f"4/{name}/0", f"4/{name}/1"]
        request = GenerateRequest(
            prompt_ids=rollouts[0].prompt.token_ids,
            seeds=tuple(derive_seed(SEED, 4, name, i) for i in range(2)),
            sampling=SamplingParams(max_tokens=12),
        )
        [alone] = await pool.generate([request])
        for here, there in zip(rollouts, alone, strict=True):
            assert torch.equal(here.completion.token_ids, there.token_ids)


async def test_the_greedy_baseline_of_remax_is_greedy(pool, prompts, tokenizer):
    parts = collector(pool, prompts, tokenizer, by_length, prompts_per_step=3, extra_kind="greedy")
    groups = (await parts.collect(1)).groups
    for group in groups:
        *sampled, extra = group.group.rollouts
        assert [r.role for r in (*sampled, extra)] == ["train", "train", "baseline"]
        greedy = SamplingParams(max_tokens=12, temperature=0.0)
        request = GenerateRequest(prompt_ids=extra.prompt.token_ids, seeds=(99,), sampling=greedy)
        [[likeliest]] = await pool.generate([request])
        assert torch.equal(extra.completion.token_ids, likeliest.token_ids)


class FailsAtFirst:
    """Of 6 scores of the first round 3 time out and 3 are 1; later ones differ within a group."""

    def __init__(self) -> None:
        self.asked = 0

    async def __call__(self, sample) -> Score:
        self.asked += 1
        index = int(sample.id.rpartition("/")[2])
        if self.asked > 6:
            return Score(
                components={"mine": float(index)}, status=Status.CORRECT if index else Status.WRONG
            )
        return Score(components={"mine": 1.0}, status=Status.CORRECT if index else Status.TIMEOUT)


class OneDiffersAtFirst:
    """Of the 3 groups of the first round only one has rewards that differ; later ones all have."""

    def __init__(self) -> None:
        self.asked = 0

    async def __call__(self, sample) -> float:
        self.asked += 1
        return 1.0 if 2 < self.asked <= 6 else float(sample.id.rpartition("/")[2])


async def test_resampling_draws_as_many_prompts_as_are_missing(pool, prompts, tokenizer):
    parts = collector(
        pool, prompts, tokenizer, OneDiffersAtFirst(), prompts_per_step=3, resample=True
    )
    collection = await parts.collect(1)
    assert (len(collection.groups), len(collection.dropped), collection.rounds) == (3, 2, 2)
    assert parts.prompts.cursor == 3 + 2


async def test_reward_metrics_cover_all_rounds_of_a_resampled_step(pool, prompts, tokenizer):
    parts = collector(
        pool, prompts, tokenizer, FailsAtFirst(), prompts_per_step=3, resample=True, max_rounds=3
    )
    collection = await parts.collect(1)
    assert (len(collection.groups), collection.rounds) == (3, 2)
    # the three whose scores were all 1 are kept for the record, marked
    assert [len(g.group.rollouts) for g in collection.dropped] == [2, 2, 2]
    roles = {r.role for g in collection.dropped for r in g.group.rollouts}
    assert roles == {"dropped"}
    assert {r.role for g in collection.groups for r in g.group.rollouts} == {"train"}
    told = collection.reward_metrics
    # 12 scores: 3 timeouts and 3 ones, then 3 zeros and 3 ones
    assert told["reward/mine/timeout_frac"] == 0.25
    assert told["reward/mine/valid_frac"] == 0.75
    assert told["reward/mine/mean"] == pytest.approx(6 / 9)
    assert told["reward/mine/std"] == pytest.approx(math.sqrt(2) / 3)
