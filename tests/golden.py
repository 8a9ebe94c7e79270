"""Run golden cases through the public functions: python tests/golden.py DIR.

Every case of every JSON file in DIR goes through an adapter of its method (golden_advantages.py,
golden_tokens.py, golden_losses.py), which maps inputs and params to a call and the result to the
names under `expected`. Adapters never see a case's name. Where the official code crashes, returns
NaN or has a listed defect, the adapter says what is recommended instead and why; such a case is
counted apart.
"""

import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent.parent)]

import torch  # noqa: E402
from golden_advantages import ADVANTAGES  # noqa: E402
from golden_common import Case, Result, numbers  # noqa: E402
from golden_losses import LOSSES  # noqa: E402
from golden_tokens import TOKENS  # noqa: E402

ADAPTERS = {**ADVANTAGES, **TOKENS, **LOSSES}


def difference(got: Any, want: Any, where: str = "") -> tuple[float, str]:
    """The largest difference, relative above 1, and where it is; infinite for another shape."""
    if isinstance(want, dict):
        missing = [key for key in want if key not in got]
        if missing:
            return float("inf"), f"{where}: lacks {missing}"
        parts = [difference(got[key], want[key], f"{where}.{key}") for key in want]
        return max(parts, default=(0.0, where), key=lambda p: p[0])
    left, right = numbers(got), numbers(want)
    if left.shape != right.shape:
        return float("inf"), f"{where}: shape {tuple(left.shape)} is not {tuple(right.shape)}"
    same = (left == right) | (left.isnan() & right.isnan())
    gap = ((left - right).abs() / right.abs().clamp(min=1)).nan_to_num(torch.inf)
    gap = gap.where(~same, 0.0)
    return (float(gap.max()) if gap.numel() else 0.0), where


def run_case(method: str, case: Case) -> tuple[bool, list[str], str]:
    """Whether it passes, the reasons it differs from the official code by design, and details."""
    try:
        result: Result = ADAPTERS[method](case)
    except Exception as error:  # the report needs every case, whatever one of them does
        return False, [], f"{type(error).__name__}: {error}"
    worst, where = difference(result.got, result.want)
    return worst <= case.tolerance, result.reasons, f"largest difference {worst:.3g} at {where}"


def main(folder: str) -> int:
    """Run every case of every file; exit status 1 when one fails."""
    torch.set_num_threads(1)
    counts: Counter[str] = Counter()
    why: Counter[str] = Counter()
    files = sorted(Path(folder).glob("*.json"))
    if not files:
        print(f"no JSON files in {folder}")
    for path in files:
        document = json.loads(path.read_text())
        for raw in document["cases"]:
            case = Case(raw["inputs"], raw["params"], raw["expected"], raw.get("dtype") or "")
            if document["method"] not in ADAPTERS:
                ok, reasons, detail = False, [], f"no adapter for method {document['method']!r}"
            else:
                ok, reasons, detail = run_case(document["method"], case)
            if not ok:
                print(f"FAILED {path.name} {raw['name']}: {detail}")
            counts["failed" if not ok else "differ" if reasons else "passed"] += 1
            if ok:
                why.update(reasons)
    for reason, number in sorted(why.items()):
        print(f"  {number:3d} by design: {reason}")
    print(f"{counts['differ']} differ by design")
    print(f"{counts['passed']} passed, {counts['failed']} failed")
    return 1 if counts["failed"] or not files else 0


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python tests/golden.py DIR")
    sys.exit(main(sys.argv[1]))
