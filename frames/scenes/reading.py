"""What was recorded beside frames, by global index."""

import numpy as np

from foundation.errors import UserError
from frames.store import FrameStore


def values_at(store: FrameStore, indices: np.ndarray, name: str) -> np.ndarray:
    """Return the entries of an array at frames by global index: (N, ...), each episode's array read once.

    Where episodes have arrays of several lengths along the second axis, such as the masks of more objects, zeros fill the shorter ones.
    Raises `UserError` where an episode lacks the array, or its shape is another.
    """
    found, order, parts = np.asarray(indices, np.int64), [], []
    firsts = np.array([episode.first for episode in store.episodes])
    numbers = np.searchsorted(firsts, found, side="right") - 1
    for number in np.unique(numbers).tolist():
        episode, rows = store.episodes[number], np.flatnonzero(numbers == number)
        if name not in episode.arrays or episode.arrays[name].shape[0] < episode.length:
            raise UserError(f"{store.path}: {episode.name} has no '{name}' of every frame; build the store from recordings that have")
        order.append(rows)
        parts.append(store.array(episode, name)[found[rows] - episode.first])
    return _joined(store, name, parts)[np.argsort(np.concatenate(order))]


def _joined(store: FrameStore, name: str, parts: list[np.ndarray]) -> np.ndarray:
    shapes = {part.shape[1:] for part in parts}
    if len(shapes) == 1:
        return np.concatenate(parts)
    if len({(len(shape), *shape[1:]) for shape in shapes}) > 1:
        raise UserError(f"{store.path}: '{name}' has other shapes in some episodes: {', '.join(map(str, sorted(shapes)))}; make two stores")
    most = max(shape[0] for shape in shapes)
    gaps = ([(0, 0), (0, most - part.shape[1])] + [(0, 0)] * (part.ndim - 2) for part in parts)
    return np.concatenate([np.pad(part, gap) for part, gap in zip(parts, gaps, strict=True)])
