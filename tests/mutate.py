"""Break one thing at a time and see a test fail: tests/mutate.py [WORD | MODULE OLD NEW TEST].

Works on a copy in a temporary folder, merged as it is installed: rlnorm/ with trainers/, rewards/,
launch/ and configs/ inside. Each line of MUTATIONS is a module, the code to replace, what to put
there, and the test file that must notice, in tests/rlnorm/ or the module's room. WORD picks
modules; MODULE OLD NEW TEST is one mutation more, as a line of MUTATIONS has it.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import torch  # noqa: F401 - imported once, before the forks

ROOT = Path(__file__).resolve().parents[1]
ROOMS = ("rewards", "trainers", "launch", "configs")
NOT_THE_COPY = 99
"""Exit status of a child that imported rlnorm from somewhere else."""
ADVANTAGES, LOSSES = "advantages/test_", "losses/test_"
MODULATORS, REGULARIZERS = "modulators/test_", "regularizers/test_"

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
    ("advantages/reinforce.py", "== \"group\"", "!= \"group\"", ADVANTAGES + "reinforce.py"),
    ("advantages/rloo.py", "count - 1", "count", ADVANTAGES + "rloo.py"),
    ("advantages/opo.py", ", weights=lengths.double()", "", ADVANTAGES + "opo.py"),
    ("advantages/gpg.py", "present / rewarded", "rewarded / present", ADVANTAGES + "gpg.py"),
    ("advantages/remax.py", "total - greedy", "total + greedy", ADVANTAGES + "remax.py"),
    ("advantages/pass_at_k.py", "- 1]", "- 2]", ADVANTAGES + "pass_at_k.py"),
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
    ("advantages/mapo_certainty.py", "(1 - certainty)", "certainty",
     ADVANTAGES + "mapo_certainty.py"),
    ("advantages/grpo_process.py", ".flip(1).cumsum(1).flip(1)", ".cumsum(1)",
     ADVANTAGES + "grpo_process.py"),
    ("advantages/reinforce_pp.py", "- 1 - token_positions", "- token_positions",
     ADVANTAGES + "reinforce_pp.py"),
    ("advantages/otb.py", "1 - 2 * old", "1 - old", ADVANTAGES + "otb.py"),
    ("advantages/otb.py", "cells) + eps", "cells)", ADVANTAGES + "otb.py"),
    ("advantages/shaping.py", "-penalty_factor *", "penalty_factor *", ADVANTAGES + "shaping.py"),
    ("advantages/grpo_compat.py", "correction=ddof", "correction=0", ADVANTAGES + "grpo_compat.py"),
    ("advantages/combinators.py", "count - ddof", "count", ADVANTAGES + "combinators.py"),
    ("modulators/ace.py", "values < 0,", "values > 0,", MODULATORS + "ace.py"),
    ("modulators/ace.py", "old_logprobs.double() - ref", "ref_logprobs.double() - ref",
     MODULATORS + "ace.py"),
    ("losses/surrogate.py", "1 + clip_high", "1 + clip_low", LOSSES + "surrogate.py"),
    ("losses/surrogate.py", "torch.maximum(plain", "torch.minimum(plain", LOSSES + "surrogate.py"),
    ("losses/gspo.py", "mean.exp()", "mean.detach().exp()", LOSSES + "gspo.py"),
    ("losses/gspo.py", "mean.clamp(max=max_log_ratio)", "mean", LOSSES + "gspo.py"),
    ("losses/cispo.py", ".detach().exp()", ".exp()", LOSSES + "cispo.py"),
    ("losses/gmpo.py", "sign * torch.minimum", "torch.minimum", LOSSES + "gmpo.py"),
    ("losses/sapo.py", "4 / tau", "2 / tau", LOSSES + "sapo.py"),
    ("losses/ppo_ewma.py", "logprobs.detach() - math", "logprobs - math", LOSSES + "ppo_ewma.py"),
    ("losses/vespo.py", "k * log_weight", "log_weight", LOSSES + "vespo.py"),
    ("losses/reinforce.py", "-advantages", "advantages", LOSSES + "reinforce.py"),
    ("losses/aggregate.py", ".to(values.dtype) + eps",
     ".to(values.dtype)", "losses/test_aggregate.py"),
    ("regularizers/kl.py", "d.exp() - d - 1", "d.exp() + d - 1", REGULARIZERS + "kl.py"),
    ("regularizers/kl.py", "log_ratio.exp()", "log_ratio.detach().exp()", REGULARIZERS + "kl.py"),
    ("regularizers/entropy.py", "return -coef", "return coef", REGULARIZERS + "entropy.py"),
    ("regularizers/lp_reg.py", "logprobs < proxy_logprobs",
     "logprobs > proxy_logprobs", REGULARIZERS + "lp_reg.py"),
    ("regularizers/lp_reg.py", "advantages < 0, rho", "advantages > 0, rho",
     REGULARIZERS + "lp_reg.py"),
    ("regularizers/covariance.py", "- advantages.mean()", "", REGULARIZERS + "covariance.py"),
    ("regularizers/top_entropy.py", "(1 - share)", "share", REGULARIZERS + "top_entropy.py"),
    ("regularizers/opsm.py", "drift > threshold", "drift < threshold", REGULARIZERS + "opsm.py"),
    ("correction.py", "old_logprobs - sampler_logprobs",
     "sampler_logprobs - old_logprobs", "test_correction.py"),
    ("correction.py", "mean.where(mean > 1e-8, 1.0)", "mean", "test_correction.py"),
    ("sampling.py", ") > group_min", ") >= group_min", "test_sampling.py"),
    ("algorithms.py", "values * weights)", "values)", "test_algorithms.py"),
    ("trainers/seeds.py", "in (seed, *parts)", "in parts", "test_seeds.py"),
    ("trainers/seeds.py", '"/".join', '"".join', "test_seeds.py"),
    ("trainers/seeds.py", "draws[prompt.prompt_id] += 1", "pass", "test_seeds.py"),
    ("trainers/advantages.py", "value * factor", "value", "test_advantages.py"),
    ("trainers/advantages.py", "order.tensor_split", "order.sort()[0].tensor_split",
     "test_advantages.py"),
    ("trainers/learner/packing.py", "length > room", "length >= room", "learner/test_packing.py"),
    ("trainers/learner/packing.py", "(2 * batch", "(3 * batch", "learner/test_packing.py"),
    ("trainers/learner/packing.py", "batch.positions[tokens]", "batch.positions",
     "learner/test_packing.py"),
    ("rewards/match.py", "boxes[-1]", "boxes[0]", "test_match.py"),
    ("rewards/length.py", "(start - end)", "(end - start)", "test_length.py"),
    ("rewards/length.py", "max_tokens - cache_tokens)", "max_tokens)", "test_length.py"),
    # this module runs in a child process only
    ("rewards/worker.py", '"memory", f"a worker', '"error", f"a worker', "test_pool.py"),
    ("inputs.py", "repeat_interleave(size)", "repeat(size)", "test_inputs.py"),
    ("inputs.py", "present & ~(alone & (values == 0))", "present", "test_inputs.py"),
    ("advantages/run.py", "result.keep & changed.keep", "changed.keep", ADVANTAGES + "run.py"),
    ("advantages/run.py", "rewarded & given.keep", "given.keep", ADVANTAGES + "run.py"),
    ("advantages/__init__.py", "overridden(\"estimator\", slots[\"estimator\"], options)",
     "slots[\"estimator\"]", ADVANTAGES + "run.py"),
]  # fmt: skip


def make_copy(folder: Path) -> dict[str, str]:
    """Lay the installed form and its tests into `folder`; returns an environment that uses it."""
    ignore = shutil.ignore_patterns("__pycache__")
    for room in ("rlnorm", *ROOMS):
        target = folder / "rlnorm" / (room if room in ROOMS else "")
        shutil.copytree(ROOT / room, target, ignore=ignore, dirs_exist_ok=True)
    shutil.copytree(ROOT / "tests", folder / "tests", ignore=ignore)
    shutil.copy(ROOT / "pyproject.toml", folder)
    # for the processes that tests start; none may leave or read bytecode of another mutation
    environment = {**os.environ, "PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}
    names = ["rlnorm", *(f"rlnorm.{room}" for room in ROOMS)]
    code = f"import importlib as i\nfor n in {names}: print(i.import_module(n).__file__)"
    command = [sys.executable, "-c", code]
    done = subprocess.run(
        command, env=environment, cwd=folder, capture_output=True, text=True, check=True
    )
    for file in done.stdout.splitlines():
        if not Path(file).is_relative_to(folder):
            raise RuntimeError(f"a process started by a test imports {file}, not the copy {folder}")
    return environment


def run_tests(copy: Path, environment: dict[str, str], test: str) -> int:
    """Exit status of a test file of the copy, run in a fork that has torch but not rlnorm."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    os.chdir(copy)
    os.environ.update(environment)
    sys.path[0] = str(copy)
    sys.dont_write_bytecode = True
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    options = ["-x", "-q", "-p", "no:cacheprovider", "-o", "addopts=--import-mode=importlib"]
    status = int(pytest.main([*options, test]))
    ours = [m for name, m in sys.modules.items() if name.partition(".")[0] == "rlnorm"]
    files = [Path(file) for m in ours if (file := getattr(m, "__file__", None))]
    strays = [file for file in files if not file.is_relative_to(copy)]
    if strays or not files:
        print(f"imported from outside the copy: {strays[:3]}", file=sys.stderr)
        os._exit(NOT_THE_COPY)
    os._exit(status)


