"""vLLM engines in Ray actors: exact logprobs, seeds, ends, weight sync and deaths."""

import os
import signal
import sys
import time
from importlib.util import find_spec

import pytest
import torch

from rlnorm.trainers.cluster.ray import ClusterError
from rlnorm.trainers.rollout.types import GenerateRequest, SamplingParams
from rlnorm.trainers.rollout.vllm_pool import Publication, VllmPool
from rlnorm.trainers.tasks import shipped_model
from rlnorm.types import FinishReason

pytestmark = [pytest.mark.cluster, pytest.mark.slow]
if MISSING := [name for name in ("ray", "vllm", "deepspeed") if find_spec(name) is None]:
    pytest.skip(f"not installed: {', '.join(MISSING)}", allow_module_level=True)

PROBE = [tuple(range(3, 40)), tuple(range(60, 20, -1))]
EVENTS: list[dict] = []


@pytest.fixture(scope="module")
def model():
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(shipped_model("quick"), dtype=torch.float32).eval()


@pytest.fixture(scope="module")
def pool(ray_cluster, run):
    pool = VllmPool(
        str(shipped_model("quick")),
        cluster=ray_cluster,
        engines=2,
        engine_options={"max_num_seqs": 64, "max_model_len": 256},
        deadline_s=180.0,
        on_event=EVENTS.append,
    )
    run(pool.start())
    yield pool
    run(pool.close())


@torch.no_grad()
def logprobs(model, token_ids, temperature: float) -> torch.Tensor:
    """Of tokens 1.. by transformers."""
    ids = torch.tensor(token_ids)
    full = (model(ids[None]).logits[0, :-1] / temperature).log_softmax(-1)
    return full.gather(1, ids[1:, None])[:, 0]


def request(*seeds: int, prompt=(40, 41, 42), **sampling) -> GenerateRequest:
    return GenerateRequest(prompt_ids=prompt, seeds=seeds, sampling=SamplingParams(**sampling))


SAMPLING = {
    "plain": {},
    "cold": {"temperature": 0.6},
    "cut": {"temperature": 0.7, "top_p": 0.5, "top_k": 4, "min_p": 0.1},
    "greedy": {"temperature": 0.0},
}


@pytest.mark.parametrize("name", SAMPLING)
def test_logprobs_are_those_of_the_full_vocabulary_at_the_temperature(name, model, pool, run):
    asked = [request(1, 2, max_tokens=24, prompt=p, **SAMPLING[name]) for p in PROBE]
    temperature = SAMPLING[name].get("temperature", 1.0) or 1.0
    for one, group in zip(asked, run(pool.generate(asked)), strict=True):
        for completion in group:
            ids = [*one.prompt_ids, *completion.token_ids.tolist()]
            wanted = logprobs(model, ids, temperature)[len(one.prompt_ids) - 1 :]
            torch.testing.assert_close(completion.sampler_logprobs, wanted, atol=1e-4, rtol=0)
            assert completion.policy_versions == ((0, pool.policy_version),)


def test_a_batch_may_mix_samplings(model, pool, run):
    asked = [request(5, max_tokens=12, **options) for options in SAMPLING.values()]
    for options, (completion,) in zip(SAMPLING.values(), run(pool.generate(asked)), strict=True):
        ids = [40, 41, 42, *completion.token_ids.tolist()]
        wanted = logprobs(model, ids, options.get("temperature", 1.0) or 1.0)[2:]
        torch.testing.assert_close(completion.sampler_logprobs, wanted, atol=1e-4, rtol=0)


