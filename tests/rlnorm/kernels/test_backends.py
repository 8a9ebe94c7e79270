import logging

import pytest
import torch

from rlnorm.kernels import backends, fused_policy_loss, token_stats


def test_backends_that_cannot_serve_say_why(operands):
    hidden, weight, targets = operands(3, 5, 4, torch.float64)
    with pytest.raises(ValueError, match="float64"):
        token_stats(hidden, weight, targets, backend="cpp")
    with pytest.raises((ValueError, RuntimeError), match="triton"):
        token_stats(hidden.float(), weight.float(), targets, backend="triton")
    with pytest.raises(ValueError, match=r"'cpp'.* on cpu, got cuda"):
        backends.resolve_backend("cpp", torch.device("cuda"), torch.float32)
    with pytest.raises(ValueError, match="'reference'"):
        fused_policy_loss(hidden, weight, targets, torch.sum, backend="reference")


def test_auto_logs_once_what_it_took(caplog, operands):
    backends._automatic.cache_clear()
    hidden, weight, targets = operands(3, 5, 4)
    with caplog.at_level(logging.INFO, logger="rlnorm.kernels"):
        token_stats(hidden, weight, targets)
        token_stats(hidden, weight, targets)
    lines = [x for x in caplog.messages if "auto takes" in x]
    assert len(lines) == 1
    assert "float32 on cpu" in lines[0]


def test_auto_falls_back_to_plain_torch_without_a_compiler(monkeypatch, tmp_path, caplog, operands):
    from rlnorm.kernels import cpu

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    for cached in (cpu.library, backends._named, backends._automatic):
        cached.cache_clear()
    try:
        hidden, weight, targets = operands(3, 5, 4)
        with caplog.at_level(logging.INFO, logger="rlnorm.kernels"):
            token_stats(hidden, weight, targets)
        assert "'chunked'" in caplog.text
        assert "no C++ compiler" in caplog.text
        with pytest.raises(RuntimeError, match="no C\\+\\+ compiler"):
            token_stats(hidden, weight, targets, backend="cpp")
    finally:
        for cached in (cpu.library, backends._named, backends._automatic):
            cached.cache_clear()
