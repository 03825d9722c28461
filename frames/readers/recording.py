"""The contract of a layout: it finds recordings in a folder, and a recording reads itself.

A module of this folder, or of another package (docs/frame_formats.md, "A layout of your own"), subclasses `Recording` and makes one
`Layout`. Recordings are read by several threads, each recording by one.
"""

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from frames.storage.format import Split

SPLIT_FOLDERS: dict[str, Split] = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
"""Splits by the names that published data sets give their folders."""


class BadRecording(Exception):
    """A recording that cannot go into a store: the reason, in the user's words. `fault` says that it is damaged."""

    fault = True


class ExcludedRecording(BadRecording):
    """A recording that is not for use by what is known of it, sound or not: leaving it out is no fault."""

    fault = False


@dataclass
class Recording(ABC):
    """Something that becomes an episode. A layout subclasses it and says its rate and its frames, and what else it knows.

    `name` is its path below the source folder, `path` the file or folder that it is, `files` all that is read of it, `task` what was
    played as far as the layout tells, `split` the split it has by its source, `skipped` the (name, reason) of the pictures that
    `frames` had to leave out. `ordered` is False where neighbouring frames do not follow each other: no clips are cut from them.
    """

    name: str
    path: Path
    files: Sequence[Path]
    task: str = ""
    split: Split | None = None
    skipped: list[tuple[str, str]] = field(default_factory=list)
    ordered = True

    @property
    def origin(self) -> int:
        """The size in bytes of all that is read."""
        # os.path tells what may not be looked at as missing, where Path raises
        return sum(os.path.getsize(file) for file in self.files if os.path.exists(file))

    def expected_frames(self) -> int | None:
        """Return about how many frames there are, found without decoding; None when nothing tells."""
        return None

    @abstractmethod
    def frames_per_second(self) -> float:
        """Return how many frames a second of game time has; raise `BadRecording` where the recording does not open."""

    @abstractmethod
    def frames(self) -> Iterator[np.ndarray]:
        """Yield uint8 RGB frames (H, W, 3), one at a time, in the same array if need be; raise `BadRecording` where they do not decode."""

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the per-step arrays by name, asked for once and after `frames` is exhausted; raise `BadRecording` where damaged.

        For F frames, "observation..." has F entries, or one less where the last was not recorded; everything else ("reward",
        "action...") has F-1: entry t is what happened between frame t and frame t+1.
        """
        return {}


@dataclass(frozen=True)
class Folder:
    """A folder met on the walk through a source: `files` and `folders` are its visible names, sorted."""

    source: Path
    path: Path
    files: Sequence[str]
    folders: Sequence[str] = ()

    def with_suffix(self, *suffixes: str) -> list[Path]:
        """Return the files of these endings, whatever their case."""
        return [self.path / name for name in self.files if name.lower().endswith(suffixes)]

    def name(self, file: str | Path = "") -> str:
        """Return the name of a recording: the path of the folder, or of a file or a part in it, below the source."""
        path = self.path / file
        return path.relative_to(self.source).as_posix() if path != self.source else self.source.resolve().name


@dataclass(frozen=True)
class Layout:
    """A way in which recordings lie on disk.

    `name` is what `--layout` takes. `find` returns the recordings in a folder, not below it, without decoding them; their `files` and
    `path` are not offered to the layouts that come after. What looks like a recording and is damaged is returned all the same, and
    raises `BadRecording` when it is read: an error in `find` ends the build. `described` completes "looked for ...".
    """

    name: str
    described: str
    find: Callable[[Folder], Sequence[Recording]]
