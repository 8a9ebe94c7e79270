"""Break one thing at a time and see a test fail: python tests/mutate.py [WORD].

Works on a copy of rlnorm and tests in a temporary folder. Each line of MUTATIONS is a module, the
code to replace, what to put there, and the test file that must notice. WORD picks modules.
"""

import os
import shutil
import sys
import tempfile
from pathlib import Path

import pytest
import torch  # noqa: F401 - imported once, before the forks

ROOT = Path(__file__).parent.parent
ADVANTAGES, LOSSES = "advantages/test_", "losses/test_losses.py"
TOKENS, MODULATORS = ADVANTAGES + "token_level.py", "modulators/test_modulators.py"
PROCESS = ADVANTAGES + "process.py"
REGULARIZERS = "regularizers/test_regularizers.py"

MUTATIONS = [
    ("groups.py", "- ddof", "- 0", "test_groups.py"),
    ("groups.py", "ddof) + eps", "ddof)", "test_groups.py"),
    ("groups.py", "values.double() - lowest[groups.index]", "values.double()", "test_groups.py"),
    ("groups.py", "(present - 1)", "present", "test_groups.py"),
    ("tokens.py", "gamma**step", "gamma", "test_tokens.py"),
    ("tokens.py", "counts + eps", "counts", "test_tokens.py"),
    ("advantages/grpo.py", "ddof=ddof) + eps", "ddof=ddof)", ADVANTAGES + "grpo.py"),
    ("advantages/grpo.py", "one_group(total)", "groups", ADVANTAGES + "grpo.py"),
    ("advantages/grpo.py", "== 1, advantages", "== 2, advantages", ADVANTAGES + "grpo.py"),
    ("advantages/reinforce.py", "== \"group\"", "!= \"group\"", ADVANTAGES + "simple.py"),
    ("advantages/rloo.py", "count - 1", "count", ADVANTAGES + "simple.py"),
    ("advantages/opo.py", ", weights=lengths.double()", "", ADVANTAGES + "simple.py"),
    ("advantages/gpg.py", "present / rewarded", "rewarded / present", ADVANTAGES + "simple.py"),
    ("advantages/remax.py", "total - greedy", "total + greedy", ADVANTAGES + "simple.py"),
    ("advantages/pass_at_k.py", "- 1]", "- 2]", ADVANTAGES + "simple.py"),
    ("advantages/gdpo.py", "ddof=batch_ddof, centre", "ddof=0, centre", ADVANTAGES + "gdpo.py"),
    ("advantages/gdpo.py", "centre=centre", "centre=True", ADVANTAGES + "gdpo.py"),
    ("advantages/gdpo.py", "eps_inside=True", "eps_inside=False", ADVANTAGES + "gdpo.py"),
    ("advantages/bnpo.py", "1 + a / 3", "1 + a / 2", ADVANTAGES + "bnpo.py"),
    ("advantages/bnpo.py", "means.var()", "means.var(correction=0)", ADVANTAGES + "bnpo.py"),
    ("advantages/bnpo.py", ".reciprocal()", "", ADVANTAGES + "bnpo.py"),
    ("advantages/mc_grpo.py", "spread = spread + eps", "pass", ADVANTAGES + "mc_grpo.py"),
    ("advantages/mc_grpo.py", "~pivots(", "pivots(", ADVANTAGES + "mc_grpo.py"),
    ("advantages/mapo.py", "gamma * running", "running", ADVANTAGES + "mapo.py"),
    ("advantages/mapo.py", "group_zscore(returns", "group_zscore(rewards", ADVANTAGES + "mapo.py"),
    ("advantages/mapo_certainty.py", "(1 - certainty)", "certainty", PROCESS),
    ("advantages/grpo_process.py", ".flip(1).cumsum(1).flip(1)", ".cumsum(1)", PROCESS),
    ("advantages/reinforce_pp.py", "- 1 - token_positions", "- token_positions", TOKENS),
    ("advantages/otb.py", "1 - 2 * old", "1 - old", TOKENS),
    ("advantages/otb.py", "cells) + eps", "cells)", TOKENS),
    ("advantages/shaping.py", "return -penalty", "return penalty", ADVANTAGES + "shaping.py"),
    ("advantages/grpo_compat.py", "correction=ddof", "correction=0", ADVANTAGES + "grpo_compat.py"),
    ("advantages/combinators.py", "count - ddof", "count", ADVANTAGES + "shaping.py"),
    ("modulators/ace.py", "values < 0,", "values > 0,", MODULATORS),
    ("modulators/ace.py", "old_logprobs.double() - ref", "ref_logprobs.double() - ref", MODULATORS),
    ("losses/surrogate.py", "1 + clip_high", "1 + clip_low", LOSSES),
    ("losses/surrogate.py", "torch.maximum(plain", "torch.minimum(plain", LOSSES),
    ("losses/gspo.py", "mean.exp()", "mean.detach().exp()", LOSSES),
    ("losses/gspo.py", "mean.clamp(max=max_log_ratio)", "mean", LOSSES),
    ("losses/cispo.py", ".detach().exp()", ".exp()", LOSSES),
    ("losses/gmpo.py", "sign * torch.minimum", "torch.minimum", LOSSES),
    ("losses/sapo.py", "4 / tau", "2 / tau", LOSSES),
    ("losses/ppo_ewma.py", "logprobs.detach() - math", "logprobs - math", LOSSES),
    ("losses/vespo.py", "k * log_weight", "log_weight", LOSSES),
    ("losses/reinforce.py", "-advantages", "advantages", LOSSES),
    ("losses/aggregate.py", ".to(values.dtype) + eps",
     ".to(values.dtype)", "losses/test_aggregate.py"),
    ("regularizers/kl.py", "d.exp() - d - 1", "d.exp() + d - 1", REGULARIZERS),
    ("regularizers/kl.py", "log_ratio.exp()", "log_ratio.detach().exp()", REGULARIZERS),
    ("regularizers/entropy.py", "return -coef", "return coef", REGULARIZERS),
    ("regularizers/lp_reg.py", "logprobs < proxy_logprobs",
     "logprobs > proxy_logprobs", REGULARIZERS),
    ("regularizers/lp_reg.py", "advantages < 0, rho", "advantages > 0, rho", REGULARIZERS),
    ("regularizers/covariance.py", "- advantages.mean()", "", REGULARIZERS),
    ("regularizers/top_entropy.py", "(1 - share)", "share", REGULARIZERS),
    ("regularizers/opsm.py", "drift > threshold", "drift < threshold", REGULARIZERS),
    ("correction.py", "old_logprobs - sampler_logprobs",
     "sampler_logprobs - old_logprobs", "test_correction.py"),
    ("correction.py", "mean.where(mean > 1e-8, 1.0)", "mean", "test_correction.py"),
    ("sampling.py", ") > group_min", ") >= group_min", "test_sampling.py"),
    ("algorithms.py", "values * weights)", "values)", "test_algorithms.py"),
    ("inputs.py", "repeat_interleave(size)", "repeat(size)", "test_inputs.py"),
    ("inputs.py", "present & ~(alone & (values == 0))", "present", "test_inputs.py"),
    ("advantages/run.py", "result.keep & changed.keep", "changed.keep", ADVANTAGES + "estimate.py"),
    ("advantages/run.py", "rewarded & given.keep", "given.keep", ADVANTAGES + "estimate.py"),
    ("advantages/__init__.py", "overridden(\"estimator\", slots[\"estimator\"], options)",
     "slots[\"estimator\"]", ADVANTAGES + "estimate.py"),
]  # fmt: skip


