"""From a folder of recordings to a frame store."""

import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from foundation.errors import UserError
from foundation.progress import Advance, progress_bar
from frames.cleaning import NO_CLEANING, Cleaning
from frames.format import LeftOut
from frames.readers import BadRecording, Recording, find_recordings
from frames.resize import ResizeMode, resize_frames
from frames.splits import BY_RECORDING, assign_splits
from frames.store import FrameStore
from frames.writer import StoreWriter, finished_store, store_writer


@dataclass(frozen=True)
class BuildSummary:
    """What a build did: `decoded` episodes are new, `kept` ones come from an earlier, interrupted run.

    `left_out` names what did not go in, `trimmed` counts the frames left out of episodes by "lead", "tail" and "frozen".
    `finished_before` says that there was nothing to do.
    """

    path: Path
    frames: int
    episodes: int
    decoded: int
    kept: int
    left_out: list[LeftOut]
    seconds: float
    finished_before: bool = False
    trimmed: dict[str, int] = field(default_factory=dict)

    @property
    def status(self) -> int:
        """The exit status of a command: 1 when this run could not read something."""
        return 1 if any(entry.fault for entry in self.left_out) and not self.finished_before else 0


def build_store(
    source: str | Path,
    path: str | Path,
    *,
    layout: str | None = None,
    frame_size: tuple[int, int] = (64, 64),
    resize: ResizeMode = "squash",
    split: str = BY_RECORDING,
    val: float = 0.1,
    test: float = 0.0,
    limit: int | None = None,
    workers: int | None = None,
    cleaning: Cleaning = NO_CLEANING,
    append: bool = False,
) -> BuildSummary:
    """Build the store at `path` from the recordings in and below the folder `source`.

    Frames are resized to `frame_size` = (H, W). `split` puts every recording into one split, or draws for each ("by-recording",
    with the shares `val` and `test`). `limit` takes only the first recordings. An interrupted build goes on where it stopped. Raises
    `UserError` when nothing can be read, the disk is full, or something else is at `path`.
    """
    source, path, began = Path(source), Path(path), time.monotonic()
    assign_splits([], split, val, test)
    recordings = find_recordings(source, layout)[:limit]
    plan = {
        "source": str(source.resolve()),
        "frame_size": list(frame_size),
        "resize": resize,
        "split": [split, val, test],
        "limit": limit,
    }
    finished = finished_store(path, plan)
    if finished is not None:
        _check_recordings(finished, recordings)
        return finished_summary(finished)
    with store_writer(path, plan, (*frame_size, 3)) as writer:
        kept = _keep(writer, recordings)
        left_out = _decode_all(writer, recordings, partial(_decode, writer, frame_size, resize), workers or os.cpu_count() or 1)
        if not writer.committed:
            writer.abandon()
            reasons = "; ".join(f"{entry.name}: {entry.reason}" for entry in left_out[:3]) + ("; ..." if len(left_out) > 3 else "")
            raise UserError(f"{source}: none of {len(recordings)} recordings could be read ({reasons})")
        return close_summary(writer, kept, left_out, began, partial(assign_splits, split=split, val=val, test=test), resize)


def finished_summary(store: FrameStore) -> BuildSummary:
    """The summary of a build that had nothing left to do."""
    left_out = [LeftOut(**entry) for entry in store.meta["left_out"]]
    return BuildSummary(store.path, len(store), len(store.episodes), 0, len(store.episodes), left_out, 0.0, True, store.meta["trimmed"])


def close_summary(
    writer: StoreWriter, kept: int, left_out: list[LeftOut], began: float, splitter: Any, resize: str
) -> BuildSummary:
    """Finish the store and say what was done."""
    named = [asdict(entry) for entry in left_out]
    writer.finish(splitter, {"resize": resize, "left_out": named})
    frames = sum(episode.length for episode in writer.committed.values())
    episodes = len(writer.committed)
    return BuildSummary(writer.path, frames, episodes, episodes - kept, kept, left_out, time.monotonic() - began)


