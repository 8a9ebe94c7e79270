import asyncio
import copy
import time

import pytest
import torch

from rlnorm.trainers.rollout.local import LocalPool
from rlnorm.trainers.rollout.types import GenerateRequest, SamplingParams
from rlnorm.types import FinishReason


class Letters:
    """A tokenizer as far as the pool needs one: id 0 is "a", 25 is "z", 26 on are digits."""

    eos_token_id = None

    def decode(self, ids):
        return "".join(chr(97 + i) if i < 26 else str(i) for i in ids)


async def started(model, **options):
    pool = LocalPool(model, **options)
    await pool.start()
    return pool


def request(prompt=(3, 1, 4), seeds=(1,), **sampling):
    return GenerateRequest(
        prompt_ids=prompt, seeds=seeds, sampling=SamplingParams(**{"max_tokens": 24} | sampling)
    )


async def tokens_of(pool, *requests):
    return [[c.token_ids.tolist() for c in group] for group in await pool.generate(requests)]


async def test_a_completion_depends_on_its_own_prompt_and_seed_alone(engine, models):
    pool = await started(models("qwen3"), engine=engine)
    [[alone]] = await pool.generate([request(seeds=(5,))])
    crowd = [request(tuple(range(2, 3 + i)), tuple(range(i)), top_k=i) for i in range(1, 20)]
    groups = await pool.generate([*crowd[:9], request(seeds=(9, 5, 5)), *crowd[9:]])
    for same in groups[9][1:]:
        assert same.token_ids.tolist() == alone.token_ids.tolist()
        # the compiled engine keeps every bit, torch the rounding of its matrix products
        atol = 0 if engine == "compiled" else 1e-5
        torch.testing.assert_close(same.sampler_logprobs, alone.sampler_logprobs, atol=atol, rtol=0)
    assert groups[9][0].token_ids.tolist() != alone.token_ids.tolist()
    await pool.close()


async def test_end_tokens_end_a_completion_and_stay_in_it(engine, models):
    pool = await started(models("qwen3"), engine=engine)
    [[free]] = await tokens_of(pool, request(max_tokens=40))
    end = free[6]
    first = free.index(end)
    for options, sampling in (({"end_token_ids": (end,)}, {}), ({}, {"stop_token_ids": (end,)})):
        ending = await started(models("qwen3"), engine=engine, **options)
        [[completion]] = await ending.generate([request(max_tokens=40, **sampling)])
        assert completion.token_ids.tolist() == free[: first + 1]
        assert completion.finish_reason is FinishReason.STOP
        await ending.close()
    [[short]] = await pool.generate([request(max_tokens=first)])
    assert short.token_ids.tolist() == free[:first]
    assert short.finish_reason is FinishReason.LENGTH
    assert short.finish_reason.is_truncated
    await pool.close()


async def test_every_request_has_its_own_token_budget(engine, models):
    pool = await started(models("qwen3"), engine=engine)
    groups = await tokens_of(pool, *(request(seeds=(1, 2), max_tokens=n) for n in (3, 10, 1)))
    assert [[len(c) for c in group] for group in groups] == [[3, 3], [10, 10], [1, 1]]
    assert groups[0] == [c[:3] for c in groups[1]]
    await pool.close()


async def test_the_models_own_end_tokens_count(models):
    model = copy.deepcopy(models("qwen2"))
    pool = await started(model)
    [[free]] = await tokens_of(pool, request())
    await pool.close()
    model.generation_config.eos_token_id = [free[3], 60]
    pool = await started(model)
    assert (await tokens_of(pool, request())) == [[free[: free.index(free[3]) + 1]]]
    await pool.close()


