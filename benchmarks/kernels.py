"""Head statistics side by side: rlnorm.kernels, every installed peer, and the bare products.

    python benchmarks/kernels.py              # under ten minutes on a GPU, under twenty on a CPU
    python benchmarks/kernels.py --tokens 4096 --vocabulary 32768 --hidden 896 --dtype bfloat16

Everyone gets the same peaked inputs and a random upstream gradient for every token; the loss is
sum g (logprob + 0.01 entropy), or g logprob where a peer yields nothing else. Variants run in
interleaved rounds; times are medians, with the least and the greatest beside them, of event
timings on a GPU and of wall time on a CPU (there also of process CPU time / threads, since other
programs may load the machine). Errors are against float64 of the same operands, of the run that
is timed. Peak memory is what a call adds; on a CPU by the high-water mark of a fresh process. A
peer that is not installed, fails, runs out of memory or out of time is listed by name.
"""

import argparse
import gc
import math
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from kernels_heads import PROXY, Head, heads, loss_of
from record import RESULTS, conditions, keep

from rlnorm.kernels import token_stats

PACKAGES = (
    "torch", "triton", "liger_kernel", "liger-cute-kernels", "nvidia-cutlass-dsl",
    "cut-cross-entropy",
)  # fmt: skip
KINDS = ("forward", "both")
Shape = tuple[int, int, int]


def make_inputs(shape: Shape, dtype: torch.dtype, device: str):
    """Rows from flat to near one-hot, as a policy's are: largest logits from about 4 to 33."""
    t, v, d = shape
    generator = torch.Generator(device).manual_seed(0)
    like = {"generator": generator, "device": device}
    order = torch.randperm(t, **like)
    spread = torch.linspace(1.0, 7.0, t, device=device)[order, None] / d**0.5
    hidden = (torch.randn(t, d, **like) * spread).to(dtype).requires_grad_()
    weight = torch.randn(v, d, **like).to(dtype).requires_grad_()
    return hidden, weight, torch.randint(v, (t,), **like), torch.randn(t, **like)


def exact_results(inputs, outputs: tuple[str, ...]):
    """Statistics in float64, and gradients that were float64 until the end."""
    hidden, weight, targets, upstream = inputs
    leaves = [x.detach().double().requires_grad_() for x in (hidden, weight)]
    stats = token_stats(*leaves, targets, want=outputs, proxy=PROXY, backend="chunked")
    named = {name: getattr(stats, name) for name in outputs}
    grads = torch.autograd.grad(loss_of(named, upstream.double()), leaves)
    return {k: x.detach() for k, x in named.items()}, [x.float() for x in grads]


def errors(head: Head, inputs, exact) -> dict[str, float]:
    """One run, compared."""
    loss, stats = head.run(*inputs)
    grads = torch.autograd.grad(loss, inputs[:2])
    wanted, exact_grads = exact
    found = {
        f"{name}_max_abs": (stats[name].detach().double() - x).abs().max().item()
        for name, x in wanted.items()
    }
    for name, got, true in zip(("d_hidden", "d_weight"), grads, exact_grads, strict=True):
        found[f"{name}_relative"] = ((got.float() - true).norm() / true.norm()).item()
    return found


def calls_of(head: Head, inputs) -> dict[str, Callable[[], Any]]:
    def both() -> None:
        torch.autograd.grad(head.run(*inputs)[0], inputs[:2])

    def forward() -> None:
        with torch.no_grad():
            head.run(*inputs)

    return {"forward": forward, "both": both}


def bare_products(inputs) -> dict[str, Callable[[], Any]]:
    """Not a head: the three products any head needs, logits kept. A GPU's clock depends on what
    it multiplies, so the gradient of the logits is random too."""
    h, w = (x.detach() for x in inputs[:2])
    dz = torch.randn((h.shape[0], w.shape[0]), dtype=h.dtype, device=h.device)

    def both() -> None:
        h @ w.T
        dz @ w
        dz.T @ h

    return {"forward": lambda: h @ w.T, "both": both}


def described(error: Exception) -> str:
    if isinstance(error, torch.OutOfMemoryError):
        return "out of memory"
    lines = str(error).splitlines() or [""]
    return f"{type(error).__name__}: {lines[0][:160]}"


def attempt(row: dict[str, Any], call: Callable[[], Any]) -> Any:
    """The result, or None with the failure written to the row: a peer must not end the others."""
    try:
        return call()
    except Exception as error:
        row["failed"] = described(error)
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return None


def seconds_of(call: Callable[[], Any], device: str) -> tuple[float, float]:
    """Of one call: event or wall time, and process CPU time / threads."""
    if device == "cuda":
        torch.cuda.synchronize()
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


def peak_bytes_cuda(call: Callable[[], Any]) -> int:
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    call()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() - before


