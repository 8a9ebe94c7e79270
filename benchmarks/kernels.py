"""Head statistics side by side: rlnorm.kernels, every installed peer, and the bare products.

    python benchmarks/kernels.py                     # what the device allows, under ten minutes
    python benchmarks/kernels.py --tokens 4096 --vocabulary 32768 --hidden 896 --dtype bfloat16

Everyone gets the same peaked inputs and a random upstream gradient for every token; the loss is
sum g (logprob + 0.01 entropy), or g logprob where a peer yields nothing else. Variants run in
interleaved rounds. A GPU's time is the median of event timings; a CPU's the least wall time and
the least process CPU time / threads, since other programs may load the machine. Errors are
against float64 on the first 256 tokens. Peak memory is what a call adds; on a CPU by the
high-water mark of a fresh process. A peer that is not installed or fails is listed by name.
"""

import argparse
import json
import math
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from rlnorm.kernels import MinP, TokenStats, fused_policy_loss, token_stats

ENTROPY_COEF = 0.01
ERROR_TOKENS = 256
RESULTS = Path(__file__).parent / "results"
Run = Callable[..., tuple[torch.Tensor, dict[str, torch.Tensor]]]


def loss_of(stats: dict[str, torch.Tensor], upstream: torch.Tensor) -> torch.Tensor:
    value = stats["logprob"]
    if "entropy" in stats:
        value = value + ENTROPY_COEF * stats["entropy"]
    if "log_kept_mass" in stats:
        value = value - ENTROPY_COEF * stats["log_kept_mass"]
    return (value * upstream).sum()


def from_stats(head: Callable[..., dict[str, torch.Tensor]]) -> Run:
    def run(hidden, weight, targets, upstream):
        stats = head(hidden, weight, targets)
        return loss_of(stats, upstream), stats

    return run


def eager(hidden, weight, targets, entropy=True):
    logprobs = (hidden @ weight.T).float().log_softmax(dim=-1)
    stats = {"logprob": logprobs.gather(1, targets[:, None])[:, 0]}
    if entropy:
        stats["entropy"] = -(logprobs.exp() * logprobs).sum(dim=-1)
    return stats


def ours(backend: str, want=("logprob", "entropy"), **options: Any) -> Run:
    def head(hidden, weight, targets):
        stats = token_stats(hidden, weight, targets, want=want, backend=backend, **options)
        return {name: getattr(stats, name) for name in want}

    return from_stats(head)


def ours_callback(backend: str, want=("logprob", "entropy"), **options: Any) -> Run:
    def run(hidden, weight, targets, upstream):
        def loss(stats: TokenStats, rows: torch.Tensor) -> torch.Tensor:
            return loss_of({name: getattr(stats, name) for name in want}, upstream[rows])

        got = fused_policy_loss(
            hidden, weight, targets, loss, want=want, backend=backend, **options
        )
        return got.loss, {name: getattr(got.stats, name) for name in want}

    return run


def torch_linear_cross_entropy(hidden, weight, targets):
    loss = torch.nn.functional.linear_cross_entropy(hidden, weight, targets, reduction="none")
    return {"logprob": -loss.float()}


def liger_linear_cross_entropy(hidden, weight, targets):
    from liger_kernel.transformers.functional import liger_fused_linear_cross_entropy

    loss = liger_fused_linear_cross_entropy(
        hidden, weight, targets, reduction="none", accum_dtype=torch.float32
    )
    return {"logprob": -(loss[0] if isinstance(loss, tuple) else loss).float()}


def liger_scaled(hidden, weight, targets):
    from liger_kernel.ops.fused_linear_scaled_cross_entropy import (
        LigerFusedLinearScaledCrossEntropyFunction as Function,
    )

    nll, entropy = Function.apply(hidden, weight, targets, 1.0, -100, 1, True)
    return {"logprob": -nll.float(), "entropy": entropy.float()}


def cut_cross_entropy(impl: str) -> Callable[..., dict[str, torch.Tensor]]:
    def head(hidden, weight, targets):
        from cut_cross_entropy import linear_cross_entropy

        loss = linear_cross_entropy(hidden, weight, targets, reduction="none", impl=impl)
        return {"logprob": -loss.float()}

    return head


