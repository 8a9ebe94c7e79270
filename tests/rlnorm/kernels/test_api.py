import json
import math
from pathlib import Path

import pytest
import torch

from rlnorm.kernels import MinP, fused_policy_loss, stats_from_logits, token_stats

GOLDEN = Path(__file__).parents[4] / "shared" / "golden"


def test_operands_of_any_memory_layout(backend, operands):
    hidden, weight, targets = operands(6, 11, 4)
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        h, w = hidden.to(dtype), weight.to(dtype)
        straight = token_stats(h, w, targets, backend=backend).logprob
        h, w = h.T.contiguous().T, torch.cat([w, w], dim=1)[:, :4]
        torch.testing.assert_close(
            token_stats(h, w, targets, backend=backend).logprob, straight, rtol=1e-5, atol=1e-5
        )
        logits = (hidden @ weight.T).to(dtype)
        straight = stats_from_logits(logits, targets, backend=backend).logprob
        turned = logits.T.contiguous().T
        assert torch.equal(stats_from_logits(turned, targets, backend=backend).logprob, straight)


def test_more_than_65535_tokens_and_the_largest_vocabulary(backend, operands):
    for t, v in ((65_537, 3), (2, 151_936)):
        hidden, weight, targets = operands(t, v, 4)
        got = token_stats(hidden, weight, targets, want=("logprob", "entropy"), backend=backend)
        want = token_stats(
            hidden[-2:], weight, targets[-2:], want=("logprob", "entropy"), backend="reference"
        )
        torch.testing.assert_close(got.logprob[-2:], want.logprob, rtol=0, atol=2e-5)
        torch.testing.assert_close(got.entropy[-2:], want.entropy, rtol=1e-5, atol=1e-6)


@pytest.mark.skipif(not GOLDEN.exists(), reason="golden files are not at hand")
def test_golden_statistics(backend):
    decode = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
    names = {
        "logprob": "log_prob", "entropy": "entropy", "lse": "logsumexp",
        "proxy_logprob": "proxy_log_prob", "sum_p2": "sum_p_squared",
    }  # fmt: skip
    for case in json.loads((GOLDEN / "vocab_stats.json").read_text())["cases"]:
        logits = torch.tensor(case["inputs"]["logits"])
        stats = stats_from_logits(
            logits, torch.tensor(case["inputs"]["tokens"]), want=tuple(names), backend=backend,
            proxy=MinP(case["params"]["kappa"]),
        )  # fmt: skip
        for ours, theirs in names.items():
            expected = torch.tensor([decode.get(x, x) for x in case["expected"][theirs]])
            torch.testing.assert_close(getattr(stats, ours), expected, rtol=1e-5, atol=2e-6)


@pytest.mark.skipif(not GOLDEN.exists(), reason="golden files are not at hand")
def test_golden_proxy_of_the_authors(backend):
    """The authors give a dropped target about -1e4; here it is -inf."""
    cases = json.loads((GOLDEN / "lp_reg.json").read_text())["cases"]
    proxies = [case for case in cases if case["name"].startswith("proxy__")]
    assert proxies
    for case in proxies:
        logits = torch.tensor(case["inputs"]["logits"], dtype=torch.float32).flatten(0, 1)
        stats = stats_from_logits(
            logits, torch.tensor(case["inputs"]["tokens"]).flatten(), backend=backend,
            want=("logprob", "proxy_logprob"), proxy=MinP(case["params"]["kappa"], "raw"),
        )  # fmt: skip
        expected = torch.tensor(case["expected"]["proxy_log_prob"]).flatten()
        expected = expected.where(expected > -9000, -math.inf)
        torch.testing.assert_close(stats.proxy_logprob, expected, rtol=1e-5, atol=1e-5)
        logprob = torch.tensor(case["expected"]["log_prob"]).flatten()
        torch.testing.assert_close(stats.logprob, logprob, rtol=1e-5, atol=1e-5)


def test_a_misspelt_argument_is_refused(operands):
    hidden, weight, targets = operands(3, 5, 4)
    for call in (
        lambda **options: token_stats(hidden, weight, targets, **options),
        lambda **options: stats_from_logits(hidden @ weight.T, targets, **options),
        lambda **options: fused_policy_loss(hidden, weight, targets, torch.sum, **options),
    ):
        with pytest.raises(TypeError, match="temprature"):
            call(temprature=1.0)