def prepare(
    found: dict[str, Head], inputs, device: str, unfit: dict[str, str], until: float
) -> dict[str, Any]:
    """Compile, compare and measure the memory of every head: the rows of the table."""
    rows = {name: {"failed": unfit[name]} if name in unfit else {} for name in found}
    for outputs in dict.fromkeys(head.outputs for head in found.values()):
        exact = exact_results(inputs, outputs)
        for name, head in found.items():
            if head.outputs != outputs or name in unfit:
                continue
            row, calls = rows[name], calls_of(head, inputs)
            if time.monotonic() > until:
                row["failed"] = "out of time"
                continue
            row["errors"] = attempt(row, lambda h=head, e=exact: errors(h, inputs, e))
            if "failed" not in row:
                attempt(row, calls["forward"])
            if "failed" not in row and device == "cuda":
                row["peak_bytes"] = attempt(row, lambda c=calls: peak_bytes_cuda(c["both"]))
    return rows


def time_all(rows: dict[str, Any], calls, device: str, rounds: int, until: float) -> None:
    """Interleaved rounds: at least one, `rounds` if there is time."""
    samples = {name: {kind: [] for kind in KINDS} for name in calls}
    for done in range(rounds):
        if done and time.monotonic() > until:
            break
        for name, kinds in calls.items():
            for kind, call in kinds.items():
                if "failed" not in rows[name]:
                    taken = attempt(rows[name], lambda c=call: seconds_of(c, device))
                    samples[name][kind].append(taken)
    for name, kinds in samples.items():
        if "failed" in rows[name]:
            continue
        for kind, taken in kinds.items():
            walls, busies = zip(*taken, strict=True)
            rows[name][f"{kind}_s"] = statistics.median(walls)
            rows[name][f"{kind}_range_s"] = [min(walls), max(walls)]
            if device == "cpu":
                rows[name][f"{kind}_cpu_s"] = statistics.median(busies)
        rows[name]["rounds"] = len(kinds["both"])


def unfit_heads(shape: Shape, dtype: str) -> dict[str, str]:
    """Peers that fail on a few rows, each in a process of its own: name -> why."""
    names = [name for name, head in heads("cuda", shape).items() if head.foreign]
    command = [sys.executable, __file__, *as_options((256, *shape[1:])), "--dtype", dtype, "--try"]
    tries = {
        name: subprocess.Popen([*command, name], stderr=subprocess.PIPE, text=True)
        for name in names
    }
    until, found = time.monotonic() + 120, {}
    for name, process in tries.items():
        try:
            said = process.communicate(timeout=max(0.1, until - time.monotonic()))[1]
            if process.returncode:
                found[name] = (said.strip().splitlines() or [f"exit {process.returncode}"])[-1]
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            found[name] = "did not end in 120 s on 256 tokens"
    return found


def as_options(shape: Shape) -> list[str]:
    given = zip(("--tokens", "--vocabulary", "--hidden"), map(str, shape), strict=True)
    return [x for pair in given for x in pair]


def high_water_bytes() -> int:
    status = Path("/proc/self/status").read_text().splitlines()
    return next(int(x.split()[1]) << 10 for x in status if x.startswith("VmHWM"))


def peak_of_this_process(name: str, shape: Shape, dtype: torch.dtype) -> int:
    """Run once to load and compile everything, then measure."""
    both = calls_of(heads("cpu", shape)[name], make_inputs(shape, dtype, "cpu"))["both"]
    both()
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")  # resets the high-water mark
    before = high_water_bytes()
    both()
    return high_water_bytes() - before


def peak_bytes_cpu(name: str, shape: Shape, dtype: str) -> int:
    command = [sys.executable, __file__, *as_options(shape), "--dtype", dtype, "--peak-of", name]
    # whatever is freed goes back to the system, so that the second call finds none of it
    env = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=300, env=env)
    return int(done.stdout.split()[-1])


def add_rates(rows: dict[str, Any], found: dict[str, Head], shape: Shape, device: str) -> None:
    """Against the products as measured at the same shapes: of_product_rate counts three products
    forward and backward and one forward, executed_of_product_rate those that are recomputed too."""
    # wall time on a CPU is also that of whatever else runs there
    suffix = "s" if device == "cuda" else "cpu_s"
    floor = rows["three products"]
    if "failed" in floor:
        return
    for name, row in rows.items():
        if f"both_{suffix}" not in row:
            continue
        row["useful_tflop_per_s"] = 6 * math.prod(shape) / row[f"both_{suffix}"] / 1e12
        row["of_product_rate"] = floor[f"both_{suffix}"] / row[f"both_{suffix}"]
        row["forward_of_product_rate"] = floor[f"forward_{suffix}"] / row[f"forward_{suffix}"]
        products = found[name].products if name in found else 3
        if products:
            row["executed_of_product_rate"] = row["of_product_rate"] * products / 3


def machine(device: str) -> dict[str, Any]:
    made_with = conditions(*PACKAGES)
    gpu = torch.cuda.get_device_name() if device == "cuda" else None
    made_with["device"] = gpu or made_with["hardware"]["cpu"]
    return made_with | {"threads": torch.get_num_threads(), "load_average": os.getloadavg()}


