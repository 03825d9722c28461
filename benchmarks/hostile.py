"""Hostile inputs to whole commands, of every kind: how many hold, and what each other one did. Writes a table as Markdown.

    python benchmarks/hostile.py [--against CHECKOUT] [--out benchmarks/results/hostile.md]

`--against` runs the same inputs against the commands of another checkout: what held before.
"""

import argparse
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.hostile import cases, sandbox  # noqa: E402
from tests.hostile.forking import Forks  # noqa: E402
from tests.hostile.held import ended  # noqa: E402


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
    table = "\n".join(lines(found, asked.kinds))
    print(table)
    if asked.out:
        asked.out.write_text(table + "\n")


def run(checkout: Path, asked: argparse.Namespace, good: Path, scratch: Path) -> dict[str, tuple[int, int, Counter[str], float]]:
    """Return for each kind how many cases there were, how many held, what the others did, and the longest of them."""
    forks, found = Forks(checkout, scratch / "home"), {}
    for kind in asked.kinds:
        numbers, begun = range(cases.KINDS[kind][1]), time.monotonic()
        if asked.share < 1:
            numbers = sorted(random.Random(0).sample(numbers, max(1, round(asked.share * len(numbers)))))
        held, faults, slowest = 0, Counter[str](), 0.0
        for number in numbers:
            one = ended(cases.case(kind, number), forks, good, scratch / "place")
            held, slowest = held + (not one.faults), max(slowest, one.seconds)
            faults.update({fault.split(" ")[0] for fault in one.faults})
            if one.faults and asked.faults:
                with open(asked.faults, "a") as file:
                    words = " ".join(word[:200] for word in cases.case(kind, number).words)
                    text = f"== {checkout.name} {kind} {number} {one.status} {one.faults}\n{words}\n{one.output[-3000:]}\n"
                    file.write(text.encode(errors="backslashreplace").decode())
        shutil.rmtree(scratch / "place", ignore_errors=True)
        found[kind] = (len(numbers), held, faults, slowest)
        print(f"{checkout.name} {kind}: {held} of {len(numbers)}, {time.monotonic() - begun:.0f} s", file=sys.stderr, flush=True)
    forks.close()
    return found


def lines(found: dict[Path, dict[str, tuple[int, int, Counter[str], float]]], kinds: list[str]) -> list[str]:
    """Lay out the table: a line a kind, a column a checkout."""
    return [str(found)]


if __name__ == "__main__":
    main()
