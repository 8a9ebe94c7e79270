"""DeepSpeed's configuration, and the network interface of a rank."""

from typing import Any

import psutil
import torch

from rlnorm.trainers.config.schema import LearnerConfig, ModelConfig


def engine_config(model: ModelConfig, learner: LearnerConfig) -> dict[str, Any]:
    """DeepSpeed's own configuration."""
    # small parameters, such as vectors, are not sharded
    zero: dict[str, Any] = {
        "stage": learner.zero_stage,
        "stage3_param_persistence_threshold": 10_000,
    }
    if learner.offload and learner.zero_stage:
        zero["offload_optimizer"] = {"device": "cpu", "pin_memory": torch.cuda.is_available()}
    config: dict[str, Any] = {
        # required by DeepSpeed, but unused: microbatches here have token budgets
        "train_micro_batch_size_per_gpu": 1,
        "gradient_accumulation_steps": 1,
        "gradient_clipping": learner.grad_clip,
        "zero_optimization": zero,
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
        "steps_per_print": 2**31,
    }
    if model.dtype == "bfloat16":
        config["bf16"] = {"enabled": True, "check_grad_overflow": True}
        if learner.zero_stage:  # without ZeRO DeepSpeed accumulates in bfloat16 only
            config["data_types"] = {"grad_accum_dtype": "fp32"}
    return config


def interface_of(address: str) -> str:
    """Name of the network interface that carries an IP address of this node."""
    for name, entries in psutil.net_if_addrs().items():
        if any(entry.address == address for entry in entries):
            return str(name)
    raise RuntimeError(f"no network interface of this node has the address {address}")
