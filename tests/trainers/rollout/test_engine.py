"""Both engines against transformers and against exact probabilities."""

import pytest
import torch
from scipy import stats

from rlnorm.trainers.rollout.local import LocalPool
from rlnorm.trainers.rollout.types import GenerateRequest, SamplingParams
from rlnorm.types import FinishReason

PROMPTS = [tuple((5 * i + 3 * j) % 61 for j in range(n)) for i, n in enumerate((1, 19, 7, 33, 16))]
SUPPORTED = [(name, "torch") for name in ("qwen2", "qwen3", "llama", "llama3", "gemma3")]
SUPPORTED += [(name, "compiled") for name in ("qwen2", "qwen3", "llama", "llama3")]


@pytest.fixture(params=SUPPORTED, ids=lambda p: "-".join(p))
async def pool(request, models):
    name, engine = request.param
    if engine == "compiled":
        request.getfixturevalue("compiler")
    started = LocalPool(models(name), engine=engine, end_token_ids=(7,), threads=2)
    await started.start()
    yield started, models(name)
    await started.close()


@torch.no_grad()
def exact_logprobs(model, ids, temperature=1.0):
    """Log-probabilities of tokens 1.. by one plain forward pass over one sequence."""
    ids = torch.tensor([ids])
    scaled = model(ids).logits[0, :-1].float() / temperature
    return scaled.log_softmax(-1).gather(1, ids[0, 1:, None])[:, 0]


def requests(**sampling):
    params = SamplingParams(**{"max_tokens": 24} | sampling)
    return [GenerateRequest(prompt_ids=p, seeds=(1, 2, 3, 4), sampling=params) for p in PROMPTS]


async def test_sampler_logprobs_are_those_of_a_plain_forward_pass(pool):
    pool, model = pool
    groups = await pool.generate(requests(temperature=0.8))
    sequences, sampled = [], []
    for prompt, completions in zip(PROMPTS, groups, strict=True):
        for c in completions:
            sequences.append((*prompt, *c.token_ids.tolist()))
            expected = exact_logprobs(model, sequences[-1], 0.8)[len(prompt) - 1 :]
            torch.testing.assert_close(c.sampler_logprobs, expected, atol=1e-4, rtol=0)
            sampled.append((c.sampler_logprobs - expected).abs())
    assert torch.cat(sampled).mean() < 1e-5
    # not all alike: different prompts and seeds give different completions
    assert len(set(sequences)) > 10


async def test_score_is_the_plain_forward_pass_too(pool):
    pool, model = pool
    sequences = [*PROMPTS, (4, 4, 4)]
    scores = await pool.score(sequences, 1.3)
    for ids, score in zip(sequences, scores, strict=True):
        torch.testing.assert_close(score, exact_logprobs(model, ids, 1.3), atol=1e-4, rtol=0)


async def test_greedy_is_transformers_generate(pool):
    pool, model = pool
    groups = await pool.generate(requests(temperature=0))
    for prompt, completions in zip(PROMPTS, groups, strict=True):
        ids = torch.tensor([prompt])
        out = model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            do_sample=False,
            max_new_tokens=24,
            eos_token_id=7,
        )
        expected = out[0, len(prompt) :].tolist()
        assert [c.token_ids.tolist() for c in completions] == [expected] * 4
        stopped = expected[-1] == 7
        assert {c.finish_reason for c in completions} == {
            FinishReason.STOP if stopped else FinishReason.LENGTH
        }


async def test_both_engines_sample_the_same_tokens(compiler, models):
    sampled = {}
    for engine in ("torch", "compiled"):
        pool = LocalPool(models("qwen3"), engine=engine, end_token_ids=(7,))
        await pool.start()
        cut = await pool.generate(requests(top_k=9, top_p=0.8, min_p=0.02))
        plain = await pool.generate(requests(temperature=1.5))
        sampled[engine] = [c.token_ids.tolist() for group in cut + plain for c in group]
        await pool.close()
    same = [a == b for a, b in zip(*sampled.values(), strict=True)]
    # a uniform can fall between two roundings of the same cumulative sum, hardly ever
    assert len(same) == 40
    assert sum(same) >= 39


def first_two_tokens(model, prompt, params):
    """Exact joint distribution [v, v] of the first two tokens under the sampling parameters."""

    def cut(logits):
        probs = (logits.double() / params.temperature).softmax(-1)
        kept = probs >= params.min_p * probs.max()
        if params.top_k:
            kept &= probs >= probs.sort(descending=True).values[params.top_k - 1]
        probs = probs * kept / (probs * kept).sum()
        ordered, order = probs.sort(descending=True)
        probs[order[ordered.cumsum(0) - ordered >= params.top_p]] = 0
        return probs / probs.sum()

    with torch.no_grad():
        first = cut(model(torch.tensor([prompt])).logits[0, -1])
        rows = torch.tensor([[*prompt, t] for t in range(len(first))])
        second = torch.stack([cut(x) for x in model(rows).logits[:, -1]])
    return first[:, None] * second


@pytest.mark.parametrize(
    "params",
    [
        SamplingParams(max_tokens=2),
        SamplingParams(max_tokens=2, temperature=0.6, top_p=0.85),
        SamplingParams(max_tokens=2, top_k=7, top_p=0.9, min_p=0.03, temperature=1.4),
    ],
    ids=["plain", "top_p", "all"],
)
async def test_samples_follow_the_exact_distribution(engine, models, params):
    model, prompt, count = models("qwen3"), (3, 11, 5), 8000
    expected = first_two_tokens(model, prompt, params)
    pool = LocalPool(model, engine=engine)
    await pool.start()
    request = GenerateRequest(prompt_ids=prompt, seeds=tuple(range(count)), sampling=params)
    [completions] = await pool.generate([request])
    await pool.close()
    pairs = torch.stack([c.token_ids for c in completions])
    seen = torch.zeros_like(expected)
    seen.index_put_((pairs[:, 0], pairs[:, 1]), torch.ones(count).double(), accumulate=True)
    assert not (seen * (expected == 0)).any(), "a token outside the kept set was sampled"
    # cells that expect fewer than 5 are taken together, as the test's approximation asks
    large = expected * count >= 5
    observed = torch.cat([seen[large], seen[~large].sum()[None]])
    wanted = torch.cat([expected[large], expected[~large].sum()[None]]) * count
    observed, wanted = observed[wanted > 0], wanted[wanted > 0]
    assert len(wanted) > 15
    assert stats.chisquare(observed.numpy(), wanted.numpy()).pvalue > 1e-3
