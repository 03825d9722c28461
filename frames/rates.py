"""Clips of one rate from recordings of several: how many recorded frames each goes on from a clip's frame to the next."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from frames.storage.format import Episode

# 29.97 is 30, and the times of a recorder that was busy are not exact; 24 is not 25
_TOLERANCE = 0.02
_SHOWN_RATES = 4


@dataclass(frozen=True)
class Strides:
    """Clips of `rate` frames a second from a store's episodes.

    `of_episode` int64 (E,): from a clip's frame to the next go so many recorded ones, by the episode's number; 0 where the episode gives
    no such clip, since its own rate is no multiple.
    """

    rate: float
    of_episode: np.ndarray


def strides_at(episodes: Sequence[Episode], rate: float) -> Strides:
    """Return the strides of all episodes at which clips have `rate` frames a second, to within 2 %."""
    return Strides(rate, _multiples(np.array([episode.frames_per_second for episode in episodes]), rate))


def common_rate(episodes: Iterable[Episode]) -> float | None:
    """Return the rate at which clips can be had of the most recorded frames: the slowest, where the others are its multiples.

    Of rates that serve equally, that of the most frames. None without an ordered episode of more than a frame.
    """
    frames: dict[float, int] = {}
    for episode in episodes:
        if episode.ordered and episode.length > 1:
            frames[episode.frames_per_second] = frames.get(episode.frames_per_second, 0) + episode.length
    rates, counts = np.array(list(frames)), np.array(list(frames.values()), np.int64)

    def serves(rate: float) -> tuple[int, int]:
        return int(counts[_multiples(rates, rate) > 0].sum()), frames[rate]

    return max(frames, key=serves) if frames else None


def rates_line(path: Path, episodes: Sequence[Episode], strides: Strides, split: str) -> str | None:
    """Say which rates the recordings of a split have, and how many give no clip; None where all have one."""
    own = [(episode, step) for episode, step in zip(episodes, strides.of_episode.tolist(), strict=True) if episode.ordered]
    own = [(episode, step) for episode, step in own if split in ("all", episode.split) and episode.length > 1]
    if len({step for _, step in own} - {0}) < 2 and all(step for _, step in own):
        return None
    line = f"{path}: the recordings in '{split}' have {_told(episode for episode, _ in own)} frames/s, clips {strides.rate:g}"
    left_out = [episode for episode, step in own if not step]
    if not left_out:
        return line
    lost = sum(episode.length for episode in left_out)
    return f"{line}; {len(left_out)} of {len(own)} ({lost:,} frames), of {_told(left_out)} frames/s, give no clip"


def _multiples(rates: np.ndarray, rate: float) -> np.ndarray:
    """Return int64 (R,): which multiple of `rate` each rate is, 0 where it is none."""
    multiples = np.maximum(1, np.round(rates / rate))
    return np.where(np.abs(rates / (multiples * rate) - 1) <= _TOLERANCE, multiples, 0).astype(np.int64)


def _told(episodes: Iterable[Episode]) -> str:
    rates = [f"{rate:g}" for rate in sorted({episode.frames_per_second for episode in episodes})]
    shown = rates if len(rates) <= _SHOWN_RATES else [*rates[: _SHOWN_RATES - 1], "...", rates[-1]]
    return ", ".join(shown)
