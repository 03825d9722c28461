"""Hold this checkout's numbers to another one's: python benchmarks/same_numbers.py OTHER_CHECKOUT

For changes that are to change no number. Both checkouts run the same small jobs with this interpreter: frames of the voxel world, four
kinds of encoder trained and judged, agents on latents and on pixels, a comparison, a search. Then this checkout goes on with runs that
the other one left half done. Prints a line for everything that is compared: weights by hash, metrics, results and reports by their
values without times and paths, pictures by hash. Ends with status 1 where something differs.

`git worktree add FOLDER REVISION` makes the other checkout. --keep FOLDER keeps what both wrote, and takes the other one's part from
there when it is finished.
"""

import argparse
import csv
import hashlib
import json
import os
import shlex
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
ENCODERS = {"conv": ("debug", 20), "clockwork": ("cwvae_debug", 10), "nvae": ("nvae_debug", 10), "pca": ("pca", 1)}
UNSTABLE = ("seconds", "time", "per_second", "process", "session", "version", "path", "folder", "command", "store", "attempts", "sentences")
"""Parts of the names of values that are no numbers or differ between two runs of the same code: times, places, starts, words."""
_DONE = "done"
_PLACED = "--device cpu --threads 1"
_SHORT = f"--evaluation.every 128 --evaluation.episodes 2 --evaluation.final-episodes 2 {_PLACED}"
_DQN = "--algorithm.buffer-size 1000 --algorithm.learning-starts 64 --algorithm.batch-size 16"
FRAMES = "make_frames.py build --source VoxelTreechop-v0 --frames 1600 --episode-frames 200 --test 0.2 --store frames"


def encoders(halves: int) -> Iterator[str]:
    """Yield the commands that train the encoders to one or both halves of their steps."""
    for name, (preset, steps) in ENCODERS.items():
        # a model with memory at the rate at which agents act, as it must be
        stride = 4 if name == "clockwork" else 1
        yield f"train_encoder.py {preset} --store frames --run {name} --steps {steps * halves} --stride {stride} {_PLACED}"


def agents(halves: int) -> Iterator[str]:
    """Yield the commands that train agents to one or both halves of their steps."""
    for name, chosen in (("ppo", "--agent debug --encoder conv"), ("dqn", f"--agent dqn --encoder clockwork {_DQN}")):
        yield f"train_agent.py debug {chosen} --run {name} --steps {128 * halves} --checkpoint-every 64 {_SHORT}"


def judged_and_compared() -> Iterator[str]:
    """Yield the commands that judge, compare and search."""
    for name in ENCODERS:
        yield f"evaluate_encoder.py {name} --store frames {_PLACED}"
    rows = "--encoders conv clockwork --controls pixels untrained pca --seeds 2"
    yield f"compare_encoders.py debug {rows} --steps 128 --run comparison {_SHORT}"
    yield f"tune_agent.py debug --encoder conv --space debug --trials 2 --steps 128 --run search {_SHORT}"


def run(checkout: Path, folder: Path, jobs: Iterable[str]) -> None:
    """Run commands of a checkout in a folder, one after the other; end with what a failing one said."""
    folder.mkdir(parents=True, exist_ok=True)
    environment = os.environ | {"PYTHONPATH": str(checkout), "OMP_NUM_THREADS": "1"}
    for job in jobs:
        print(f"{folder.name}: {job}", file=sys.stderr)
        script, *words = shlex.split(job)
        command = [sys.executable, str(checkout / script), *words]
        ended = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
        if ended.returncode:
            sys.exit(f"{checkout}: {job} ended with {ended.returncode}:\n{ended.stderr[-3000:]}")


def found(folder: Path) -> dict[str, Counter[Any]]:
    """Return what is compared of a folder, by file: values with their names, or a hash."""
    read = {"*.json": _document, "metrics.jsonl": _lines, "*.png": _hash, "*.svg": _hash, "*.csv": _table}
    kept = {}
    for pattern, reader in read.items():
        for path in sorted(folder.rglob(pattern)):
            kept[str(path.relative_to(folder))] = reader(path)
    return kept


def _document(path: Path) -> Counter[Any]:
    return Counter(_leaves(json.loads(path.read_text())))


def _lines(path: Path) -> Counter[Any]:
    return Counter(leaf for line in path.read_text().splitlines() for leaf in _leaves(json.loads(line)))


def _table(path: Path) -> Counter[Any]:
    with path.open(newline="") as file:
        return Counter(leaf for row in csv.DictReader(file) for leaf in _leaves(row))


def _hash(path: Path) -> Counter[Any]:
    return Counter([("sha256", hashlib.sha256(path.read_bytes()).hexdigest())])


def _leaves(value: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """Yield the values of a document with the last part of their names: where they stand in it may change."""
    if any(part in name.lower() for part in UNSTABLE):
        return
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _leaves(inner, key)
    elif isinstance(value, list):
        for inner in value:
            yield from _leaves(inner, name)
    else:
        yield name, repr(value)


def compare(expected: dict[str, Counter[Any]], got: dict[str, Counter[Any]]) -> int:
    """Print a line a file and return how many differ; values that only this checkout writes are counted and no difference."""
    differing = 0
    for name, values in expected.items():
        if name not in got:
            missing, said = values, "MISSING"
        else:
            missing = values - got[name]
            more = (got[name] - values).total()
            said = "same" + (f", and {more} new values" if more else "")
        if missing:
            differing += 1
            few = "; ".join(f"{key} = {value}" for (key, value), _ in missing.most_common(3))
            said = f"DIFFERS in {missing.total()} of {values.total()}: {few}" if said != "MISSING" else said
        print(f"{name:<60} {values.total():>6} values  {said}")
    return differing


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("other", type=Path, help="a checkout of the code before the change")
    parser.add_argument("--keep", type=Path, help="write everything into this folder and keep it")
    options = parser.parse_args()
    with nullcontext(options.keep) if options.keep else tempfile.TemporaryDirectory() as kept:
        folder, other = Path(kept).resolve(), options.other.resolve()
        everything = [FRAMES, *encoders(2), *agents(2), *judged_and_compared()]
        if not (folder / "before" / _DONE).exists():
            run(other, folder / "before", everything)
            (folder / "before" / _DONE).touch()
        run(ROOT, folder / "after", everything)
        # agents look through finished encoders
        for jobs in (encoders, agents):
            run(other, folder / "resumed", [FRAMES, *jobs(1)])
            run(ROOT, folder / "resumed", jobs(2))
        before = found(folder / "before")
        print("\nThe same jobs by both checkouts")
        differing = compare(before, found(folder / "after"))
        print("\nRuns that the other checkout left half done, gone on with by this one")
        trained = ("encoder.json", "agent.json", "result.json")
        runs = (*ENCODERS, "ppo", "dqn")
        differing += compare(
            {f"{one}/{file}": before[f"{one}/{file}"] for one in runs for file in trained if f"{one}/{file}" in before},
            found(folder / "resumed"),
        )
    print(f"\n{differing} of the files differ" if differing else "\nno number differs")
    return 1 if differing else 0


if __name__ == "__main__":
    sys.exit(main())
