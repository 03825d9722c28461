"""How fast a frame store is read, beside memcpy, the disk and `minerl.data`, all in one run.

python benchmarks/frames.py [--source RECORDINGS] [--minerl-python PYTHON] [--report FILE.md]
With recordings (mp4 files of 64x64 pixels) they are put into a MineRL data root with made-up actions, and a store is built of that; with
an interpreter that has minerl 0.4.4 in it, its loaders read the same root. In the tables "held" is a store opened in_memory, "workers" are
threads of prefetch, "cold" is read from the disk and all else from the page cache. Building: benchmarks/frame_building.py.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"  # before numpy is loaded
# this file's folder would hide the room of the same name
sys.path[0] = str(Path(__file__).resolve().parent.parent)

import cv2  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402
from rich.console import Console  # noqa: E402
from rich.table import Table  # noqa: E402

import frames  # noqa: E402
from foundation.command import run  # noqa: E402
from foundation.errors import UserError  # noqa: E402
from foundation.files import write_atomically  # noqa: E402
from foundation.presets import parse  # noqa: E402
from frames.loading import prefetch  # noqa: E402
from frames.readers import find_recordings  # noqa: E402
from frames.storage.writer import store_writer  # noqa: E402

BATCH, CLIPS, CLIP_LENGTH = 256, 32, 100
SHAPE = (64, 64, 3)
FRAME_BYTES = 64 * 64 * 3
ENVIRONMENT = "MineRLTreechop-v0"
BUTTONS = ("attack", "back", "forward", "jump", "left", "right", "sneak", "sprint")
REPORT = """# How fast frames are read

Written by `python benchmarks/frames.py --source RECORDINGS --minerl-python PYTHON --report FILE` in one run. One process, one thread where
no workers are named. memcpy copies between two arrays that have been written to before; "into the caller's array" is `FrameBatches.read`
with `out=`, "held" is a store opened `in_memory`, "workers" are threads of `prefetch`. Frames were in the page cache, but for "cold":
dropped from it, so that the disk is read. A transition is a picture, an action and the next picture.