def _keep(writer: StoreWriter, recordings: list[Recording]) -> int:
    """Drop what an earlier run stored of recordings that have changed or gone; return how many episodes stay."""
    found = {recording.name: recording for recording in recordings}
    for name, episode in list(writer.committed.items()):
        recording = found.get(name)
        # pictures that did not decode are named by decoding again
        incomplete = recording is not None and not recording.ordered and episode.length < (recording.expected_frames() or 0)
        if recording is None or recording.origin != episode.origin or incomplete:
            writer.discard(name)
    return len(writer.committed)


def _check_recordings(store: FrameStore, recordings: list[Recording]) -> None:
    """Refuse to pass a finished store for one of recordings that have come or changed since."""
    held = {episode.name: episode.origin for episode in store.episodes}
    left_out = {entry["name"] for entry in store.meta["left_out"]}
    for recording in recordings:
        if recording.name not in left_out and held.get(recording.name) != recording.origin:
            change = "has changed since" if recording.name in held else "is not in it"
            raise UserError(f"{store.path}: is finished, but {recording.name} {change}; build into another store path")


def _decode_all(writer: StoreWriter, recordings: list[Recording], decode: Any, workers: int) -> list[LeftOut]:
    """Decode what is not committed yet, several recordings at a time; return (name, reason) of what failed, by name."""
    missing = [recording for recording in recordings if recording.name not in writer.committed]
    done = len(recordings) - len(missing)
    stop, left_out = threading.Event(), list[LeftOut]()
    with progress_bar("decoding", len(recordings), "recordings", done) as advance:
        meter = _Meter(advance)
        with ThreadPoolExecutor(workers) as pool:
            pending = {pool.submit(decode, recording, meter, stop) for recording in missing}
            try:
                while pending:
                    finished, pending = wait(pending, return_when=FIRST_COMPLETED)
                    for future in finished:
                        left_out += future.result()
                        advance(1, meter.note())
            finally:
                stop.set()
                pool.shutdown(wait=True, cancel_futures=True)
    return sorted(left_out, key=lambda entry: entry.name)


def _decode(
    writer: StoreWriter, frame_size: tuple[int, int], resize: str, recording: Recording, meter: "_Meter", stop: threading.Event
) -> list[LeftOut]:
    """Store one recording; return what of it could not be read."""
    try:
        frames = _watched(recording.frames(), frame_size, resize, meter, stop)
        writer.add(
            recording.name,
            frames,
            source=str(recording.path),
            frames_per_second=recording.frames_per_second(),
            arrays=recording.arrays,
            ordered=recording.ordered,
            origin=recording.origin,
        )
    except BadRecording as error:
        return [LeftOut(recording.name, str(error), fault=error.fault)]
    except (OSError, cv2.error) as error:
        return [LeftOut(recording.name, f"cannot be read ({' '.join(str(error).split())})")]
    return [LeftOut(name, reason, 1) for name, reason in recording.skipped]


def _watched(
    frames: Iterator[np.ndarray], size: tuple[int, int], resize: str, meter: "_Meter", stop: threading.Event
) -> Iterator[np.ndarray]:
    """Resize frames one by one, count them, and end when the build is being stopped."""
    for frame in frames:
        if stop.is_set():
            raise InterruptedError
        meter.count()
        yield resize_frames(frame[None], size, resize)[0]


class _Meter:
    """Counts the frames of all threads for the bar's note: the bar itself counts recordings."""

    def __init__(self, advance: Advance) -> None:
        self._advance, self._began, self._frames = advance, time.monotonic(), 0

    def count(self) -> None:
        # threads may lose a count between them: it is only for the eye
        self._frames += 1
        if self._frames % 500 == 0:
            self._advance(0, self.note())

    def note(self) -> str:
        return f"{self._frames:,} frames, {self._frames / max(time.monotonic() - self._began, 1e-9):,.0f} frames/s"
