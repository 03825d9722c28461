"""Leaving frames out of recordings on request: at the ends, and where nothing moves."""

import copy
import dataclasses
import hashlib
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from foundation.errors import UserError
from foundation.ticks import join_ticks, joining
from frames.curation.manifest import Entry, damage, manifest_content
from frames.readers.recording import BadRecording, ExcludedRecording, Recording

FROZEN = 0.5
SOURCE_FRAME = "observation.source_frame"
_REWARD = "reward"
_OBSERVATION = "observation"


@dataclass(frozen=True, kw_only=True)
class Cleaning:
    """What to leave out of recordings. The default leaves nothing out but duplicates.

    `manifest` is a CSV file (docs/frame_formats.md), whose counts go before `drop_lead` and `drop_tail`, the frames dropped at the
    start and the end of every recording. `thin_frozen`: so many frames stay of a stretch where nothing moves; None keeps all.
    """

    manifest: str | Path | None = None
    drop_lead: int = 0
    drop_tail: int = 0
    thin_frozen: int | None = None
    keep_duplicates: bool = False

    def __post_init__(self) -> None:
        for name in ("drop_lead", "drop_tail"):
            if getattr(self, name) < 0:
                raise UserError(f"{name} is {getattr(self, name)}; give a number of frames of 0 or more")
        if self.thin_frozen is not None and self.thin_frozen < 1:
            raise UserError(f"thin_frozen is {self.thin_frozen}; at least 1 frame of a frozen stretch stays")

    def plan(self) -> dict[str, Any]:
        """Return what decides the outcome, as JSON: the manifest's content takes the place of its path."""
        content = None if self.manifest is None else hashlib.sha256(manifest_content(self.manifest)).hexdigest()
        return {**dataclasses.asdict(self), "manifest": content}


NO_CLEANING = Cleaning()


def mean_change(before: np.ndarray, after: np.ndarray) -> float:
    """Return by how many grey levels two uint8 pictures differ, on average over pixels and colours."""
    return cv2.norm(before, after, cv2.NORM_L1) / max(before.size, 1)


def cleaned(recording: Recording, entry: Entry | None = None, cleaning: Cleaning = NO_CLEANING) -> "CleanedRecording":
    """Return a recording without the frames that are not wanted, and its arrays without what happened there."""
    return CleanedRecording(recording, entry or Entry(), cleaning)


