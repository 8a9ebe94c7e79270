"""DeepSpeed ranks against the learner of one process: the same numbers from both."""

import asyncio
import json
import math
import os
from dataclasses import replace
from importlib.util import find_spec

import pytest
import torch

from rlnorm.algorithms import resolve_algorithm
from rlnorm.trainers.cluster.ray import ClusterError
from rlnorm.trainers.config.schema import LearnerConfig, ModelConfig
from rlnorm.trainers.learner.embedded import EmbeddedLearner
from rlnorm.trainers.models import merged_weights
from rlnorm.trainers.tasks import shipped_model

pytestmark = [pytest.mark.cluster, pytest.mark.slow]
if MISSING := [name for name in ("ray", "vllm", "deepspeed") if find_spec(name) is None]:
    pytest.skip(f"not installed: {', '.join(MISSING)}", allow_module_level=True)

WANT = frozenset({"old_logprobs", "entropy", "ref_logprobs"})


def embedded(lora_rank: int, tmp_path, **options) -> EmbeddedLearner:
    learner = EmbeddedLearner(
        ModelConfig(path="shipped:quick", lora={"rank": lora_rank} if lora_rank else None),
        LearnerConfig(lr=1e-3, weight_decay=0.1, **options),
        resolve_algorithm("grpo", {"regularizers": [{"name": "kl", "kind": "k3", "coef": 0.04}]}),
        None,
        seed=0,
        device=torch.device("cpu"),
        faults=tmp_path,
    )
    asyncio.run(learner.start())
    return learner


def relative(found: dict[str, torch.Tensor], wanted: dict[str, torch.Tensor]) -> float:
    """Norm of the difference of two gradients over the norm of the second."""
    assert found.keys() == wanted.keys()
    difference = sum(float((found[n] - wanted[n]).double().square().sum()) for n in wanted)
    return math.sqrt(difference / sum(float(g.double().square().sum()) for g in wanted.values()))


# ranks, ZeRO stage, tokens a microbatch, LoRA rank; 64 tokens give the two ranks different counts
CASES = [(1, 0, 1000, 0), (2, 1, 30, 0), (2, 2, 64, 0), (2, 3, 64, 0), (2, 3, 1000, 4)]


@pytest.mark.parametrize(("ranks", "stage", "budget", "lora"), CASES, ids=str)
def test_scores_loss_gradients_and_steps_are_those_of_one_process(
    ranks, stage, budget, lora, batch, make_learner, run, tmp_path
):
    alone = embedded(lora, tmp_path, tokens_per_microbatch=48)
    ours = make_learner(lora_rank=lora, ranks=ranks, zero_stage=stage, tokens_per_microbatch=budget)
    wanted, found = run(alone.score(batch, WANT)), run(ours.score(batch, WANT))
    for name in WANT:
        torch.testing.assert_close(found[name], wanted[name], atol=1e-5, rtol=0)
    assert float(wanted["old_logprobs"].abs().max()) > 1.0

    loss, _ = alone.backward(batch)
    trained = {n: p.grad for n, p in alone.model.named_parameters() if p.requires_grad}
    our_loss, gradients = run(ours.gradients(batch))
    assert our_loss == pytest.approx(loss, rel=1e-6, abs=1e-6)
    assert relative(gradients, trained) < 1e-6

    for _ in range(2):
        theirs, step = run(alone.step(batch, 5e-4)), run(ours.step(batch, 5e-4))
        assert step.loss == pytest.approx(theirs.loss, rel=1e-5, abs=1e-5)
        assert step.grad_norm == pytest.approx(theirs.grad_norm, rel=1e-5)
        assert step.metrics.keys() == theirs.metrics.keys()
    assert step.policy_version == 2
    weights = dict(run(collect(ours)))
    expected = {n: w for n, w in merged_weights(alone.model).items() if n in weights}
    assert len(expected) == len(weights) > 30
    for name, tensor in expected.items():
        # Adam turns a gradient near 0 into a step of either sign, up to lr each time
        assert float((weights[name] - tensor.detach()).abs().mean()) < 1e-5, name
    moved = run(ours.score(batch, WANT))
    torch.testing.assert_close(moved["ref_logprobs"], wanted["ref_logprobs"], atol=1e-5, rtol=0)
    assert float((moved["old_logprobs"] - wanted["old_logprobs"]).abs().max()) > 1e-3
    check_that_ranks_skip_together(ours, batch, run)
    run(ours.close())