"""
MEMCPY, COLD = "memcpy", "cold, FrameBatches"
# what minerl's own example takes
MINERL_BATCH, MINERL_BUFFER = 32, 10_000


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """What to measure on."""

    source: Path | None = None
    """A folder with recordings, mp4 files of 64x64 pixels among them; without one, noise is read."""
    minerl_python: Path | None = None
    """An interpreter that has minerl 0.4.4 in it; needs --source."""
    frames: int = 60_000
    """Frames of noise in the store that is read."""
    repeats: int = 5
    """How often each way is measured; the median counts."""
    scratch: Path = Path(tempfile.gettempdir())
    """Where stores are written, and removed again."""
    report: Path | None = None
    """Where to write the tables as Markdown too."""


@dataclass(frozen=True)
class Row:
    """One way to read, and its rates in each repeat."""

    name: str
    rates: list[float]

    @property
    def median(self) -> float:
        return float(np.median(self.rates))


def main() -> None:
    config = parse(Benchmark, __doc__ or "")
    if config.minerl_python and not config.source:
        raise UserError("--minerl-python compares on recordings: give their folder with --source")
    if config.frames <= CLIPS * CLIP_LENGTH:
        raise UserError(f"--frames {config.frames}: give more than the {CLIPS * CLIP_LENGTH:,} of a batch")
    if config.repeats < 1:
        raise UserError(f"--repeats {config.repeats}: give 1 at least")
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory(dir=config.scratch, prefix="frames.") as scratch:
        store = noise_store(Path(scratch) / "noise", config.frames)
        tables = reading_sheets(store, config.repeats)
        if config.source:
            tables += recording_sheets(config.source, Path(scratch), config)
    machine = f"{os.cpu_count()} cores, load {load:.1f} before and {os.getloadavg()[0]:.1f} after; medians of {config.repeats}"
    for table in tables:
        Console().print(table.shown(machine))
    if config.report:
        write_atomically(config.report, REPORT + "\n".join(table.markdown() for table in tables) + f"\n{machine}\n")


@dataclass(frozen=True)
class Sheet:
    """Rows beside the first of them."""

    title: str
    beside: str
    rows: list[Row]

    def cells(self) -> Iterator[tuple[str, str, str, str]]:
        for row in self.rows:
            ratio = row.median / self.rows[0].median
            spread = f"{min(row.rates):,.0f} to {max(row.rates):,.0f}" if len(row.rates) > 1 else ""
            yield row.name, f"{row.median:,.0f}", spread, f"{ratio:.0%}" if ratio < 3 else f"{ratio:.1f} times"

    def shown(self, machine: str) -> Table:
        table = Table(title=f"{self.title} ({machine})")
        for column in ("", "median", "lowest to highest", self.beside):
            table.add_column(column, justify="right" if column else "left")
        for cells in self.cells():
            table.add_row(*cells)
        return table

    def markdown(self) -> str:
        lines = [f"| {self.title} | median | lowest to highest | {self.beside} |", "|---|---|---|---|"]
        return "\n".join([*lines, *("| " + " | ".join(cells) + " |" for cells in self.cells()), ""])


def noise_store(path: Path, count: int) -> frames.FrameStore:
    """Write episodes of 2,000 frames of noise, which are all alike: what the pixels are does not matter for reading."""
    episode = np.random.default_rng(0).integers(0, 256, (min(count, 2000), *SHAPE), np.uint8)
    with store_writer(path, {"source": "noise"}, SHAPE) as writer:
        for number in range(-(-count // 2000)):
            writer.add(f"{number}", episode, source="noise", frames_per_second=20.0)
        writer.finish(lambda names: dict.fromkeys(names, "train"), {"resize": "squash", "left_out": []})
    return frames.FrameStore(path)


def reading_sheets(store: frames.FrameStore, repeats: int) -> list[Sheet]:
    """Measure every way to read, warm; the ways take turns, so that a busy machine hurts all alike."""
    held = frames.FrameStore(store.path, in_memory=True)
    kinds = {f"{BATCH} random frames a batch": (BATCH, 1), f"{CLIPS} clips of {CLIP_LENGTH} a batch": (CLIPS, CLIP_LENGTH)}
    ways = {kind: {MEMCPY: memcpy(store), **reading_ways(store, held, *size)} for kind, size in kinds.items()}
    rates: dict[str, dict[str, list[float]]] = {kind: {name: [] for name in named} for kind, named in ways.items()}
    for _ in range(repeats):
        for kind, named in ways.items():
            for name, way in named.items():
                if name != COLD:
                    warm(store)
                rates[kind][name].append(way())
    title = f"of {len(store):,} of 64x64, frames/s"
    return [Sheet(f"{kind} {title}", "of memcpy", [Row(*row) for row in found.items()]) for kind, found in rates.items()]


def reading_ways(store: frames.FrameStore, held: frames.FrameStore, clips: int, length: int) -> dict[str, Callable[[], float]]:
    def batches(source: frames.FrameStore) -> frames.FrameBatches:
        return frames.FrameBatches(source, "train", clips, length)

    out = np.ones(batches(store).shape, np.uint8)
    return {
        "into the caller's array": lambda: rate(into(batches(store), out), clips * length),
        "FrameBatches": lambda: rate(batches(store), clips * length),
        "held, into the caller's array": lambda: rate(into(batches(held), out), clips * length),
        "held, FrameBatches": lambda: rate(batches(held), clips * length),
        "1 worker": lambda: ahead(batches(store), 1),
        "2 workers": lambda: ahead(batches(store), 2),
        "DataLoader, 2 processes": lambda: data_loader(batches(store)),
        COLD: lambda: cold(batches(store)),
    }


def into(batches: frames.FrameBatches, out: np.ndarray) -> Iterator[frames.FrameBatch]:
    while True:
        yield batches.read(batches.plan(), out)


def ahead(batches: frames.FrameBatches, workers: int) -> float:
    with prefetch(batches, "cpu", workers) as loaded:
        return rate(loaded, batches.shape[0] * batches.shape[1])


def cold(batches: frames.FrameBatches) -> float:
    """Frames/s of a few batches that are on the disk only (Linux)."""
    with open(batches.stores[0].path / "data.mdb", "rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    return rate(batches, batches.shape[0] * batches.shape[1], seconds=0.0, warm_up=0)


def warm(store: frames.FrameStore) -> None:
    """Bring the whole file into the page cache."""
    with open(store.path / "data.mdb", "rb") as file:
        while file.read(16 << 20):
            pass


def rate(batches: Iterator[object], frames_each: int, seconds: float = 0.5, warm_up: int = 3) -> float:
    """Take batches for a while; return frames/s."""
    for _ in range(warm_up):
        next(batches)
    count, began = 0, time.perf_counter()
    while count < 4 or time.perf_counter() - began < seconds:
        next(batches)
        count += 1
    return count * frames_each / (time.perf_counter() - began)


def memcpy(store: frames.FrameStore) -> Callable[[], float]:
    """Copy pieces of a large array into one that has been written to before."""
    source = np.ones((len(store), FRAME_BYTES), np.uint8)
    target = np.ones((CLIPS * CLIP_LENGTH, FRAME_BYTES), np.uint8)
    rng = np.random.default_rng(0)

    def copies() -> Iterator[None]:
        while True:
            first = rng.integers(len(source) - len(target))
            yield np.copyto(target, source[first : first + len(target)])

    return lambda: rate(copies(), len(target))


class PlannedBatches(torch.utils.data.Dataset):
    """Whole batches for `DataLoader`: what its processes read is decided here."""

    def __init__(self, batches: frames.FrameBatches, count: int) -> None:
        self.store, self.length = batches.stores[0], batches.clip_length
        self.starts = [batches.plan().parts[0][1] for _ in range(count)]

    def __len__(self) -> int:
        return len(self.starts)

    def __getitem__(self, number: int) -> torch.Tensor:
        return torch.from_numpy(self.store.windows(self.starts[number], self.length))


def data_loader(batches: frames.FrameBatches) -> float:
    planned = PlannedBatches(batches, 10_000)
    loader = torch.utils.data.DataLoader(planned, batch_size=None, num_workers=2, multiprocessing_context="forkserver")
    return rate(iter(loader), batches.shape[0] * batches.shape[1])


def recording_sheets(source: Path, scratch: Path, config: Benchmark) -> list[Sheet]:
    """Measure on recordings: building, and batches with actions beside what minerl makes of the same files."""
    root = scratch / "minerl"
    count = write_data_root(source, root)
    building = [decoding_rate(root), building_rate(root, scratch / "store")]
    sheets = [Sheet(f"Building a store of {count:,} frames of 64x64 from mp4, frames/s a core", "of decoding", building)]
    if config.minerl_python:
        store = frames.FrameStore(scratch / "store")
        found = ask_minerl(config.minerl_python, root)
        check_same_frames(store, found["content"])
        sheets += minerl_sheets(store, found, config.repeats)
    return sheets


def minerl_sheets(store: frames.FrameStore, found: dict, repeats: int) -> list[Sheet]:
    """Put batches with actions beside minerl's from the same recordings, whose frames are the same bit for bit."""
    held = frames.FrameStore(store.path, in_memory=True)

    def measured(source: frames.FrameStore, clips: int, length: int, counted: int = 1) -> list[float]:
        warm(store)
        return [rate(frames.FrameBatches(source, "train", clips, length), clips * counted) for _ in range(repeats)]

    transitions = [
        Row("minerl BufferedBatchIter, one epoch: transitions", [found["an epoch"]]),
        Row("the same, all decoded before: transitions", [found["from its buffer"]]),
        Row("FrameBatches, clips of 2 with actions: transitions", measured(store, MINERL_BATCH, 2)),
        Row("the same, held in memory: transitions", measured(held, MINERL_BATCH, 2)),
        Row("FrameBatches: random frames", measured(store, MINERL_BATCH, 1)),
        Row(f"FrameBatches, clips of {CLIP_LENGTH} with actions: frames", measured(store, MINERL_BATCH, CLIP_LENGTH, CLIP_LENGTH)),
    ]
    clips = [
        Row("minerl batch_iter, one epoch", [found["clips"]]),
        Row("FrameBatches", measured(store, 4, CLIP_LENGTH, CLIP_LENGTH)),
    ]
    title = f"The same {len(store):,} frames as minerl reads them, {MINERL_BATCH} a batch, a second"
    return [
        Sheet(title, "of BufferedBatchIter", transitions),
        Sheet(f"Batches of 4 clips of {CLIP_LENGTH} with actions, frames/s", "of batch_iter", clips),
    ]


