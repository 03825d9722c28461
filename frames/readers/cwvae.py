"""The Navigate videos of Clockwork VAEs: a folder a split, with clips and one metadata.json for all of them."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from foundation.errors import first_names
from frames.readers.decoding import count_frames, read_rate, read_video
from frames.readers.recording import SPLIT_FOLDERS, BadRecording, Folder, Layout, Recording
from frames.readers.reported import Reported
from frames.storage.format import Split

METADATA = "metadata.json"
# MineRL's actions in Navigate; whatever else has an entry a frame is an observation
ACTIONS = ("attack", "back", "camera", "camera_x", "camera_y", "forward", "jump", "left", "place", "right", "sneak", "sprint")
TASK = "Navigate"
# 961 videos of 500 frames with 12 columns take 42 MB
_LARGEST_METADATA = 1 << 29
_LONGEST_TEXT = 64

Columns = dict[str, "np.ndarray | BadRecording"]


@dataclass
class NavigateVideo(Recording):
    """A clip, and the columns that metadata.json has for it: entry t of each belongs to frame t."""

    columns: Columns = field(default_factory=dict)
    _decoded = 0

    def expected_frames(self) -> int | None:
        return count_frames(self.path)

    def frames_per_second(self) -> float:
        return read_rate(self.path)

    def frames(self) -> Iterator[np.ndarray]:
        self._decoded = 0
        for frame in read_video(self.path):
            self._decoded += 1
            yield frame

    def arrays(self) -> dict[str, np.ndarray]:
        arrays = {}
        for name, column in self.columns.items():
            if isinstance(column, BadRecording):
                raise BadRecording(f"{METADATA}: '{name}' {column}")
            if len(column) not in (self._decoded, self._decoded - 1):
                raise BadRecording(f"{METADATA}: '{name}' has {len(column)} entries for {self._decoded} frames")
            if name in ACTIONS:
                arrays[f"action.{name}"] = column[: self._decoded - 1]
            else:
                arrays[f"observation.{name}"] = column
        return arrays


def find(folder: Folder) -> list[Recording]:
    """Take the videos that metadata.json knows; the others are left to be plain videos."""
    videos = {path.stem: path for path in folder.with_suffix(".mp4")}
    metadata = folder.path / METADATA
    if METADATA not in folder.files or not videos:
        return []
    try:
        known = _read_metadata(metadata)
    except BadRecording as error:
        return [Reported(folder.name(METADATA), metadata, [metadata], reason=str(error))]
    found: list[Recording] = [
        NavigateVideo(folder.name(path.name), path, [path, metadata], TASK, _split(folder), columns=known[stem])
        for stem, path in videos.items()
        if stem in known
    ]
    missing = sorted(known.keys() - videos.keys())
    if found and missing:
        reason = f"there is no video for {len(missing)} of its {len(known)} entries ({first_names(missing)})"
        found.append(Reported(folder.name(METADATA), metadata, [metadata], reason=reason))
    return found


CWVAE = Layout("cwvae", f"Navigate clips for Clockwork VAEs (.mp4 files and a {METADATA} that names them)", find)


def _split(folder: Folder) -> Split | None:
    return SPLIT_FOLDERS.get(folder.path.absolute().name)


def _read_metadata(path: Path) -> dict[str, Columns]:
    """Return the columns of every video by the stem of its file name; nothing where the file is about something else."""
    try:
        if not path.is_file() or path.stat().st_size > _LARGEST_METADATA:
            raise BadRecording(f"is no file of at most {_LARGEST_METADATA >> 20} MiB")
        # lists become arrays as soon as they are read: as Python's numbers, all of them would take a gigabyte
        videos = json.loads(path.read_bytes(), object_hook=_columns, parse_constant=_no_number)
    except OSError as error:
        raise BadRecording(f"cannot be read ({error.strerror})") from error
    except (ValueError, RecursionError) as error:
        raise BadRecording(f"is no JSON ({' '.join(str(error).split())[:100]})") from error
    if not isinstance(videos, dict):
        return {}
    flat = {Path(name).name.removesuffix(".mp4"): _flat(entry) for name, entry in videos.items() if isinstance(entry, dict)}
    return {name: columns for name, columns in flat.items() if columns}


def _columns(read: dict[str, Any]) -> dict[str, Any]:
    """Make an array of every list in an object; a list that is no column keeps its fault until somebody asks for its video."""
    return {name: _column(value) if isinstance(value, list) else value for name, value in read.items()}


def _column(values: list[Any]) -> "np.ndarray | BadRecording":
    if any(isinstance(value, str) for value in values):
        # an array gives every text the room of the longest
        sound = all(isinstance(value, str) and len(value) <= _LONGEST_TEXT for value in values)
        return np.array(values) if sound else BadRecording("mixes numbers and texts, or has a long text")
    try:
        column = np.array(values)
    except (ValueError, OverflowError):
        return BadRecording("is no list of numbers")
    if column.dtype.kind not in "bif" or not 1 <= column.ndim <= 2:
        return BadRecording("is no list of numbers")
    if column.dtype.kind != "f":
        return column
    with np.errstate(over="ignore"):
        short = column.astype(np.float32)
    return short if np.isfinite(short).all() else BadRecording("has an entry that is not finite")


def _flat(entry: dict[str, Any]) -> Columns:
    """Return the columns of a video, those in groups within it included."""
    columns: Columns = {}
    for name, value in entry.items():
        if isinstance(value, dict):
            columns |= _flat(value)
        elif isinstance(value, (np.ndarray, BadRecording)):
            columns[name] = value
    return columns


def _no_number(constant: str) -> Any:
    raise ValueError(f"{constant} is no number")