async def collect(learner):
    return [pair async for bucket in learner.weights() for pair in bucket]


def check_that_ranks_skip_together(learner, batch, run) -> None:
    """An infinite advantage in one microbatch of one rank: nobody steps, the batch is saved."""
    before = dict(run(collect(learner)))
    advantages = batch.columns["advantages"].clone()
    advantages[batch.loss_mask.nonzero()[0, 0]] = math.inf
    poisoned = replace(batch, columns={**batch.columns, "advantages": advantages})
    version = learner.policy_version
    step = run(learner.step(poisoned, 1e-3))
    assert (step.skipped, step.policy_version) == (True, version)
    assert not math.isfinite(step.grad_norm)
    saved = torch.load(learner._faults / f"version_{version:06d}_0.pt", weights_only=False)
    assert torch.equal(saved.columns["advantages"], advantages)
    after = dict(run(collect(learner)))
    assert all(torch.equal(after[n], before[n]) for n in before)
    fine = run(learner.step(batch, 1e-3))
    assert (fine.skipped, fine.policy_version) == (False, version + 1)
    moved = dict(run(collect(learner)))
    assert any(not torch.equal(moved[n], before[n]) for n in before)


def test_a_checkpoint_loads_in_transformers_and_continues_bit_for_bit(
    batch, make_learner, run, tmp_path
):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    options = {"ranks": 2, "zero_stage": 3, "tokens_per_microbatch": 64}
    learner = make_learner(**options)
    run(learner.step(batch, 1e-3))
    run(learner.save(tmp_path))
    saved = dict(run(collect(learner)))
    step = run(learner.step(batch, 1e-3))
    ahead = dict(run(collect(learner)))
    run(learner.close())

    model = AutoModelForCausalLM.from_pretrained(tmp_path / "model", dtype=torch.float32)
    assert AutoTokenizer.from_pretrained(tmp_path / "model").eos_token_id is not None
    state = model.state_dict()
    assert all(torch.equal(state[name], tensor) for name, tensor in saved.items())

    again = make_learner(**options)
    run(again.load(tmp_path))
    assert again.policy_version == 1
    repeated = run(again.step(batch, 1e-3))
    assert (repeated.loss, repeated.grad_norm) == (step.loss, step.grad_norm)
    there = dict(run(collect(again)))
    assert all(torch.equal(there[n], ahead[n]) for n in ahead)

    facts = tmp_path / "trainer_state" / "learner.json"
    facts.write_text(json.dumps(json.loads(facts.read_text()) | {"world_size": 4}))
    with pytest.raises(ClusterError, match=r"learner.ranks = 2: .* was saved with 4"):
        run(again.load(tmp_path))
    run(again.close())


def test_ranks_save_the_adapter_that_gives_the_merged_model(batch, make_learner, run, tmp_path):
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    learner = make_learner(lora_rank=4, ranks=2, zero_stage=3)
    for _ in range(3):
        run(learner.step(batch, 1e-2))
    run(learner.save(tmp_path))
    run(learner.close())
    base, merged = (
        AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)
        for path in (shipped_model("quick"), tmp_path / "model")
    )
    ids = torch.arange(5, 15)[None]
    with torch.no_grad():
        before = base(input_ids=ids).logits
        adapted = PeftModel.from_pretrained(base, tmp_path / "adapter")(input_ids=ids).logits
        torch.testing.assert_close(adapted, merged(input_ids=ids).logits, atol=1e-4, rtol=1e-4)
    assert float((adapted - before).abs().max()) > 0.1