def survives(copy: Path, module: str, old: str, new: str, test: str) -> bool:
    """Whether the tests still pass with the replacement made."""
    file = copy / "rlnorm" / module
    text = file.read_text()
    if old not in text:
        raise ValueError(f"{module} has no {old!r}: mutate something that is there")
    file.write_text(text.replace(old, new))
    child = os.fork()
    if child == 0:
        # a fork of this process has torch already; it must not have rlnorm
        os.chdir(copy)
        sys.path.insert(0, str(copy))
        sys.dont_write_bytecode = True
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        options = ["-x", "-q", "-p", "no:cacheprovider", "-o", "addopts=--import-mode=importlib"]
        os._exit(int(pytest.main([*options, f"tests/rlnorm/{test}"])) != 0)
    status = os.waitpid(child, 0)[1]
    file.write_text(text)
    return status == 0


def main(word: str) -> int:
    """Report every mutation; exit status 1 when a test missed one."""
    chosen = [m for m in MUTATIONS if word in m[0]]
    missed = 0
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder)
        for name in ("rlnorm", "tests", "pyproject.toml"):
            source = ROOT / name
            (shutil.copytree if source.is_dir() else shutil.copy)(source, copy / name)
        for test in sorted({test for *_, test in chosen}):
            if not survives(copy, "groups.py", "import torch", "import torch", test):
                raise RuntimeError(f"{test} fails without any mutation")
        for module, old, new, test in chosen:
            survived = survives(copy, module, old, new, test)
            missed += survived
            word = "MISSED" if survived else "caught"
            print(f"{word} {module}: {old!r} -> {new!r}", flush=True)
    print(f"{len(chosen) - missed} caught, {missed} missed")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1] if len(sys.argv) > 1 else ""))
