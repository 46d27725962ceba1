"""The fuzz gate over every gold of every local benchmark: false refusals, false acceptances, rewarded cheats.

    ORCH_DATA_DIR=… python benchmarks/bench_grading_gate.py [share of the golds, 1 for all]

Lists each pair that is graded wrongly, and those of them that math_verify alone grades rightly.
"""

import logging
import os
import runpy
import sys
from collections import Counter
from pathlib import Path

from eval.grading.extract import extract

ROOT = Path(__file__).parents[1]


def main() -> None:
    share = float(sys.argv[1]) if len(sys.argv) > 1 else 1.0
    fuzz = runpy.run_path(str(ROOT / "tests" / "eval" / "fuzz.py"))
    figures = fuzz["run"](Path(os.environ["ORCH_DATA_DIR"]), share=share)
    for title, pairs, total in (
        ("refused respellings", figures.refused, figures.num_right),
        ("accepted corruptions", figures.accepted, figures.num_wrong),
        ("rewarded cheats", figures.rewarded, figures.num_cheats),
    ):
        print(f"{title}: {len(pairs)} of {total} ({100 * len(pairs) / max(total, 1):.4f} %)")
        print("   ", Counter(pair.how for pair in pairs).most_common(12))
        for pair in pairs[:200]:
            print(f"    {pair.how:40} {pair.response[:90]!r:60} gold {pair.problem.answer[:80]!r}")
    print(f"asked math_verify: {figures.num_undecided}")
    better = [pair for pair in figures.refused if alone(pair)]
    print(f"math_verify alone is right: {len(better)}")
    for pair in better:
        print(f"    {pair.how:40} {pair.response[:90]!r:60} gold {pair.problem.answer[:80]!r}")


def alone(pair) -> bool:
    """Whether math_verify, called directly, accepts a pair."""
    from math_verify import parse, verify

    answer = extract(pair.response).answer
    return bool(verify(parse(f"\\boxed{{{pair.problem.answer}}}"), parse(f"\\boxed{{{answer}}}")))


if __name__ == "__main__":
    logging.disable(logging.CRITICAL)
    main()