def write_data_root(source: Path, root: Path) -> int:
    """Make a MineRL data root of the mp4 files of 64x64 pixels, with made-up actions; return how many frames they have."""
    (root / ENVIRONMENT).mkdir(parents=True)
    (root / "VERSION").write_text("4")
    rng, total = np.random.default_rng(0), 0
    for number, recording in enumerate(one for one in find_recordings(source) if one.path.suffix == ".mp4"):
        capture = cv2.VideoCapture(str(recording.path))
        small = (capture.get(cv2.CAP_PROP_FRAME_WIDTH), capture.get(cv2.CAP_PROP_FRAME_HEIGHT)) == (64, 64)
        count = 0
        while small and capture.read()[0]:
            count += 1
        capture.release()
        if count > CLIP_LENGTH:
            write_recording(root / ENVIRONMENT / f"v4_recording-{number}", recording.path, count, rng)
            total += count
    if not total:
        raise UserError(f"{source}: no mp4 of 64x64 pixels and more than {CLIP_LENGTH} frames in it; give another folder")
    return total


def write_recording(folder: Path, video: Path, count: int, rng: np.random.Generator) -> None:
    folder.mkdir()
    (folder / "recording.mp4").symlink_to(video.resolve())
    actions: dict[str, np.ndarray] = {f"action${name}": rng.integers(0, 2, count - 1) for name in BUTTONS}
    actions["action$camera"] = rng.normal(0, 5, (count - 1, 2)).astype(np.float32)
    np.savez(folder / "rendered.npz", reward=np.zeros(count - 1, np.float32), **actions)  # type: ignore[arg-type]
    (folder / "metadata.json").write_text(json.dumps({"true_video_frame_count": count, "success": True}))