def variants(device: str) -> dict[str, Run]:
    """Name -> run, ours first."""
    proxy = {"want": ("logprob", "entropy", "log_kept_mass"), "proxy": MinP(0.02)}
    fast = "triton" if device == "cuda" else "cpp"
    found = {
        f"rlnorm {fast}": ours(fast),
        f"rlnorm {fast} + Lp-Reg": ours(fast, **proxy),
        f"rlnorm {fast} callback": ours_callback(fast),
        f"rlnorm {fast} callback + Lp-Reg": ours_callback(fast, **proxy),
        "rlnorm chunked": ours("chunked"),
        "eager": from_stats(eager),
        "torch.compile": from_stats(torch.compile(eager)),
        "eager, logprob only": from_stats(lambda h, w, y: eager(h, w, y, entropy=False)),
        "liger scaled CE": from_stats(liger_scaled),
    }
    if hasattr(torch.nn.functional, "linear_cross_entropy"):
        found["torch linear_cross_entropy"] = from_stats(torch_linear_cross_entropy)
    if device == "cuda":
        found["liger FLCE"] = from_stats(liger_linear_cross_entropy)
        for impl in ("cce", "cce_kahan_full_c", "torch_compile"):
            found[f"cut-cross-entropy {impl}"] = from_stats(cut_cross_entropy(impl))
    return found


def make_inputs(t: int, v: int, d: int, dtype: torch.dtype, device: str):
    """Rows from flat to near one-hot, as a policy's are: largest logits from about 4 to 33."""
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(t, d, generator=generator)
    hidden *= torch.linspace(1.0, 7.0, t)[torch.randperm(t, generator=generator), None] / d**0.5
    weight = torch.randn(v, d, generator=generator)
    targets = torch.randint(v, (t,), generator=generator)
    upstream = torch.randn(t, generator=generator)
    hidden, weight = (x.to(device, dtype).requires_grad_() for x in (hidden, weight))
    return hidden, weight, targets.to(device), upstream.to(device)


def errors(run: Run, inputs) -> dict[str, float]:
    """Against float64 of the same rounded operands."""
    hidden, weight, targets, upstream = inputs
    some = hidden.detach()[:ERROR_TOKENS].requires_grad_()
    targets, upstream = targets[:ERROR_TOKENS], upstream[:ERROR_TOKENS]
    loss, stats = run(some, weight, targets, upstream)
    grads = torch.autograd.grad(loss, (some, weight))
    exact = [x.detach().double().requires_grad_() for x in (some, weight)]
    want, proxy = tuple(stats), MinP(0.02) if "log_kept_mass" in stats else None
    reference = token_stats(*exact, targets, want=want, proxy=proxy, backend="chunked")
    wanted = {name: getattr(reference, name) for name in want}
    exact_grads = torch.autograd.grad(loss_of(wanted, upstream.double()), exact)
    found = {
        f"{name}_max_abs": (stats[name].double() - wanted[name]).abs().max().item() for name in want
    }
    for name, got, true in zip(("d_hidden", "d_weight"), grads, exact_grads, strict=True):
        found[f"{name}_relative"] = ((got.double() - true).norm() / true.norm()).item()
    return found


class Timer:
    """Seconds of one call: (wall or event time, process CPU time / threads)."""

    def __init__(self, device: str) -> None:
        self.device = device

    def __call__(self, call: Callable[[], Any]) -> tuple[float, float]:
        if self.device == "cuda":
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            start.record()
            call()
            end.record()
            torch.cuda.synchronize()
            return start.elapsed_time(end) / 1e3, math.nan
        wall, busy = time.perf_counter(), time.process_time()
        call()
        busy = (time.process_time() - busy) / torch.get_num_threads()
        return time.perf_counter() - wall, busy


def calls_of(run: Run, inputs) -> dict[str, Callable[[], Any]]:
    hidden, weight, targets, upstream = inputs

    def both() -> None:
        torch.autograd.grad(run(hidden, weight, targets, upstream)[0], (hidden, weight))

    def forward() -> None:
        with torch.no_grad():
            run(hidden, weight, targets, upstream)

    return {"forward": forward, "both": both}


