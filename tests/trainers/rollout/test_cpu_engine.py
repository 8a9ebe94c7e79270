import copy
import ctypes
import itertools
import logging
import os
import stat

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


def fake_compiler(folder, body):
    path = folder / "fake-c++"
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


def test_a_failed_build_is_one_line_and_leaves_no_library(monkeypatch, tmp_path):
    body = 'case "$*" in *-dM*) ;; *) echo "x.cpp:1: error: no such thing" >&2; exit 1;; esac'
    monkeypatch.setenv("CXX", fake_compiler(tmp_path, body))
    monkeypatch.setenv("RLNORM_CACHE", str(tmp_path / "cache"))
    with pytest.raises(build.BuildError, match=r"ended with 1: x.cpp:1: error: no such thing$"):
        build.library()
    assert not list((tmp_path / "cache").glob("*.so"))


def test_a_cache_that_cannot_be_written_is_named(compiler, monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("RLNORM_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(build.BuildError, match="cannot write the cache folder"):
        build.library()


def test_the_library_is_built_once_for_each_source_and_compiler(monkeypatch, tmp_path):
    count = tmp_path / "count"
    body = (
        f'case "$*" in *-dM*) echo "#define X $VERSION";; '
        f'*) echo x >> {count}; while [ "$1" != -o ]; do shift; done; echo lib > "$2";; esac'
    )
    monkeypatch.setenv("CXX", fake_compiler(tmp_path, body))
    monkeypatch.setenv("RLNORM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("VERSION", "1")
    first = build.library()
    assert build.library() == first
    assert first.read_text() == "lib\n"
    assert len(count.read_text().split()) == 1
    monkeypatch.setenv("VERSION", "2")
    assert build.library() != first
    assert len(count.read_text().split()) == 2


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


def test_the_library_exports_its_four_functions(compiler):
    library = ctypes.CDLL(os.fspath(build.library()))
    for name in ("create", "fill", "destroy", "run"):
        assert hasattr(library, f"rlnorm_{name}")


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
