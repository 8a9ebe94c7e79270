"""What the pool does without an engine; with engines: tests/trainers/cluster/test_pool.py."""

import numpy as np
import pytest

from rlnorm.trainers.rollout.types import GenerateRequest, SamplingParams
from rlnorm.trainers.rollout.vllm_messages import RawCompletion
from rlnorm.trainers.rollout.vllm_pool import VllmPool, _completion, _deal, _environment
from rlnorm.types import FinishReason


def request(prompt, seeds, max_tokens):
    sampling = SamplingParams(max_tokens=max_tokens)
    return GenerateRequest(prompt_ids=(1,) * prompt, seeds=tuple(range(seeds)), sampling=sampling)


def test_the_largest_request_goes_first_and_each_to_the_least_loaded():
    # 2 + 1 * 8 = 10, 1 + 2 * 2 = 5, 4 + 1 * 4 = 8, 1 + 1 * 1 = 2: 10 | 8, then 5 to 8, 2 to 10
    requests = [request(2, 1, 8), request(1, 2, 2), request(4, 1, 4), request(1, 1, 1)]
    assert _deal(requests, 2) == [[0, 3], [2, 1]]
    assert _deal(requests[:1], 3) == [[0], [], []]


@pytest.mark.parametrize(("stopped", "reason"), [(True, "stop"), (False, "length")])
def test_arrays_become_a_completion_of_one_version(stopped, reason):
    raw = RawCompletion(
        token_ids=np.array([5, 6]), logprobs=np.array([-0.5, -1.0]), stopped=stopped
    )
    got = _completion(raw, 3)
    assert got.token_ids.tolist() == [5, 6]
    assert got.sampler_logprobs.tolist() == [-0.5, -1.0]
    assert got.policy_mask.tolist() == [True, True]
    assert got.finish_reason is FinishReason(reason)
    assert got.policy_versions == ((0, 3),)


def test_a_cpu_engine_sees_no_gpu(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    assert _environment(use_gpu=False)["CUDA_VISIBLE_DEVICES"] == ""
    assert _environment(use_gpu=False)["OMP_NUM_THREADS"] == "7"
    assert "CUDA_VISIBLE_DEVICES" not in _environment(use_gpu=True)


def test_an_unknown_transfer_is_refused():
    with pytest.raises(ValueError, match="transfer = 'usb': choose from object_store, nccl, ipc"):
        VllmPool("m", cluster=None, transfer="usb")