def test_a_seed_fixes_a_completion_and_greedy_takes_the_likeliest(model, pool, run):
    hot = {"temperature": 2.0, "max_tokens": 20}
    many = request(*range(6), 2**63 - 1, 3, **hot)
    first, second = (
        run(pool.generate([many])),
        run(pool.generate([request(3, **hot), many])),
    )
    tokens = [tuple(c.token_ids.tolist()) for c in first[0]]
    assert tokens == [tuple(c.token_ids.tolist()) for c in second[1]]
    assert tokens[3] == tokens[7] == tuple(second[0][0].token_ids.tolist())
    assert len(set(tokens)) == 7
    (greedy,) = run(pool.generate([request(0, max_tokens=1, temperature=0.0)]))[0]
    with torch.no_grad():
        likeliest = int(model(torch.tensor([[40, 41, 42]])).logits[0, -1].argmax())
    assert greedy.token_ids.tolist() == [likeliest]


def test_completions_end_at_their_budget_a_stop_token_or_a_stop_string(pool, run):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(shipped_model("quick"))
    hot = {"temperature": 2.0}
    tries = run(pool.generate([request(*range(24), max_tokens=24, **hot)]))[0]
    seed, free = next((i, c) for i, c in enumerate(tries) if len(c.token_ids) >= 10)
    ids = free.token_ids.tolist()
    assert len(ids) <= 24
    fifth = ids[4]
    cut = ids.index(fifth) + 1
    (at_token,) = run(
        pool.generate([request(seed, max_tokens=24, stop_token_ids=(fifth,), **hot)])
    )[0]
    assert at_token.finish_reason is FinishReason.STOP
    assert at_token.token_ids.tolist() == ids[:cut]
    (short,) = run(pool.generate([request(seed, max_tokens=3, **hot)]))[0]
    assert short.finish_reason is FinishReason.LENGTH
    assert short.token_ids.tolist() == ids[:3]
    texts = [tokenizer.decode(ids[: i + 1]) for i in range(len(ids))]
    word = texts[5][len(texts[3]) :]
    ends = next(i for i, text in enumerate(texts) if word in text)
    (at_text,) = run(pool.generate([request(seed, max_tokens=24, stop=(word,), **hot)]))[0]
    assert at_text.finish_reason is FinishReason.STOP
    assert at_text.token_ids.tolist() == ids[: ends + 1]


def test_a_special_token_may_be_part_of_a_stop_string(model, pool, run):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(shipped_model("quick"))
    hot = {"temperature": 2.0, "max_tokens": 24}
    tries = run(pool.generate([request(*range(200), **hot)]))[0]
    special = {i for i in tokenizer.all_special_ids if i != tokenizer.eos_token_id}
    seed, ids = next((i, c.token_ids.tolist()) for i, c in enumerate(tries)
                     if special & set(c.token_ids.tolist()[:-1]))  # fmt: skip
    at = next(i for i, token in enumerate(ids) if token in special)
    stop = (tokenizer.decode([ids[at]]),)
    (ended,) = run(pool.generate([request(seed, stop=stop, **hot)]))[0]
    assert ended.finish_reason is FinishReason.STOP
    assert ended.token_ids.tolist() == ids[: at + 1]


def test_a_prompt_that_leaves_no_room_is_refused(pool, run):
    with pytest.raises(ValueError, match=r"prompt of 256 tokens: .* is 256"):
        run(pool.generate([request(1, prompt=(5,) * 256)]))


def scaled(model, factor: float) -> list[tuple[str, torch.Tensor]]:
    """Changed layers and embeddings; the head that is tied to them is left out, as learners do."""
    parts = ("mlp", "embed_tokens")
    return [
        (n, w * factor if any(p in n for p in parts) else w) for n, w in model.named_parameters()
    ]


def test_the_driver_reads_answers_and_errors_without_vllm(pool, run):
    loaded = {
        "vllm",
        "rlnorm.trainers.rollout.vllm_engine",
        "rlnorm.trainers.learner.deepspeed_rank",
    }
    with pytest.raises(ClusterError, match=r"engine 0 .*: temperature must be in \[0, 2\]"):
        run(pool.generate([request(1, temperature=3.0)]))
    found = loaded & set(sys.modules)
    assert not found


