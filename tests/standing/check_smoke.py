"""What the smoke sweep must show on every machine; reads what `orch table smoke --format json` prints.

Its digits depend on the processor, and which selection is ahead on the seed. What holds anywhere is that all 11 rows
have a number, that the checkpoints trained on all tokens are above the model they began from by more than twice the
error, and that one seed an arm gives no p about a method.
"""

from __future__ import annotations

import json
import sys
from typing import Any

NUM_ROWS = 11
SURE = 2.0
"""Standard errors between a difference and chance."""


def faults(table: dict[str, Any]) -> list[str]:
    """What does not hold in the JSON of the smoke sweep's table."""
    rows = table["rows"]
    found = [f"{len(rows)} rows instead of {NUM_ROWS}"] if len(rows) != NUM_ROWS else []
    found += [f"{_name(row)} has no number: {row['average']['note']}" for row in rows if row["average"]["avg"] is None]
    dense = [row for row in rows if "full" in row["labels"]]
    if len(dense) != 2:
        found.append(f"{len(dense)} arms on all tokens instead of 2")
    found += [f"{_name(row)} does not beat base: {_delta(row)}" for row in dense if not _is_better(row)]
    return found + [f"{_name(row)} has a p about a method from one seed" for row in rows if _is_bold(row)]


def _is_better(row: dict[str, Any]) -> bool:
    delta = row["average"]["delta_base"]
    return delta is not None and delta["delta"] > SURE * delta["standard_error"]


def _is_bold(row: dict[str, Any]) -> bool:
    average = row["average"]
    deltas = [delta for delta in (average["delta_base"], average.get("delta_dense")) if delta is not None]
    return average.get("num_seeds") == 1 and any(delta.get("p_method") is not None for delta in deltas)


def _name(row: dict[str, Any]) -> str:
    return " ".join(label for label in row["labels"] if label != "–")


def _delta(row: dict[str, Any]) -> str:
    delta = row["average"]["delta_base"]
    return "not compared" if delta is None else f"{100 * delta['delta']:+.1f} ± {100 * delta['standard_error']:.1f}"


def main() -> int:
    """Read the table from standard input; say what holds or what does not, and exit 1 then."""
    table = json.load(sys.stdin)
    if found := faults(table):
        print("smoke: " + "; ".join(found), file=sys.stderr)
        return 1
    dense = [f"{_name(row)} {_delta(row)}" for row in table["rows"] if "full" in row["labels"]]
    print(f"smoke: training on all tokens beats base: {', '.join(dense)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
