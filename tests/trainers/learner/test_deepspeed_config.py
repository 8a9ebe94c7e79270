import psutil
import pytest

from rlnorm.trainers.config.schema import LearnerConfig, ModelConfig
from rlnorm.trainers.learner.deepspeed_config import engine_config, interface_of


def config(dtype="float32", **learner):
    return engine_config(ModelConfig(path="m", dtype=dtype), LearnerConfig(**learner))


def test_the_stage_and_the_clip_are_the_learners():
    got = config(zero_stage=3, grad_clip=0.5)
    assert got["zero_optimization"]["stage"] == 3
    assert got["gradient_clipping"] == 0.5
    assert "bf16" not in got


def test_bfloat16_gradients_are_summed_in_float32_where_deepspeed_can():
    assert config("bfloat16", zero_stage=2)["data_types"] == {"grad_accum_dtype": "fp32"}
    assert "data_types" not in config("bfloat16", zero_stage=0)


def test_only_a_sharded_optimizer_is_offloaded():
    assert "offload_optimizer" in config(zero_stage=2, offload=True)["zero_optimization"]
    assert "offload_optimizer" not in config(zero_stage=0, offload=True)["zero_optimization"]


def test_the_interface_of_an_address():
    addresses = psutil.net_if_addrs().items()
    [name] = [n for n, x in addresses if any(a.address == "127.0.0.1" for a in x)]
    assert interface_of("127.0.0.1") == name
    with pytest.raises(RuntimeError, match=r"has the address 203\.0\.113\.1"):
        interface_of("203.0.113.1")