def table(report: dict[str, Any]) -> str:
    t, v, d = report["shape"].values()
    rows = report["rows"]
    rate = rows["three products"].get("useful_tflop_per_s", math.nan)
    lines = [
        f"t={t} v={v} d={d} {report['dtype']} on {report['machine']['device']}; "
        f"three products: {rate:.3g} TFLOP/s"
    ]
    heads = ("fwd s", "fwd+bwd s", "range", "of rate: fwd", "useful", "executed", "peak MiB")
    lines.append(f"{'variant':34}" + "".join(f"{x:>16}" for x in heads) + "   errors")
    for name, row in rows.items():
        if "failed" in row:
            lines.append(f"{name:34} {row['failed']}")
            continue
        low, high = row["both_range_s"]
        shares = ("forward_of_product_rate", "of_product_rate", "executed_of_product_rate")
        peak = row.get("peak_bytes")
        cells = [f"{row['forward_s']:.4f}", f"{row['both_s']:.4f}", f"{low:.4f}-{high:.4f}"]
        cells += ["-" if x not in row else f"{row[x]:.2f}" for x in shares]
        cells.append("-" if peak is None else f"{peak / 2**20:.0f}")
        found = " ".join(f"{k}={x:.1e}" for k, x in row.get("errors", {}).items())
        lines.append(f"{name:34}" + "".join(f"{x:>16}" for x in cells) + f"   {found}")
    return "\n".join(lines)


def measure(args, shape: Shape, largest: Shape, dtype: str, unfit: dict[str, str], until: float):
    """One table. Three fifths of its time are for compiling and comparing."""
    torch.compiler.reset()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    inputs = make_inputs(shape, getattr(torch, dtype), device)
    found = heads(device, largest)
    left = until - time.monotonic()
    rows = prepare(found, inputs, device, unfit, time.monotonic() + 0.6 * left)
    if device == "cpu" and not args.no_memory:
        for name, row in rows.items():
            if "failed" not in row:
                row["peak_bytes"] = attempt(
                    row, lambda n=name: peak_bytes_cpu(n, shape, dtype)
                )  # fmt: skip
    rows["three products"] = {}
    calls = {"three products": bare_products(inputs)}
    calls |= {name: calls_of(head, inputs) for name, head in found.items()}
    time_all(rows, calls, device, args.rounds or (30 if device == "cuda" else 5), until)
    add_rates(rows, found, shape, device)
    named = dict(zip(("tokens", "vocabulary", "hidden"), shape, strict=True))
    return {"shape": named, "dtype": dtype, "machine": machine(device), "rows": rows}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tokens", type=int)
    parser.add_argument("--vocabulary", type=int)
    parser.add_argument("--hidden", type=int)
    parser.add_argument("--dtype", choices=("float32", "bfloat16"))
    parser.add_argument("--minutes", type=float, help="for all; 9 on a GPU, 20 on a CPU")
    parser.add_argument("--rounds", type=int, help="at most; 30 on a GPU, 5 on a CPU")
    parser.add_argument("--no-memory", action="store_true", help="no peak memory on a CPU")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder for the JSON file")
    parser.add_argument("--peak-of", help=argparse.SUPPRESS)
    parser.add_argument("--try", dest="attempted", help=argparse.SUPPRESS)
    args = parser.parse_args()
    gpu = torch.cuda.is_available()
    minutes = args.minutes or (9 if gpu else 20)
    shapes = [(16384, 151936, d) for d in (4096, 896, 1536)] if gpu else [(2048, 32768, 896)]
    dtypes = ["bfloat16"] if gpu else ["float32", "bfloat16"]
    if args.tokens or args.vocabulary or args.hidden:
        t, v, d = shapes[0]
        shapes = [(args.tokens or t, args.vocabulary or v, args.hidden or d)]
    if args.peak_of:
        print(peak_of_this_process(args.peak_of, shapes[0], getattr(torch, args.dtype)))
        return
    if args.attempted:
        inputs = make_inputs(shapes[0], getattr(torch, args.dtype), "cuda")
        calls_of(heads("cuda", shapes[0])[args.attempted], inputs)["both"]()
        torch.cuda.synchronize()
        return
    reports, started = [], time.monotonic()
    cases = [(shape, x) for shape in shapes for x in ([args.dtype] if args.dtype else dtypes)]
    path = args.out / f"kernels_{'cuda' if gpu else 'cpu'}_{conditions()['date']}.json"
    unfit = unfit_heads(max(shapes), cases[0][1]) if gpu else {}
    for done, (shape, dtype) in enumerate(cases, start=1):
        until = started + 60 * minutes * done / len(cases)
        reports.append(measure(args, shape, max(shapes), dtype, unfit, until))
        print(table(reports[-1]), flush=True)
        keep(reports, path)  # a later table may fail


if __name__ == "__main__":
    main()
