"""What was recorded beside frames, by global index."""

import numpy as np

from foundation.errors import UserError
from frames.store import FrameStore


def values_at(store: FrameStore, indices: np.ndarray, name: str) -> np.ndarray:
    """Return the entries of an array of two axes or more at frames by global index: (N, ...).

    Where episodes have arrays of several lengths along the second axis, such as the masks of more objects, zeros fill the shorter ones.
    Raises `UserError` where an episode lacks the array, or its shape is another.
    """
    wanted = np.asarray(indices, np.int64)
    numbers = np.searchsorted([episode.first for episode in store.episodes], wanted, side="right") - 1
    shapes: dict[tuple[int, ...], list[int]] = {}
    for number in np.unique(numbers).tolist():
        episode = store.episodes[number]
        if name not in episode.arrays or episode.arrays[name].shape[0] < episode.length:
            raise UserError(f"{store.path}: {episode.name} has no '{name}' of every frame; build the store from recordings that have")
        shapes.setdefault(episode.arrays[name].shape[1:], []).append(number)
    if len({(len(shape), *shape[1:]) for shape in shapes}) > 1:
        raise UserError(f"{store.path}: '{name}' has other shapes in some episodes: {', '.join(map(str, shapes))}; make two stores")
    rows = [np.flatnonzero(np.isin(numbers, of_shape)) for of_shape in shapes.values()]
    parts = [store.array_rows(name, wanted[of_shape]) for of_shape in rows]
    values = np.zeros((len(wanted), *np.max([part.shape[1:] for part in parts], 0)), parts[0].dtype)
    for of_shape, part in zip(rows, parts, strict=True):
        values[of_shape, : part.shape[1]] = part
    return values