class CleanedRecording(Recording):
    """A recording without its first and last frames, and with frozen stretches thinned; its files are checked first.

    `trimmed` counts the frames left out as "lead", "tail" and "frozen", once `frames` is exhausted. `frames` raises `BadRecording`
    where a file or the number of frames is not what the manifest says, and where no frame would stay.
    """

    def __init__(self, recording: Recording, entry: Entry, cleaning: Cleaning) -> None:
        split = entry.split or recording.split
        super().__init__(recording.name, recording.path, recording.files, recording.task, split, recording.skipped)
        self.ordered = recording.ordered
        self.trimmed: dict[str, int] = {}
        self._recording, self._entry = recording, entry
        self._lead = cleaning.drop_lead if entry.drop_lead is None else entry.drop_lead
        self._tail = cleaning.drop_tail if entry.drop_tail is None else entry.drop_tail
        self._thin = cleaning.thin_frozen if recording.ordered else None
        self._kept: list[int] = []
        self._decoded = 0
        self._damaged: list[tuple[str, str]] = []

    @property
    def origin(self) -> int:
        return self._recording.origin

    def expected_frames(self) -> int | None:
        expected = self._recording.expected_frames() if self._entry.frames is None else self._entry.frames
        return None if expected is None else max(0, expected - self._lead - self._tail)

    def frames_per_second(self) -> float:
        return self._recording.frames_per_second()

    def frames(self) -> Iterator[np.ndarray]:
        checked = self._checked()
        self._kept, self._decoded = [], 0
        inner = self._numbered(checked)
        inside = _without_tail((pair for pair in inner if pair[0] >= self._lead), self._tail)
        for number, frame in inside if self._thin is None else _thinned(inside, self._thin):
            self._kept.append(number)
            yield frame
        if checked is not self._recording:
            self.skipped[:] = sorted([*checked.skipped, *self._damaged])
        self._count()

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the arrays of the frames that stay.

        A tick from one frame that stays to the next has the sum of the rewards on the way, and the actions of all ticks there as one
        (`foundation.ticks`). What comes after the last frame that stays is no action that led to any; its rewards count on the last tick.
        `SOURCE_FRAME` gives each frame's number in the recording, where a frozen stretch was thinned.
        """
        arrays = self._recording.arrays()
        if not any(self.trimmed.values()):
            return arrays
        picked = {name: self._picked(name, values) for name, values in arrays.items()}
        return picked | ({SOURCE_FRAME: np.array(self._kept, np.int64)} if self.trimmed["frozen"] else {})

    def _numbered(self, recording: Recording) -> Iterator[tuple[int, np.ndarray]]:
        for frame in recording.frames():
            self._decoded += 1
            # copied, for it is kept until later ones are known: a layout may decode every frame into the same array
            yield self._decoded - 1, np.array(frame)

    def _checked(self) -> Recording:
        """Return the recording without the pictures that are not what the manifest says; other recordings are refused whole."""
        wrong = {file: reason for file, row in self._entry.rows.items() if (reason := damage(file, row)) is not None}
        if not wrong:
            return self._recording
        if self.ordered or len(wrong) == len(self.files):
            file, reason = next(iter(wrong.items()))
            raise BadRecording(f"{file.name} {reason}")
        checked = copy.copy(self._recording)
        checked.files = [file for file in self.files if file not in wrong]
        checked.skipped = []
        self._damaged = [(f"{self.name}/{file.name}", reason) for file, reason in wrong.items()]
        return checked

    def _count(self) -> None:
        if self._entry.frames is not None and self._decoded + len(self.skipped) != self._entry.frames:
            raise BadRecording(f"{self._decoded:,} frames decode, the manifest says {self._entry.frames:,}")
        if not self._kept:
            dropped = f"{self._lead:,} at the start and {self._tail:,} at the end"
            raise ExcludedRecording(f"has {self._decoded:,} frames, of which {dropped} are to be dropped")
        inside = self._decoded - self._lead - self._tail
        self.trimmed = {"lead": self._lead, "tail": self._tail, "frozen": inside - len(self._kept)}

    def _picked(self, name: str, values: np.ndarray) -> np.ndarray:
        kept = np.array(self._kept)
        per_frame = name.startswith(_OBSERVATION)
        entries = len(values) if values.ndim else 0
        if entries not in ({self._decoded, self._decoded - 1} if per_frame else {self._decoded - 1}):
            raise BadRecording(f"'{name}' has {entries} entries for {self._decoded} frames")
        if per_frame:
            return values[kept[kept < entries]]
        end = self._decoded - self._tail - 1 if name.split(".")[0] == _REWARD else kept[-1]
        return join_ticks(values[:end], kept[:-1], joining(name, values.dtype))


def _without_tail(frames: Iterator[tuple[int, np.ndarray]], tail: int) -> Iterator[tuple[int, np.ndarray]]:
    ahead: deque[tuple[int, np.ndarray]] = deque()
    for pair in frames:
        ahead.append(pair)
        if len(ahead) > tail:
            yield ahead.popleft()


def _thinned(frames: Iterator[tuple[int, np.ndarray]], most: int) -> Iterator[tuple[int, np.ndarray]]:
    before, run = None, 0
    for number, frame in frames:
        still = before is not None and before.shape == frame.shape and mean_change(before, frame) < FROZEN
        run = run + 1 if still else 1
        before = frame
        if run <= most:
            yield number, frame
