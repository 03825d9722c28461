"""Hostile inputs to whole commands, of every kind: how many hold, and what each other one did. Prints a table, for benchmarks/results.

    python benchmarks/hostile.py [--against CHECKOUT] [--out benchmarks/results/hostile.md]

`--against` runs the same inputs against the commands of another checkout: what held before. `--out` replaces the table in a file.
"""

import argparse
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.hostile import cases, sandbox  # noqa: E402
from tests.hostile.forking import Forks  # noqa: E402
from tests.hostile.held import ended  # noqa: E402

WORDS = ("killed", "status", "traceback", "printed what a terminal obeys", "printed an endless name", "touched", "")
"""How faults begin; seconds beyond the limit do not."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--against", type=Path, action="append", default=[])
    parser.add_argument("--kinds", nargs="+", default=sorted(cases.KINDS))
    parser.add_argument("--share", type=float, default=1.0, help="of the cases of each kind, drawn by a seed")
    parser.add_argument("--good", type=Path, help="keep the good things here, and take them from here")
    parser.add_argument("--faults", type=Path, help="write each fault there")
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        good = asked.good or Path(scratch) / "good"
        if not good.exists():
            forks = Forks(ROOT, Path(scratch) / "home")
            sandbox.build(good, forks)
            forks.close()
        found = {checkout: run(checkout, asked, good, Path(scratch)) for checkout in (ROOT, *asked.against)}
    table = lines(found, asked.kinds)
    print("\n".join(table))
    if asked.out:
        text = asked.out.read_text().split("\n") if asked.out.exists() else ["# Hostile inputs", ""]
        kept = text[: next((at for at, line in enumerate(text) if line.startswith("|")), len(text))]
        asked.out.write_text("\n".join([*kept, *table]) + "\n")


@dataclass(frozen=True)
class Found:
    """How many cases of a kind there were and held, what the others did, and the seconds of a processor that the longest took."""

    count: int
    held: int
    faults: Counter[str]
    slowest: float


def run(checkout: Path, asked: argparse.Namespace, good: Path, scratch: Path) -> dict[str, Found]:
    """Run the cases of each kind against a checkout's commands."""
    forks, found = Forks(checkout, scratch / "home"), {}
    for kind in asked.kinds:
        numbers, begun = range(cases.KINDS[kind][1]), time.monotonic()
        if asked.share < 1:
            numbers = sorted(random.Random(0).sample(numbers, max(1, round(asked.share * len(numbers)))))
        held, faults, slowest = 0, Counter[str](), 0.0
        for number in numbers:
            one = ended(cases.case(kind, number), forks, good, scratch / "place")
            held, slowest = held + (not one.faults), max(slowest, one.seconds)
            faults.update({next(what for what in WORDS if fault.startswith(what)) for fault in one.faults})
            if one.faults and asked.faults:
                with open(asked.faults, "a") as file:
                    words = " ".join(word[:200] for word in cases.case(kind, number).words)
                    text = f"== {checkout.name} {kind} {number} {one.status} {one.faults}\n{words}\n{one.output[-3000:]}\n"
                    file.write(text.encode(errors="backslashreplace").decode())
        shutil.rmtree(scratch / "place", ignore_errors=True)
        found[kind] = Found(len(numbers), held, faults, slowest)
        print(f"{checkout.name} {kind}: {held} of {len(numbers)}, {time.monotonic() - begun:.0f} s", file=sys.stderr, flush=True)
    forks.close()
    return found


def lines(found: dict[Path, dict[str, Found]], kinds: list[str]) -> list[str]:
    """Lay out the table: a line a kind; how many held, and what the others did, now and in each other checkout."""
    names = ["now", *(("before",) if len(found) == 2 else [checkout.name for checkout in list(found)[1:]])]
    heads = ["kind", "inputs", *(head for name in names for head in (f"held {name}", f"what the others did {name}")), "longest now (s)"]
    table = [f"| {' | '.join(heads)} |", "|---|---:|" + "---:|---|" * len(found) + "---:|"]
    sums = [0] * (len(found) + 1)
    for kind in kinds:
        columns = [one[kind] for one in found.values()]
        cells = [kind, columns[0].count]
        for one in columns:
            cells += [one.held, ", ".join(f"{what} {count}" for what, count in one.faults.most_common()) or "–"]
        table.append(f"| {' | '.join(map(str, cells))} | {columns[0].slowest:.1f} |")
        sums = [before + more for before, more in zip(sums, (columns[0].count, *(one.held for one in columns)), strict=True)]
    total = ["**all**", str(sums[0])] + [cell for held in sums[1:] for cell in (f"**{held}**", "")]
    return [*table, f"| {' | '.join(total)} | |"]


if __name__ == "__main__":
    main()
