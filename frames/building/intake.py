"""Recordings into a store's writer, several at a time: resized, counted and checked."""

import math
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from functools import partial
from numbers import Real
from typing import TypeVar

import numpy as np

from foundation.progress import progress_bar
from frames.building.appending import clash, source_of
from frames.building.fitting import Fitting
from frames.building.metering import FrameMeter
from frames.curation.cleaning import CleanedRecording
from frames.readers import BadRecording, Recording
from frames.storage.format import MASKS, Episode, LeftOut, array_info, new_digest, stored_array
from frames.storage.writer import StoreWriter

_COUNTED_TOGETHER = 32
_LONGEST_REASON = 400

T = TypeVar("T")


class _Stopped(Exception):
    """The build is being stopped."""


def take_in(
    writer: StoreWriter,
    recordings: Sequence[Recording],
    before: Mapping[str, Episode],
    fitting: Fitting,
    threads: int,
    merged: bool = False,
) -> list[LeftOut]:
    """Decode what the writer does not have yet; return what was left out, sorted by name.

    `before` are the episodes of the store that is appended to: a recording with the name of one is only compared with it. Where that store
    was `merged`, it may have lost arrays, and those that it has are compared.
    """
    new = writer.committed.keys() - before.keys()
    # the largest first, so that no thread is left alone with one at the end
    missing = sorted((recording for recording in recordings if recording.name not in new), key=lambda recording: -recording.origin)
    done = sum(writer.committed[name].length for name in new)
    left_out = [part for name in new for part in writer.parts_left_out.get(name, [])]
    meter, stop = FrameMeter(missing, done), threading.Event()
    with progress_bar("decoding", meter.total, "frames", done) as advance, ThreadPoolExecutor(threads) as pool:
        meter.show_on(advance)
        passages = [_Passage(recording, fitting, meter, stop) for recording in missing]
        pending = {pool.submit(passage.into, writer, before.get(passage.recording.name), merged) for passage in passages}
        try:
            while pending:
                finished, pending = wait(pending, return_when=FIRST_COMPLETED)
                for future in finished:
                    left_out += future.result()
        finally:
            stop.set()
            pool.shutdown(wait=True, cancel_futures=True)
    return sorted(left_out, key=lambda entry: entry.name)


class _Passage:
    """A recording on its way into the store."""

    def __init__(self, recording: Recording, fitting: Fitting, meter: FrameMeter, stop: threading.Event) -> None:
        self.recording = recording
        self._fitting, self._meter, self._stop = fitting, meter, stop
        self._count, self._recorded_size = 0, (0, 0)

    def into(self, writer: StoreWriter, held: Episode | None, merged: bool) -> list[LeftOut]:
        """Store the recording, or compare it with the episode that has its name; return what was left out."""
        try:
            left_out = [self._compared(held, merged)] if held is not None else self._stored(writer)
        except BadRecording as error:
            one = self.recording
            left_out = [LeftOut(one.name, _told(str(error)), fault=error.fault, origin=one.origin, source=source_of(one))]
        self._meter.finished(self.recording.name)
        return left_out

    def _stored(self, writer: StoreWriter) -> list[LeftOut]:
        recording = self.recording
        writer.add(
            recording.name,
            self._frames(),
            source=source_of(recording),
            frames_per_second=_rate(recording),
            arrays=self._arrays,
            trimmed=lambda: recording.trimmed if isinstance(recording, CleanedRecording) else {},
            left_out=lambda: [LeftOut(name, _told(reason), 1) for name, reason in recording.skipped],
            task=recording.task,
            ordered=recording.ordered,
            origin=recording.origin,
        )
        return writer.parts_left_out[recording.name]

    def _compared(self, held: Episode, merged: bool) -> LeftOut:
        """Decode without storing, to tell the same recording found elsewhere from another one of that name."""
        digest = new_digest()
        for frame in self._frames():
            digest.update(np.ascontiguousarray(frame))
        arrays = {name: array_info(stored_array(values)) for name, values in self._arrays().items()}
        compared = {name: info for name, info in arrays.items() if name in held.arrays or not merged}
        return clash(self.recording, held, digest.hexdigest(), compared, self._count)

    def _frames(self) -> Iterator[np.ndarray]:
        """Yield the frames as they are stored, uint8 (H, W, 3); end when the build is being stopped."""
        counted = 0
        for frame in _whole(self.recording.frames()):
            if self._stop.is_set():
                raise _Stopped
            _check_frame(frame)
            self._count += 1
            if self._count - counted == _COUNTED_TOGETHER:
                counted = self._count
                self._meter.decoded(self.recording.name, _COUNTED_TOGETHER)
            self._recorded_size = frame.shape[:2]
            yield self._fitting.frame(frame)
        self._meter.decoded(self.recording.name, self._count - counted)
        if self._count == 0:
            raise BadRecording("has no frame")

    def _arrays(self) -> dict[str, np.ndarray]:
        arrays = {name: np.asarray(values) for name, values in _asked(self.recording.arrays).items()}
        for name, values in arrays.items():
            _check_array(name, values, self._count)
            if name == MASKS and values.ndim == 5 and values.shape[2:4] == self._recorded_size:
                arrays[name] = self._fitting.masks(values)
        return arrays


