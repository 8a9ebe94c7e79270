from rlnorm.trainers.config.schema import RolloutConfig
from rlnorm.trainers.rollout.types import SamplingParams, sampling_params


def test_sampling_is_the_configs():
    config = RolloutConfig(temperature=0.7, top_p=0.9, top_k=5, max_tokens=9, stop=["END"])
    want = SamplingParams(temperature=0.7, top_p=0.9, top_k=5, max_tokens=9, stop=("END",))
    assert sampling_params(config) == want


def test_greedy_is_temperature_zero_and_not_the_configs():
    assert sampling_params(RolloutConfig(temperature=0.7), temperature=0.0).temperature == 0.0
