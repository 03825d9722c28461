"""How fast a frame store is built, and in how much memory: `python benchmarks/frame_building.py --source RECORDINGS`.

Builds from the mp4 files of 64x64 pixels below the source stand beside a bare decode of the same files with OpenCV in the same run. Then
everything goes into a large store and is read back in random order, while the anonymous memory (RssAnon) of the process is sampled.
"""

import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"  # before numpy is loaded
ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import cv2  # noqa: E402
import numpy as np  # noqa: E402
from rich.console import Console  # noqa: E402
from rich.table import Column, Table  # noqa: E402

import frames  # noqa: E402
from foundation.command import run  # noqa: E402
from foundation.errors import UserError  # noqa: E402
from foundation.presets import parse  # noqa: E402
from frames.readers import find_recordings  # noqa: E402

SECONDS_BETWEEN_SAMPLES = 0.02
BATCH = 256

console = Console(highlight=False)


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """What to measure on."""

    source: Path
    """A folder of recordings with mp4 files of 64x64 pixels in it."""
    scratch: Path = Path(tempfile.gettempdir())
    """Where the stores are written, and removed again."""
    frame_size: tuple[int, int] = (160, 160)
    """Height and width of the frames in the large store."""


def main() -> int:
    config = parse(Benchmark, __doc__ or "")
    with tempfile.TemporaryDirectory(dir=config.scratch, prefix="frame_building.") as scratch:
        console.print(speed_table(config.source, Path(scratch)))
        console.print(memory_table(config.source, Path(scratch), config.frame_size))
    return 0


def speed_table(source: Path, scratch: Path) -> Table:
    """Build stores of 64x64 mp4 files with one thread and with all, beside decoding them and doing nothing with the frames."""
    films = scratch / "films"
    films.mkdir()
    for number, path in enumerate(small_films(source)):
        (films / f"{number:04d}.mp4").symlink_to(path.resolve())
    if not any(films.iterdir()):
        raise UserError(f"{source}: no mp4 of 64x64 pixels in it; give another folder")
    table = Table("64x64 mp4", *(Column(name, justify="right") for name in ("frames", "frames/s", "frames/s of CPU time")), box=None)
    table.add_row("bare decode", *measured(lambda: sum(decode(path) for path in films.iterdir())))
    for threads in sorted({1, os.cpu_count() or 1}):
        store = scratch / f"speed {threads}"
        table.add_row(f"build, {threads} thread{'s' * (threads > 1)}", *measured(lambda: build(films, store, threads)))  # noqa: B023
        shutil.rmtree(store)
    return table


def small_films(source: Path) -> Iterator[Path]:
    for recording in find_recordings(source):
        if recording.path.suffix == ".mp4":
            capture = cv2.VideoCapture(str(recording.path))
            if (capture.get(cv2.CAP_PROP_FRAME_WIDTH), capture.get(cv2.CAP_PROP_FRAME_HEIGHT)) == (64, 64):
                yield recording.path
            capture.release()


def decode(path: Path) -> int:
    capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, 1])
    count = 0
    while capture.read()[0]:
        count += 1
    capture.release()
    return count


def build(source: Path, store: Path, threads: int) -> int:
    return frames.build_store(source, store, workers=threads).frames


def measured(work: Callable[[], int]) -> tuple[str, str, str]:
    """Return how many frames there were, how many a second, and how many a second of processor time."""
    began, used = time.perf_counter(), time.process_time()
    count = work()
    seconds, used = time.perf_counter() - began, time.process_time() - used
    return f"{count:,}", f"{count / seconds:,.0f}", f"{count / used:,.0f}"


def memory_table(source: Path, scratch: Path, frame_size: tuple[int, int]) -> Table:
    """Build a large store in a process of its own and read it back, sampling that process's memory all along."""
    receiver, sender = get_context("spawn").Pipe(duplex=False)
    process = get_context("spawn").Process(target=build_and_read, args=(source, scratch / "large", frame_size, sender))
    process.start()
    sender.close()
    columns = ("frames", "GB", "seconds", "frames/s", "peak RssAnon, MB")
    height, width = frame_size
    table = Table(f"{height}x{width}, {os.cpu_count()} cores", *(Column(name, justify="right") for name in columns), box=None)
    for phase, count, seconds, peak in phases(process.pid or 0, receiver):
        size = count * height * width * 3 / 1e9
        table.add_row(phase, f"{count:,}", f"{size:.2f}", f"{seconds:.1f}", f"{count / seconds:,.0f}", f"{peak / 1e6:,.0f}")
    process.join()
    if process.exitcode:
        raise UserError(f"the large store could not be built and read (status {process.exitcode})")
    return table


def phases(process: int, receiver: Connection) -> Iterator[tuple[str, int, float, int]]:
    """Yield each phase as it ends: its name, frames, seconds, and the peak of anonymous memory in bytes."""
    peak = 0
    while True:
        try:
            ended = receiver.poll(SECONDS_BETWEEN_SAMPLES)
            peak = max(peak, anonymous_bytes(process))
            if ended:
                yield (*receiver.recv(), peak)
                peak = 0
        except (EOFError, FileNotFoundError):
            return


def anonymous_bytes(process: int) -> int:
    status = Path(f"/proc/{process}/status").read_text()
    return next((1024 * int(line.split()[1]) for line in status.splitlines() if line.startswith("RssAnon")), 0)


def build_and_read(source: Path, path: Path, frame_size: tuple[int, int], sender: Connection) -> None:
    with telling(sender) as tell:
        tell("build", frames.build_store(source, path, frame_size=frame_size).frames)
        store = frames.FrameStore(path)
        order = np.random.default_rng(0).permutation(len(store))
        tell("read at random", sum(len(store.frames(order[start : start + BATCH])) for start in range(0, len(store), BATCH)))


@contextmanager
def telling(sender: Connection) -> Iterator[Callable[[str, int], None]]:
    began = time.perf_counter()

    def tell(phase: str, count: int) -> None:
        nonlocal began
        sender.send((phase, count, time.perf_counter() - began))
        began = time.perf_counter()

    yield tell
    sender.close()


if __name__ == "__main__":
    run(main)