def test_bfloat16_weights_sharded_on_load_turn_far_positions_as_far_as_whole_ones(
    ray_cluster, run, tmp_path
):
    from rlnorm.trainers.learner.core import score_batch
    from rlnorm.trainers.learner.deepspeed_learner import DeepSpeedLearner
    from rlnorm.trainers.learner.model import load_model
    from rlnorm.trainers.sync import fixed_batch

    g = torch.Generator().manual_seed(0)
    rows = [tuple(torch.randint(5, 270, (900,), generator=g).tolist()) for _ in range(2)]
    far, want = fixed_batch(rows, 1.0), frozenset({"old_logprobs"})
    model = ModelConfig(path="shipped:quick", dtype="bfloat16")
    learner = DeepSpeedLearner(
        model,
        LearnerConfig(zero_stage=3),
        resolve_algorithm("grpo"),
        cluster=ray_cluster,
        seed=0,
        faults=tmp_path,
    )
    run(learner.start())
    found = run(learner.score(far, want))["old_logprobs"]
    run(learner.close())
    whole = score_batch(load_model(model), far, want, max_tokens=2000)["old_logprobs"]
    # 0.02 with rotary frequencies in bfloat16
    assert float((found - whole).abs().mean()) < 2e-3


def test_a_loss_in_a_file_of_the_users_own_runs_in_the_ranks(ray_cluster, batch, run, tmp_path):
    from rlnorm.trainers.learner.deepspeed_learner import DeepSpeedLearner

    path = tmp_path / "mine.py"
    path.write_text("def mine(logprobs, advantages): return -3 * logprobs * advantages\n")
    algorithm = resolve_algorithm("grpo", {"loss": f"{path}:mine"})
    common = (ModelConfig(path="shipped:quick"), LearnerConfig(), algorithm)
    device = torch.device("cpu")
    alone = EmbeddedLearner(*common, None, seed=0, device=device, faults=tmp_path)
    ours = DeepSpeedLearner(*common, cluster=ray_cluster, seed=0, faults=tmp_path)
    run(alone.start())
    run(ours.start())
    loss, _ = run(ours.gradients(batch))
    assert loss == pytest.approx(alone.backward(batch)[0], rel=1e-5)
    run(ours.close())


def test_a_model_that_cannot_load_is_one_line_with_its_cause(ray_cluster, run, tmp_path):
    from rlnorm.trainers.learner.deepspeed_learner import DeepSpeedLearner

    learner = DeepSpeedLearner(
        ModelConfig(path=str(tmp_path)),
        LearnerConfig(),
        resolve_algorithm("grpo"),
        cluster=ray_cluster,
        seed=0,
        faults=tmp_path,
        deadline_s=120.0,
    )
    with pytest.raises(ClusterError, match=r"loading the model: .*has no config.json") as error:
        run(learner.start())
    assert "\n" not in str(error.value)
    run(learner.close())


def test_what_no_node_can_hold_is_said_at_once_in_a_table(ray_cluster):
    with pytest.raises(ClusterError, match="no node is large enough") as error:
        ray_cluster.reserve([{"CPU": 1.0, "GPU": 8.0}] * 2, what="learner.ranks = 2")
    lines = str(error.value).splitlines()
    assert lines[0].startswith("learner.ranks = 2")
    assert "asked 2 x" in lines[1]
    assert "GPU 8" in lines[1]
    assert lines[2].split()[0] == "node"


def test_bundles_that_stay_taken_end_with_a_table(ray_cluster):
    slots = float(max(os.cpu_count() or 1, 8))
    held = ray_cluster.reserve([{"CPU": slots - 1}], what="first")
    with pytest.raises(ClusterError, match=r"second: not placed after 2 s") as error:
        ray_cluster.reserve([{"CPU": 2.0}], what="second", deadline_s=2.0)
    assert str(error.value).splitlines()[-1].endswith("CPU 1")
    ray_cluster.release(held)