def decoding_rate(root: Path) -> Row:
    """Frames/s of one core that decodes and does nothing else."""
    count, used = 0, time.process_time()
    for video in sorted(root.rglob("*.mp4")):
        capture = cv2.VideoCapture(str(video), cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, 1])
        while capture.read()[0]:
            count += 1
        capture.release()
    return Row("bare decode with OpenCV", [count / (time.process_time() - used)])


def building_rate(root: Path, path: Path) -> Row:
    used = time.process_time()
    built = frames.build_store(root, path, split="train", workers=1)
    return Row("build_store, one worker", [built.frames / (time.process_time() - used)])


def ask_minerl(python: Path, root: Path) -> dict:
    """Run minerl's loaders in their own interpreter."""
    script = Path(__file__).with_name("minerl_batches.py")
    words = [python.absolute(), script, root, ENVIRONMENT, MINERL_BATCH, MINERL_BUFFER, CLIP_LENGTH]
    done = subprocess.run([str(word) for word in words], cwd=root.parent, capture_output=True, text=True, timeout=1800)
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["it said nothing"]
        raise UserError(f"{python}: minerl could not read the recordings: {lines[-1]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def check_same_frames(store: frames.FrameStore, contents: dict[str, str]) -> None:
    """Raise `UserError` unless minerl gave every frame as the store has it."""
    ours = {episode.name.rpartition("/")[2]: episode.content for episode in store.episodes}
    different = sorted(name for name in ours | contents if ours.get(name) != contents.get(name))
    if different:
        raise UserError(f"the frames of {len(different)} recordings differ from minerl's: {', '.join(different[:3])}")


if __name__ == "__main__":
    run(main)