async def test_stop_strings_end_a_completion_with_the_token_that_completes_one(engine, models):
    pool = await started(models("qwen3"), engine=engine, tokenizer=Letters())
    [[free]] = await tokens_of(pool, request(max_tokens=40))
    text = Letters().decode(free)
    stop = Letters().decode(free[4:6])
    cut = next(n for n in range(1, 41) if stop in Letters().decode(free[:n]))
    other = request(prompt=(8, 8), max_tokens=40)
    [[completion], [plain]] = await pool.generate([request(max_tokens=40, stop=("%", stop)), other])
    assert completion.token_ids.tolist() == free[:cut]
    assert completion.finish_reason is FinishReason.STOP
    assert text.startswith(Letters().decode(completion.token_ids.tolist()))
    assert len(plain.token_ids) == 40
    await pool.close()


async def test_an_error_in_the_decoder_is_raised(engine, models):
    class Broken(Letters):
        def decode(self, ids):
            raise KeyError("no such token")

    pool = await started(models("qwen3"), engine=engine, tokenizer=Broken())
    with pytest.raises(KeyError, match="no such token"):
        await pool.generate([request(stop=("x",))])
    await pool.close()


async def test_the_context_limits_tokens_and_refuses_full_prompts(engine, models):
    pool = await started(models("qwen3"), engine=engine)  # a context of 96
    [[completion]] = await pool.generate([request(prompt=(5,) * 90, max_tokens=50)])
    assert len(completion.token_ids) == 6
    assert completion.finish_reason is FinishReason.LENGTH
    with pytest.raises(ValueError, match=r"request 1: the prompt has 96 tokens .* holds 96"):
        await pool.generate([request(), request(prompt=(5,) * 96)])
    await pool.close()


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (request(prompt=()), "request 0: no tokens"),
        (request(prompt=(1, 61)), r"request 0: token id 61: the model knows 0 \.\. 60"),
        (request(seeds=(-1,)), r"request 0: seeds = \(-1,\): allowed is 0"),
        (request(stop=("x",)), r"sampling\.stop = \('x',\): the pool has no tokenizer"),
        (request(top_p=0.0), r"request 0: sampling\.top_p = 0\.0: allowed is 0 < top_p <= 1"),
    ],
    ids=["empty", "token", "seed", "stop", "top_p"],
)
async def test_bad_requests_are_named(models, bad, message):
    pool = await started(models("qwen3"), engine="torch")
    with pytest.raises(ValueError, match=message):
        await pool.generate([bad])
    await pool.close()


async def test_shared_parameters_are_read_after_refresh_and_never_written(engine, models):
    learner = copy.deepcopy(models("qwen3"))
    pool = await started(learner, engine=engine)
    before = await tokens_of(pool, request(seeds=(1, 2, 3)))
    with torch.no_grad():
        learner.model.layers[0].mlp.up_proj.weight.mul_(-1)
    await pool.refresh(3)
    assert pool.policy_version == 3
    [after] = await pool.generate([request(seeds=(1, 2, 3))])
    assert [c.token_ids.tolist() for c in after] != before[0]
    assert after[0].policy_versions == ((0, 3),)
    kept = {n: t.clone() for n, t in learner.state_dict().items()}
    await pool.load_weights(models("qwen3").state_dict().items(), 4)
    assert await tokens_of(pool, request(seeds=(1, 2, 3))) == before
    assert all(torch.equal(t, kept[n]) for n, t in learner.state_dict().items())
    pool.share(learner)
    assert (await tokens_of(pool, request(seeds=(1, 2, 3))))[0] == [
        c.token_ids.tolist() for c in after
    ]
    await pool.close()


async def test_load_weights_takes_all_or_nothing(engine, models):
    source = copy.deepcopy(models("qwen3"))
    with torch.no_grad():
        source.model.embed_tokens.weight.neg_()
    pool, fresh = [await started(m, engine=engine) for m in (models("qwen3"), source)]
    before, wanted = [await tokens_of(p, request(seeds=(1, 2))) for p in (pool, fresh)]
    weights = dict(source.state_dict())
    part = {n: t for n, t in weights.items() if "norm" not in n}
    with pytest.raises(ValueError, match=r"load_weights: missing .*norm.*nothing was loaded"):
        await pool.load_weights(part.items(), 1)
    with pytest.raises(ValueError, match=r"unknown or of another shape \['model.other'\]"):
        await pool.load_weights((weights | {"model.other": torch.zeros(1)}).items(), 1)
    assert pool.policy_version == 0
    assert await tokens_of(pool, request(seeds=(1, 2))) == before
    del weights["lm_head.weight"]  # tied
    await pool.load_weights(weights.items(), 1)
    assert await tokens_of(pool, request(seeds=(1, 2))) == wanted != before
    await asyncio.gather(pool.close(), fresh.close())