def test_new_weights_arrive_fast_whole_and_without_old_prefixes(model, pool, run):
    import copy

    long = request(1, max_tokens=4, prompt=tuple(range(1, 200)))  # long enough to be cached
    before = run(pool.generate([long]))[0][0]
    seconds = []
    for version, factor in enumerate((0.5, 1.5, 0.7), start=1):
        started = time.monotonic()
        checked = run(pool.load_weights(scaled(model, factor), version))
        seconds.append(time.monotonic() - started)
        assert checked >= 8
    assert min(seconds) < 0.2, seconds
    assert pool.policy_version == 3
    changed = copy.deepcopy(model)
    changed.load_state_dict(dict(scaled(model, 0.7)), strict=False)
    for scores in run(pool.score_each(PROBE, 0.8)):
        for ids, found in zip(PROBE, scores, strict=True):
            torch.testing.assert_close(found, logprobs(changed, ids, 0.8), atol=1e-4, rtol=0)
    after = run(pool.generate([long]))[0][0]
    ids = [*range(1, 200), *after.token_ids.tolist()]
    wanted = logprobs(changed, ids, 1.0)[198:]
    torch.testing.assert_close(after.sampler_logprobs, wanted, atol=1e-4, rtol=0)
    assert after.policy_versions == ((0, 3),)
    assert not torch.equal(before.sampler_logprobs, after.sampler_logprobs)
    run(pool.load_weights(scaled(model, 1.0), 4))


def test_a_tensor_that_differs_from_what_was_sent_is_an_error(pool, run):
    sent = pool._published
    name = sorted(sent.digests)[0]
    wrong = Publication(version=9, refs=sent.refs, digests={**sent.digests, name: "0" * 32})
    with pytest.raises(ClusterError, match=rf"version 9: 1 of \d+ sampled tensors differ .*{name}"):
        run(pool.adopt(wrong))
    run(pool.adopt(sent))
    assert pool.policy_version == 4


def test_an_engine_that_dies_comes_back_with_the_published_weights(model, pool, run):
    import ray

    run(pool.load_weights(scaled(model, 0.7), 5))
    wanted = run(pool.score_each(PROBE, 1.0))[0]
    EVENTS.clear()
    os.kill(ray.get(pool.actors[1].pid.remote(), timeout=30.0), signal.SIGKILL)
    again = run(pool.score_each(PROBE, 1.0))
    assert [event["event"] for event in EVENTS] == ["engine_died", "engine_restarted"]
    assert EVENTS[0]["engine"] == 1
    for scores in again:
        for found, one in zip(scores, wanted, strict=True):
            torch.testing.assert_close(found, one, atol=1e-5, rtol=0)
    run(pool.load_weights(scaled(model, 1.0), 6))


def test_learner_and_engines_agree_after_each_publish(pool, batch, make_learner, run):
    from rlnorm.trainers.sync import ClusterChannel

    learner = make_learner(ranks=2, zero_stage=2, tokens_per_microbatch=64)
    channel = ClusterChannel(probe=PROBE, temperature=0.9, on_event=EVENTS.append)
    for version in range(2):
        report = run(channel.publish(learner, pool))
        assert report.version == pool.policy_version == version
        assert report.parity_gap < 1e-4
        assert report.tensors_checked >= 8
        run(learner.step(batch, 1e-2))
    EVENTS.clear()
    strict = ClusterChannel(probe=PROBE, temperature=0.9, alarm=0.0, on_event=EVENTS.append)
    with pytest.raises(ClusterError, match=r"version 2: .* nats .* after a second transfer too"):
        run(strict.publish(learner, pool))
    assert [event["event"] for event in EVENTS] == ["parity_alarm"]
    run(learner.close())


def test_an_engine_that_cannot_load_is_one_line_with_its_cause(ray_cluster, run, tmp_path):
    (tmp_path / "config.json").write_text("{}")
    broken = VllmPool(str(tmp_path), cluster=ray_cluster, deadline_s=120.0)
    with pytest.raises(ClusterError, match=r"engine 0 on .* loading .*: \w+Error: ") as error:
        run(broken.start())
    assert "\n" not in str(error.value)
    run(broken.close())
