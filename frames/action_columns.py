"""The numbers that stand for an action: a store's action arrays side by side, and what they come to over several ticks."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from foundation.ticks import Joining, join_ticks, joining
from frames.storage.format import Episode


@dataclass(frozen=True)
class Columns:
    """The numbers of one array: where they stand in the action, how ticks become one, and the numbers that do nothing."""

    place: slice
    how: Joining
    idle: tuple[float, ...] | None


def action_columns(episodes: Sequence[Episode], names: Sequence[str], texts: dict[str, list[str]]) -> list[Columns]:
    """Return where each array's numbers stand, the arrays in the order of `names`; `texts` are those that a number stands for."""
    acting = [episode.arrays for episode in episodes if episode.ordered and episode.length > 1]
    columns, at = [], 0
    for name in names:
        width = array_width(acting[0][name].shape)
        types = [np.dtype(arrays[name].dtype) for arrays in acting]
        how = joining(name, next((one for one in types if one.kind == "f"), types[0]))
        known = texts.get(name)
        idle = tuple(float(number) for number, text in enumerate(known) if text in ("none", "")) if known else None
        columns.append(Columns(slice(at, at + width), how, idle))
        at += width
    return columns


def array_width(shape: tuple[int, ...]) -> int:
    """Return how many numbers an entry of an array has."""
    return int(np.prod(shape[1:], dtype=np.int64))


def joined_actions(led: np.ndarray, columns: Sequence[Columns], frames: np.ndarray, ticks: np.ndarray) -> np.ndarray:
    """Return float32 (N, A): the actions of the `ticks` (N,) that led to each of `frames` (N,), as one; zeros where there are none.

    `led` float32 (F, A) holds the action of the tick that led to each frame of the store.
    """
    some = np.flatnonzero(ticks)
    counts = ticks[some]
    begins = np.cumsum(counts) - counts
    rows = np.arange(counts.sum()) + np.repeat(frames[some] - counts + 1 - begins, counts)
    spans, joined = led[rows], np.zeros((len(frames), led.shape[1]), np.float32)
    for column in columns:
        joined[some, column.place] = join_ticks(spans[:, column.place], begins, column.how, column.idle)
    return joined


def common_action_names(episodes: Sequence[Episode]) -> tuple[str, ...] | None:
    """Return the sorted names of the action arrays, when every ordered episode of more than a frame has the same of the same width.

    An array of words in one and of numbers in another is not the same.
    """
    layouts: set[Any] = {
        tuple(
            sorted(
                (name, array_width(info.shape), np.dtype(info.dtype).kind == "U")
                for name, info in episode.arrays.items()
                if name.startswith("action")
            )
        )
        for episode in episodes
        if episode.ordered and episode.length > 1
    }
    layout = layouts.pop() if len(layouts) == 1 else ()
    return tuple(name for name, *_ in layout) or None