async def test_a_folder_loads_as_the_model_it_was_saved_from(engine, models, tmp_path):
    rounded = copy.deepcopy(models("qwen3"))
    with torch.no_grad():
        for parameter in rounded.parameters():
            parameter.copy_(parameter.bfloat16())
    copy.deepcopy(rounded).bfloat16().save_pretrained(tmp_path)
    # stored in bfloat16, decoded in float32
    pools = [await started(m, engine=engine) for m in (rounded, tmp_path)]
    one, two = [await pool.generate([request(seeds=(1, 2))]) for pool in pools]
    for a, b in zip(one[0], two[0], strict=True):
        assert a.token_ids.tolist() == b.token_ids.tolist()
        torch.testing.assert_close(a.sampler_logprobs, b.sampler_logprobs, atol=1e-6, rtol=0)
    for pool in pools:
        await pool.close()


async def test_the_pool_leaves_the_learners_model_as_it_is(models):
    from rlnorm.trainers.learner import attention

    learner = copy.deepcopy(models("qwen3"))
    learner.set_attn_implementation(attention.NAME)
    learner.train()
    shared, plain = await started(learner, engine="torch"), await started(models("qwen3"))
    assert await tokens_of(shared, request()) == await tokens_of(plain, request())
    assert learner.training
    assert learner.config._attn_implementation == attention.NAME
    await asyncio.gather(shared.close(), plain.close())


async def test_a_late_call_says_what_it_waited_for(engine, models):
    pool = await started(models("qwen3"), engine=engine, deadline_s=0.05)
    with pytest.raises(TimeoutError, match=r"waited 0\.05 s for .*completions"):
        await pool.generate([request((1, i), tuple(range(60)), max_tokens=90) for i in range(60)])
    await pool.close()


async def test_a_cancelled_call_ends_at_once(engine, models):
    pool = await started(models("qwen3"), engine=engine, tokenizer=SlowLetters())
    task = asyncio.create_task(pool.generate([request(seeds=(1,), max_tokens=90, stop=("%",))]))
    await asyncio.sleep(0.2)
    start = time.monotonic()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await pool.close()  # waits for the thread
    assert time.monotonic() - start < 2  # uncancelled, 90 tokens take 4.5 s


class SlowLetters(Letters):
    def decode(self, ids):
        time.sleep(0.05)
        return super().decode(ids)


async def test_broken_weights_are_an_error_not_a_token(engine, models):
    model = copy.deepcopy(models("qwen3"))
    pool = await started(model, engine=engine)
    with torch.no_grad():
        model.model.norm.weight[0] = float("nan")
    await pool.refresh(1)
    with pytest.raises(FloatingPointError, match="logits of prompt 0 at token 0 are NaN"):
        await pool.generate([request()])
    await pool.close()


async def test_a_pool_that_was_not_started_says_so(models):
    pool = LocalPool(models("qwen3"))
    with pytest.raises(RuntimeError, match=r"call start\(\) first"):
        await pool.generate([request()])
    with pytest.raises(ValueError, match=r"engine = 'vllm': choose from"):
        LocalPool(models("qwen3"), engine="vllm")


async def test_a_small_cache_splits_the_work_without_changing_it(models):
    requests = [request((2,) * n, (1, 2, 3)) for n in (3, 30, 9, 17)]
    results = []
    for cache_bytes in (None, 40_000):  # one group of the longest prompt takes about 100 kB
        pool = await started(models("qwen3"), engine="torch", cache_bytes=cache_bytes)
        results.append(await tokens_of(pool, *requests))
        await pool.close()
    assert results[0] == results[1]
