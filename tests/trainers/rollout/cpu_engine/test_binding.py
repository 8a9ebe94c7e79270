import copy
import itertools
import logging

import pytest
import torch

from rlnorm.trainers.rollout.cpu_engine import build
from rlnorm.trainers.rollout.cpu_engine.binding import refusal
from rlnorm.trainers.rollout.local import LocalPool
from rlnorm.trainers.rollout.types import GenerateRequest, SamplingParams


async def started(model, **options):
    pool = LocalPool(model, **options)
    await pool.start()
    return pool


def many_requests():
    """Prompts of 1 to 60 tokens, 0 to 9 seeds each, some with cuts: 135 rows in all."""
    return [
        GenerateRequest(
            prompt_ids=tuple((7 * i + j) % 61 for j in range(1 + 2 * i)),
            seeds=tuple(range(100 * i, 100 * i + i % 10)),
            sampling=SamplingParams(
                max_tokens=5 + i, temperature=(1.0, 0.7, 0.0)[i % 3], top_p=(1.0, 0.9)[i % 2]
            ),
        )
        for i in range(30)
    ]


async def test_results_are_the_same_bits_on_any_number_of_threads(compiler, models):
    results = []
    for threads in (1, 2, 5):
        pool = await started(models("llama"), engine="compiled", threads=threads)
        groups = await pool.generate(many_requests())
        assert [len(g) for g in groups] == [i % 10 for i in range(30)]
        rows = list(itertools.chain.from_iterable(groups))
        results.append([(c.token_ids.tolist(), c.sampler_logprobs.tolist()) for c in rows])
        await pool.close()
    assert results[0] == results[1] == results[2]
    assert len(results[0]) == 135


async def test_sampled_logprobs_are_the_scored_ones_to_the_last_bit(compiler, models):
    pool = await started(models("qwen3"), engine="compiled", threads=2)
    prompt = tuple(range(40))
    request = GenerateRequest(
        prompt_ids=prompt,
        seeds=tuple(range(50)),
        sampling=SamplingParams(max_tokens=30, temperature=0.9, top_k=20),
    )
    [completions] = await pool.generate([request])
    scores = await pool.score([(*prompt, *c.token_ids.tolist()) for c in completions], 0.9)
    for c, score in zip(completions, scores, strict=True):
        assert torch.equal(score[len(prompt) - 1 :], c.sampler_logprobs)
    await pool.close()


async def test_auto_takes_the_compiled_engine_only_where_it_serves(compiler, models, monkeypatch):
    for name, engine in (("qwen3", "compiled"), ("gemma3", "torch")):
        pool = await started(models(name))
        assert pool.engine_name == engine
        await pool.close()
    monkeypatch.setattr("rlnorm.trainers.rollout.local.MOST_BYTES", 1000)
    pool = await started(models("qwen3"))
    assert pool.engine_name == "torch"
    await pool.close()


async def test_asking_for_the_compiled_engine_where_it_cannot_be_is_an_error(models):
    pool = LocalPool(models("gemma3"), engine="compiled")
    with pytest.raises(ValueError, match="Gemma3ForCausalLM is not one of LlamaForCausalLM"):
        await pool.start()
    await pool.close()


def test_refusals_name_the_reason(models):
    assert refusal(models("llama3")) is None
    assert "bfloat16" in refusal(models("qwen3").__class__(models("qwen3").config).bfloat16())


async def test_without_a_compiler_the_pool_samples_with_torch(
    models, monkeypatch, tmp_path, caplog
):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    with caplog.at_level(logging.WARNING, logger="rlnorm.trainers.rollout.local"):
        pool = await started(models("qwen3"))
    assert pool.engine_name == "torch"
    assert "no C++ compiler (g++, clang++, c++) on the path" in caplog.text
    [[completion]] = await pool.generate(
        [GenerateRequest(prompt_ids=(1,), seeds=(0,), sampling=SamplingParams(max_tokens=3))]
    )
    assert len(completion.token_ids) == 3
    await pool.close()


@pytest.mark.parametrize("flags", ["-mno-avx512f", "-mno-avx512f -mno-avx2 -mno-fma"])
async def test_narrower_vectors_give_the_same_completions(
    compiler, models, monkeypatch, tmp_path, flags
):
    """Other processors: 8 and 4 lanes a vector instead of 16."""
    request = GenerateRequest(
        prompt_ids=(3, 1, 4, 1, 5),
        seeds=tuple(range(40)),
        sampling=SamplingParams(max_tokens=30, top_p=0.95),
    )
    results = []
    for extra in ("", flags):
        monkeypatch.setattr(build, "FLAGS", (*build.FLAGS, *extra.split()))
        pool = await started(models("qwen3"), engine="compiled", threads=2)
        results.append((await pool.generate([request]))[0])
        await pool.close()
    same = [a.token_ids.tolist() == b.token_ids.tolist() for a, b in zip(*results, strict=True)]
    assert sum(same) >= 39
    for a, b in zip(*results, strict=True):
        if a.token_ids.tolist() == b.token_ids.tolist():
            torch.testing.assert_close(a.sampler_logprobs, b.sampler_logprobs, atol=1e-4, rtol=0)


async def test_tokens_that_tie_with_the_kth_are_kept_and_greedy_takes_the_first(compiler, models):
    model = copy.deepcopy(models("qwen3"))
    with torch.no_grad():  # tokens 0 and 1 are the same, 2 and 3, and so on
        model.model.embed_tokens.weight[1:60:2] = model.model.embed_tokens.weight[0:60:2]
    pool = await started(model, engine="compiled")
    params = [SamplingParams(max_tokens=1, top_k=1), SamplingParams(max_tokens=1, temperature=0)]
    tied, greedy = await pool.generate(
        [GenerateRequest(prompt_ids=(4, 9), seeds=tuple(range(60)), sampling=p) for p in params]
    )
    first = greedy[0].token_ids.item()
    assert first % 2 == 0
    assert {c.token_ids.item() for c in greedy} == {first}
    assert {c.token_ids.item() for c in tied} == {first, first + 1}
    await pool.close()
