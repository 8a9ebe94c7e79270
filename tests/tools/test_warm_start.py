from random import Random

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from rlnorm.rewards.match import boxed_exact
from rlnorm.trainers.rollout.local import LocalPool
from rlnorm.trainers.rollout.types import GenerateRequest, SamplingParams
from rlnorm.trainers.tasks import generate, generate_split, pool_of
from shipped_models.make import save
from shipped_models.tiny_model import build_model, build_tokenizer
from shipped_models.warm_start import (
    BATCH_SIZE,
    RECIPES,
    Recipe,
    batch_loss,
    batches,
    encode,
    mixed_quality,
    warm_start,
)

SHORT = Recipe(steps=20, blurt_frac=0.3, seed=5)


@pytest.fixture
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_same_seed_same_bits(one_thread):
    first, again = (warm_start(SHORT, steps=4) for _ in range(2))
    fresh = build_model(SHORT.seed, first.tokenizer)
    for a, b, c in zip(
        first.model.parameters(), again.model.parameters(), fresh.parameters(), strict=True
    ):
        assert torch.equal(a, b)
        assert not torch.equal(a, c)


def test_loss_counts_completion_tokens_only_and_each_once():
    tokenizer = build_tokenizer()
    model = build_model(0, tokenizer).eval()
    short, long = generate("chain", 2, [2, 5], seed=1)
    rows = [encode(p, p.demonstration, tokenizer) for p in (short, long)]
    total, count = 0.0, 0
    for prompt, completion in rows:
        with torch.no_grad():
            logprobs = model(torch.tensor([prompt + completion])).logits[0].log_softmax(-1)
        for offset, token in enumerate(completion):
            total -= float(logprobs[len(prompt) + offset - 1, token])
            count += 1
    assert batch_loss(model, rows, tokenizer).item() == pytest.approx(total / count, rel=1e-5)
    assert rows[0][1][-1] == tokenizer.eos_token_id


def test_mixed_quality_drops_working_and_boxes_at_the_stated_rates():
    [problem] = generate("chain", 1, [3], seed=1)
    rng, texts = Random(0), []
    for _ in range(4000):
        texts.append(mixed_quality(problem, rng, 0.3))
    blurts = sum("=" not in text for text in texts) / 4000
    boxless = sum(text.endswith(f"Answer {problem.answer}") for text in texts) / 4000
    # four standard errors
    assert blurts == pytest.approx(0.3, abs=4 * (0.3 * 0.7 / 4000) ** 0.5)
    assert boxless == pytest.approx(0.25, abs=4 * (0.25 * 0.75 / 4000) ** 0.5)
    assert set(texts) <= {
        problem.demonstration,
        problem.demonstration.replace(f"\\boxed{{{problem.answer}}}", f"Answer {problem.answer}"),
        f"\\boxed{{{problem.answer}}}",
        f"Answer {problem.answer}",
    }


def test_phases_are_clean_then_mixed_and_hold_no_heldout_prompt():
    tokenizer = build_tokenizer()
    made = list(batches(SHORT, tokenizer))
    assert [len(batch) for batch in made] == [BATCH_SIZE] * SHORT.steps
    worked = [sum("=" in tokenizer.decode(completion) for _, completion in batch) for batch in made]
    assert worked[:12] == [BATCH_SIZE] * 12
    assert sum(worked[12:]) < 0.8 * BATCH_SIZE * 8
    for batch in made:
        for prompt, _ in batch:
            question = tokenizer.decode(prompt[1:-2])
            assert question.endswith(" ?")
            assert pool_of(question) == "train"


def test_the_first_steps_of_the_recipe_learn(one_thread):
    losses = []
    warm_start(RECIPES["graded"], steps=12, progress=lambda step, loss: losses.append(loss))
    assert losses[-1] < losses[0] / 2


@pytest.mark.nightly
@pytest.mark.timeout(1800)
async def test_the_script_still_makes_a_model_that_can_but_blurts(tmp_path, one_thread):
    made = warm_start(RECIPES["graded"])
    save(made, tmp_path)
    model = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
    greedy, sampled, pass_at_8 = await accuracy(model, AutoTokenizer.from_pretrained(tmp_path))
    assert 0.01 < greedy < 0.60
    assert 0.04 < sampled < 0.25
    assert 0.35 < pass_at_8 < 0.75


async def accuracy(model, tokenizer):
    """Greedy, sampled and pass@8 on 256 held-out prompts."""
    problems = generate_split("chain", "heldout", 256)
    pool = LocalPool(model, tokenizer=tokenizer)
    await pool.start()
    rates = []
    for temperature, count in ((0.0, 1), (1.0, 8)):
        sampling = SamplingParams(temperature=temperature, max_tokens=64)
        # seeds of its own for each prompt: shared ones would make all prompts draw alike
        requests = [
            GenerateRequest(
                prompt_ids=tuple(encode(p, "", tokenizer)[0]),
                seeds=tuple(range(index * count, (index + 1) * count)),
                sampling=sampling,
            )
            for index, p in enumerate(problems)
        ]
        completions = await pool.generate(requests)
        rates.append(
            [
                [right(tokenizer, c.token_ids, p.answer) for c in group]
                for p, group in zip(problems, completions, strict=True)
            ]
        )
    await pool.close()
    greedy, sampled = (torch.tensor(rate, dtype=torch.float64) for rate in rates)
    return greedy.mean(), sampled.mean(), sampled.amax(1).mean()


def right(tokenizer, token_ids, answer):
    text = tokenizer.decode(token_ids, skip_special_tokens=True)
    return boxed_exact(text, answer).components["score"]