def survives(
    copy: Path, environment: dict[str, str], module: str, old: str, new: str, test: str
) -> bool:
    """Whether the tests still pass with the replacement made."""
    file = copy / "rlnorm" / module
    text = file.read_text()
    if old not in text:
        raise ValueError(f"{module} has no {old!r}: mutate something that is there")
    file.write_text(text.replace(old, new))
    status = run_tests(copy, environment, test)
    file.write_text(text)
    if status == NOT_THE_COPY:
        raise RuntimeError(f"{test} does not test the copy in {copy}")
    return status == 0


def test_path(module: str, test: str) -> str:
    """Where a mutation's test file lies."""
    room = module.partition("/")[0]
    return f"tests/{room if room in ROOMS else 'rlnorm'}/{test}"


def main(arguments: list[str]) -> int:
    """Report every mutation; exit status 1 when a test missed one."""
    if len(arguments) == 4:
        chosen = [tuple(arguments)]
    else:
        chosen = [m for m in MUTATIONS if "".join(arguments) in m[0]]
    missed = 0
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder).resolve()
        environment = make_copy(copy)
        chosen = [(m, old, new, test_path(m, test)) for m, old, new, test in chosen]
        for test in sorted({test for *_, test in chosen}):
            if not survives(copy, environment, "__init__.py", "rlnorm", "rlnorm", test):
                raise RuntimeError(f"{test} fails without any mutation")
        for module, old, new, test in chosen:
            survived = survives(copy, environment, module, old, new, test)
            missed += survived
            print(f"{'MISSED' if survived else 'caught'} {module}: {old!r} -> {new!r}", flush=True)
    print(f"{len(chosen) - missed} caught, {missed} missed")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