def products_only(inputs) -> Run:
    """Not a head: the three products any head needs, logits kept."""
    hidden, weight, _, _ = inputs
    h, w = hidden.detach(), weight.detach()
    dz = torch.ones((h.shape[0], w.shape[0]), dtype=h.dtype, device=h.device)

    def both() -> None:
        h @ w.T
        dz @ w
        dz.T @ h

    return {"forward": lambda: h @ w.T, "both": both}  # type: ignore[return-value]


def time_all(runs: dict[str, Run], inputs, device: str, budget_s: float) -> dict[str, Any]:
    """Interleaved rounds until the time is used up; variants that fail are named."""
    timer, calls, rows = Timer(device), {"three products": products_only(inputs)}, {}
    for name, run in runs.items():
        try:
            rows[name] = {"errors": errors(run, inputs)}
            for call in calls_of(run, inputs).values():
                call()
            calls[name] = calls_of(run, inputs)
        except Exception as error:  # a peer that cannot run is a line of the table, by name
            rows[name] = {"failed": f"{type(error).__name__}: {str(error).splitlines()[0][:160]}"}
    samples = {name: {"forward": [], "both": []} for name in calls}
    started = time.monotonic()
    while time.monotonic() - started < budget_s or not samples["three products"]["both"]:
        for name, kinds in calls.items():
            for kind, call in kinds.items():
                samples[name][kind].append(timer(call))
    for name, kinds in samples.items():
        row = rows.setdefault(name, {})
        for kind, taken in kinds.items():
            walls, busies = zip(*taken, strict=True)
            row[f"{kind}_s"] = statistics.median(walls) if device == "cuda" else min(walls)
            if device == "cpu":
                row[f"{kind}_cpu_s"] = min(busies)
        row["rounds"] = len(kinds["both"])
    return rows


def peak_bytes_cuda(run: Run, inputs) -> int:
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    calls_of(run, inputs)["both"]()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() - before


def high_water_bytes() -> int:
    status = Path("/proc/self/status").read_text().splitlines()
    return next(int(x.split()[1]) << 10 for x in status if x.startswith("VmHWM"))


def peak_of_this_process(name: str, shape: tuple[int, int, int], dtype: torch.dtype) -> int:
    """Run once on a small head to load and compile everything that can be, then measure."""
    run = variants("cpu")[name]
    calls_of(run, make_inputs(64, 512, shape[2], dtype, "cpu"))["both"]()
    inputs = make_inputs(*shape, dtype, "cpu")
    Path("/proc/self/clear_refs").write_text("5")  # resets the high-water mark
    before = high_water_bytes()
    calls_of(run, inputs)["both"]()
    return high_water_bytes() - before


def peak_bytes_cpu(name: str, args: argparse.Namespace) -> int:
    shape = ["--tokens", args.tokens, "--vocabulary", args.vocabulary, "--hidden", args.hidden]
    command = [sys.executable, __file__, *map(str, shape), "--dtype", args.dtype]
    done = subprocess.run(
        [*command, "--peak-of", name], check=True, capture_output=True, text=True, timeout=300
    )
    return int(done.stdout.split()[-1])


def describe(device: str) -> dict[str, Any]:
    cpu = next(
        (x.split(":")[1].strip() for x in Path("/proc/cpuinfo").read_text().splitlines()
         if x.startswith("model name")), platform.processor(),
    )  # fmt: skip
    packages = ("torch", "triton", "liger_kernel", "cut-cross-entropy")
    versions = {}
    for package in packages:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = "not installed"
    return {
        "device": torch.cuda.get_device_name() if device == "cuda" else cpu,
        "threads": torch.get_num_threads(),
        "versions": versions,
        "date": datetime.now(UTC).date().isoformat(),
        "load_average": os.getloadavg(),
    }