def _told(reason: str) -> str:
    """Return a reason as one line: what it quotes of a damaged file may be of any length, and would write anywhere on a screen."""
    line = " ".join("".join(letter if letter.isprintable() else " " for letter in reason).split())
    return line if len(line) <= _LONGEST_REASON else line[: _LONGEST_REASON - 3] + "..."


def _whole(frames: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
    """Yield on; whatever a reader stumbles over makes the recording a bad one, and spares the others."""
    while (frame := _asked(partial(next, frames, None))) is not None:
        yield frame


def _asked(read: Callable[[], T]) -> T:
    try:
        return read()
    except BadRecording:
        raise
    except OSError as error:
        raise BadRecording(f"cannot be read ({' '.join(str(error).split())})") from error
    # damaged files raise what nobody foresaw
    except Exception as error:
        raise BadRecording(f"cannot be read ({type(error).__name__}: {' '.join(str(error).split())})") from error


def _rate(recording: Recording) -> float:
    rate = _asked(recording.frames_per_second)
    if not (isinstance(rate, Real) and math.isfinite(rate) and rate > 0):
        raise BadRecording(f"its frames per second are {rate!r}, not a number above 0")
    return rate if isinstance(rate, int) else float(rate)


def _check_frame(frame: np.ndarray) -> None:
    """Raise `BadRecording` for what a package's layout may take for a frame: it would be cast without a word."""
    if not (isinstance(frame, np.ndarray) and frame.dtype == np.uint8 and frame.ndim == 3 and frame.shape[2] == 3):
        held = f"{frame.dtype} {frame.shape}" if isinstance(frame, np.ndarray) else type(frame).__name__
        raise BadRecording(f"its layout gives frames of {held}, not RGB frames uint8 (H, W, 3)")


def _check_array(name: str, values: np.ndarray, frames: int) -> None:
    """Raise `BadRecording` unless an array of F frames has F-1 entries, or F observations, and rewards are finite."""
    if values.dtype.kind not in "biufU":
        raise BadRecording(f"'{name}' is of type {values.dtype}, neither numbers nor text")
    lengths = {frames - 1, frames} if name.startswith("observation") else {frames - 1}
    if values.ndim == 0 or len(values) not in lengths:
        entries = "no" if values.ndim == 0 else f"{len(values):,}"
        raise BadRecording(f"'{name}' has {entries} entries for {frames:,} frames")
    if name.startswith("reward") and values.dtype.kind == "f" and not np.isfinite(values).all():
        tick = int(np.argmin(np.isfinite(values).reshape(len(values), -1).all(axis=1)))
        raise BadRecording(f"'{name}' is {values[tick]} at tick {tick}, not a number")
