"""Grades the cases of `data/unseen.jsonl` and prints, for each kind, how many verdicts are right.

Run as `python tests/rewards/math/unseen.py`; it writes no file.
"""

import json
from collections import defaultdict
from pathlib import Path

from rlnorm.rewards.math.verify import verify
from rlnorm.rewards.types import Status

CASES = Path(__file__).parent / "data" / "unseen.jsonl"


def read_cases(path: Path = CASES) -> list[dict]:
    """The cases, one for each line of the file."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def is_right(case: dict) -> bool:
    """Whether the verdict on this case is the expected one."""
    verdict = verify(case["gold"], case["pred"])
    return (verdict.status is Status.CORRECT) == case["expected"]


def main() -> None:
    kinds = defaultdict(list)
    missed = []
    for case in read_cases():
        right = is_right(case)
        kinds[case["category"]].append(right)
        if not right:
            missed.append(case)
    for kind, rights in kinds.items():
        print(f"{kind:22} {sum(rights):3} of {len(rights)}")
    total = sum(map(len, kinds.values()))
    print(f"{'all':22} {total - len(missed):3} of {total} ({1 - len(missed) / total:.1%})")
    false_positives = [case for case in missed if not case["expected"]]
    print(f"false positives: {len(false_positives)}")
    for case in missed:
        verdict = "refused" if case["expected"] else "ACCEPTED"
        print(f"{verdict} {case['id']} {case['gold']!a} <- {case['pred']!a}")


if __name__ == "__main__":
    main()