def table(report: dict[str, Any]) -> str:
    t, v, d = (report["shape"][k] for k in ("tokens", "vocabulary", "hidden"))
    kind = "both_cpu_s" if "both_cpu_s" in report["rows"]["three products"] else "both_s"
    floor = report["rows"]["three products"][kind]
    lines = [f"t={t} v={v} d={d} {report['dtype']} on {report['machine']['device']}"]
    heads = ("variant", "fwd s", "fwd+bwd s", "cpu s", "of 3 products", "peak MiB")
    lines.append(f"{heads[0]:34}" + "".join(f"{x:>15}" for x in heads[1:]) + "   errors")
    for name, row in report["rows"].items():
        if "failed" in row:
            lines.append(f"{name:34} {row['failed']}")
            continue
        peak = row.get("peak_bytes")
        cells = [f"{row['forward_s']:.4f}", f"{row['both_s']:.4f}"]
        cells.append(f"{row.get('both_cpu_s', math.nan):.4f}")
        # our recomputing modes execute four products: 1.33 is their floor
        cells.append(f"{row[kind] / floor:.2f}")
        cells.append("-" if peak is None else f"{peak / 2**20:.0f}")
        found = " ".join(f"{k}={x:.1e}" for k, x in row.get("errors", {}).items())
        lines.append(f"{name:34}" + "".join(f"{x:>15}" for x in cells) + f"   {found}")
    return "\n".join(lines)


def measure(args: argparse.Namespace, device: str) -> dict[str, Any]:
    dtype = getattr(torch, args.dtype)
    inputs = make_inputs(args.tokens, args.vocabulary, args.hidden, dtype, device)
    runs = variants(device)
    rows = time_all(runs, inputs, device, args.seconds)
    for name, row in rows.items():
        if "failed" not in row and name in runs and not args.no_memory:
            row["peak_bytes"] = (
                peak_bytes_cuda(runs[name], inputs) if device == "cuda"
                else peak_bytes_cpu(name, args)
            )  # fmt: skip
    flop = 6 * args.tokens * args.vocabulary * args.hidden
    # wall time on a CPU is also that of whatever else runs there
    kind = "both_s" if device == "cuda" else "both_cpu_s"
    for row in rows.values():
        if kind in row:
            row["useful_tflop_per_s"] = flop / row[kind] / 1e12
            row["of_product_rate"] = rows["three products"][kind] / row[kind]
    shape = {"tokens": args.tokens, "vocabulary": args.vocabulary, "hidden": args.hidden}
    return {"shape": shape, "dtype": args.dtype, "machine": describe(device), "rows": rows}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tokens", type=int)
    parser.add_argument("--vocabulary", type=int)
    parser.add_argument("--hidden", type=int)
    parser.add_argument("--dtype", choices=("float32", "bfloat16"))
    parser.add_argument("--seconds", type=float, default=25.0, help="of timing per shape")
    parser.add_argument("--no-memory", action="store_true")
    parser.add_argument("--peak-of", help=argparse.SUPPRESS)
    args = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if args.peak_of:
        shape = (args.tokens, args.vocabulary, args.hidden)
        print(peak_of_this_process(args.peak_of, shape, getattr(torch, args.dtype)))
        return
    gpu = device == "cuda"
    shapes = [(16384, 151936, d) for d in (896, 1536, 4096)] if gpu else [(2048, 32768, 896)]
    dtypes = ["bfloat16"] if gpu else ["float32", "bfloat16"]
    if args.tokens or args.vocabulary or args.hidden:
        t, v, d = shapes[0]
        shapes = [(args.tokens or t, args.vocabulary or v, args.hidden or d)]
    reports = []
    for shape in shapes:
        for dtype in [args.dtype] if args.dtype else dtypes:
            args.tokens, args.vocabulary, args.hidden = shape
            measured = argparse.Namespace(**{**vars(args), "dtype": dtype})
            reports.append(measure(measured, device))
            print(table(reports[-1]), flush=True)
    RESULTS.mkdir(exist_ok=True)
    stem = f"kernels_{device}_{datetime.now(UTC).date().isoformat()}"
    (RESULTS / f"{stem}.json").write_text(json.dumps(reports, indent=1) + "\n")
    print(f"written to {RESULTS / stem}.json")


if __name__ == "__main__":
    main()
