"""Looking at a store: its figures, a contact sheet, and whether every byte is still what was written."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from foundation.errors import UserError
from foundation.pictures import in_rows, picture_grid, write_png
from foundation.progress import Advance, progress_bar
from frames import format
from frames.format import SPLITS, Episode
from frames.store import FrameStore

_SAMPLE = 4096
_BATCH = 256
_DARK = 25.5
_FROZEN = 0.5
_SHEET_COLUMNS = 12
_SHEET_ROWS = 12


@dataclass(frozen=True)
class Look:
    """How frames look, from an even sample: shares in [0, 1], brightness in grey levels of 0 to 255.

    `dark`: below a tenth of white on average. `frozen`: within half a grey level of the frame before.
    """

    brightness: float
    dark: float
    frozen: float


def look(store: FrameStore, episodes: Iterable[Episode], sample: int = _SAMPLE) -> Look:
    """Measure the frames of some episodes, at most `sample` of them."""
    seconds = np.concatenate([np.arange(e.first + (e.length > 1), e.first + e.length) for e in episodes])
    chosen = seconds[np.linspace(0, len(seconds) - 1, min(sample, len(seconds))).round().astype(np.int64)]
    brightness, frozen, pairs = [], 0, 0
    for at in range(0, len(chosen), _BATCH):
        indices = chosen[at : at + _BATCH]
        frames = store.frames(indices)
        brightness.append(frames.mean(axis=(1, 2, 3)))
        moving = np.array([_has_neighbour(store.episode_at(int(index)), int(index)) for index in indices])
        before = store.frames(indices[moving] - 1)
        change = np.abs(frames[moving].astype(np.int16) - before).mean(axis=(1, 2, 3))
        frozen, pairs = frozen + int((change < _FROZEN).sum()), pairs + int(moving.sum())
    levels = np.concatenate(brightness)
    return Look(float(levels.mean()), float((levels < _DARK).mean()), frozen / max(pairs, 1))


def contact_sheet(store: FrameStore, path: str | Path) -> None:
    """Write a PNG with a row of evenly spread frames for each of up to 12 episodes, evenly chosen from every split."""
    rows: list[np.ndarray] = []
    labels: list[str] = []
    scale = max(1, round(96 / store.frame_shape[0]))
    shown = [split for split in SPLITS if store.of_split(split)]
    for split in shown:
        episodes = store.of_split(split)
        for place in np.unique(np.linspace(0, len(episodes) - 1, max(1, _SHEET_ROWS // len(shown))).round().astype(int)):
            episode = episodes[place]
            spread = np.unique(np.linspace(0, episode.length - 1, _SHEET_COLUMNS).round().astype(np.int64))
            rows += in_rows(store.frames(episode.first + spread), _SHEET_COLUMNS)
            labels.append(f"{split}: {episode.name.encode('ascii', 'replace').decode()} ({episode.length:,} frames)")
    write_png(path, picture_grid(rows, labels, scale))


def verify(store: FrameStore) -> list[tuple[str, str]]:
    """Read every chunk and array and compare the hashes; return (episode, what is wrong) of all that is damaged."""
    damaged = []
    with progress_bar("verifying", len(store), "frames") as advance:
        for episode in store.episodes:
            damaged += [(episode.name, reason) for reason in _damage(store, episode, advance)]
    if format.fingerprint(store.episodes) != store.fingerprint:
        damaged.append(("the episode table", "does not fit the store's fingerprint"))
    return damaged


def _damage(store: FrameStore, episode: Episode, advance: Advance) -> Iterable[str]:
    digest = format.new_digest()
    try:
        for at in range(0, episode.length, _BATCH):
            frames = store.frames(np.arange(at, min(at + _BATCH, episode.length)) + episode.first)
            digest.update(frames)
            advance(len(frames))
        if digest.hexdigest() != episode.content:
            yield "its frames are not what was written"
        for name, info in episode.arrays.items():
            if format.content_hash([store.array(episode, name).tobytes()]) != info.content:
                yield f"'{name}' is not what was written"
    except (UserError, ValueError) as error:
        yield str(error)


def _has_neighbour(episode: Episode, index: int) -> bool:
    return episode.ordered and index > episode.first
