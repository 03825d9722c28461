"""The options of `make_frames.py inspect`, `verify` and `export`."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Inspect:
    """Print what a store holds and draw a contact sheet."""

    store: Path
    """The store to look at."""
    sheet: Path | None = None
    """Where to write the contact sheet; beside the store if not given."""
    json: Path | None = None
    """Write the same figures as JSON to this file."""
    episodes: int = 20
    """How many episodes to list."""


@dataclass(frozen=True, kw_only=True)
class Verify:
    """Read every frame and array of a store and compare them with the hashes they were written with."""

    store: Path
    """The store to check."""


@dataclass(frozen=True, kw_only=True)
class Export:
    """Write a clip of an episode as mp4 or gif, or its frames and arrays as npz."""

    store: Path
    """The store to take it from."""
    episode: str
    """The episode's name, as inspect lists it."""
    out: Path
    """The file to write; its ending says what: .mp4, .gif or .npz."""
    start: int = 0
    """The first frame."""
    frames: int | None = None
    """How many frames; all that follow if not given."""
    scale: int | None = None
    """Clips: enlarge every pixel so many times; to about 256 rows if not given."""
