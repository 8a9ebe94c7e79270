"""The Triton kernels without a GPU: interpreted on a CPU, and compiled for Ampere and Hopper."""

import os
import subprocess
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest
import torch

from rlnorm.kernels import MinP

pytest.importorskip("triton")
REPOSITORY = Path(__file__).parents[3]
spec = spec_from_file_location("kernel_accuracy", Path(__file__).with_name("test_accuracy.py"))
accuracy = module_from_spec(spec)
spec.loader.exec_module(accuracy)


def in_a_process(arguments: list[str], **environment: str) -> None:
    """A process of its own: triton reads TRITON_INTERPRET once, when it is imported."""
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=REPOSITORY,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]


def test_interpreted_kernels_pass_the_accuracy_tests():
    in_a_process(
        ["-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", accuracy.__file__],
        TRITON_INTERPRET="1",
        RLNORM_TEST_BACKENDS="triton",
    )


COMPILE = """
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
import triton
from rlnorm.kernels import triton_backend as kernels

vectors = ("z", "inv_temperature", "peaks", "log_zs", "a", "at_target", "b", "c", "d", "offsets")
types = {name: "*fp32" for name in vectors} | {"targets": "*i64", "cap": "fp32"}
types |= {name: "i64" for name in ("stride", "out_stride")} | {"w": "i32", "pieces": "i32"}
flags = {"CAP": True, "ENTROPY": True, "SQUARES": True, "PROXY": True, "BLOCK": 4096}
for capability in (80, 90):
    for kernel, out in (
        (kernels.statistics_kernel, "*fp32"),
        (kernels.kept_mass_kernel, "*fp32"),
        (kernels.gradient_kernel, "*bf16"),
        (kernels.gradient_kernel, "*fp32"),
    ):
        for ones in ((), ("w", "stride", "out_stride", "pieces")):
            constants = {k: v for k, v in flags.items() if k in kernel.arg_names}
            # an integer that is 1 is compiled in as a constant
            constants |= {k: 1 for k in ones if k in kernel.arg_names}
            known = types | {"out": out} | {k: "constexpr" for k in constants}
            source = ASTSource(
                kernel,
                {k: known[k] for k in kernel.arg_names},
                {(kernel.arg_names.index(k),): v for k, v in constants.items()},
            )
            target = GPUTarget("cuda", capability, 32)
            assert "cubin" in triton.compile(source, target=target, options={"num_warps": 8}).asm
"""


def test_kernels_compile_for_ampere_and_hopper(tmp_path):
    in_a_process(["-c", COMPILE], TRITON_CACHE_DIR=str(tmp_path), TRITON_INTERPRET="0")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("workspace_bytes", [1 << 19, 1 << 30])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize(("t", "v", "d"), [*accuracy.SIZES, (1000, 5003, 64)])
def test_a_gpu_agrees_with_float64(t, v, d, dtype, workspace_bytes):
    """The interpreter and a CPU never multiply 16-bit operands into a float32 result."""
    hidden, weight, targets = (x.cuda() for x in accuracy.peaked(t, v, d, dtype))
    bias = torch.linspace(-1, 1, v, device="cuda", dtype=dtype)
    upstream = {name: x.cuda() for name, x in accuracy.random_upstream(t).items()}
    options = {"temperature": torch.linspace(0.6, 1.4, t, device="cuda"), "softcap": 40.0}
    options |= {"proxy": MinP(0.02), "workspace_bytes": workspace_bytes}
    doubles = (hidden.double(), weight.double(), targets, upstream, bias.double())
    want, want_grads = accuracy.run(*doubles, backend="reference", **options)
    for backend in ("triton", "chunked"):
        got, got_grads = accuracy.run(
            hidden, weight, targets, upstream, bias, backend=backend, **options
        )
        accuracy.assert_statistics(got, want)
        accuracy.assert_gradients(got_grads, want_grads, t)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_more_logits_and_rows_than_32_bits_address():
    """t v just above 2^31 in one workspace, and more rows than a grid's second axis allows."""
    from rlnorm.kernels import token_stats

    for t, v in ((66_000, 33_000), (70_000, 127)):
        hidden = torch.randn(t, 16, device="cuda", dtype=torch.bfloat16)
        weight = torch.randn(v, 16, device="cuda", dtype=torch.bfloat16)
        targets = torch.randint(v, (t,), device="cuda")
        stats = token_stats(
            hidden, weight, targets, want=("logprob", "entropy"), backend="triton",
            workspace_bytes=16 << 30,
        )  # fmt: skip
        want = token_stats(
            hidden[-9:], weight, targets[-9:], want=("logprob", "entropy"), backend="reference"
        )
        torch.testing.assert_close(stats.logprob[-9:], want.logprob, rtol=0, atol=2e-5)
        torch.testing.assert_close(stats.entropy[-9:], want.entropy, rtol=1e-5, atol=1e-6)
