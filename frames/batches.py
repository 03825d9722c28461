"""Batches for training, shuffled and endless, and for validation, in order."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from foundation.errors import UserError
from frames.store import FrameStore


@dataclass(frozen=True)
class FrameBatch:
    """A batch of clips: `frames` uint8 (B, T, H, W, C); `actions` float32 (B, T, A) that led to each frame.

    `actions` is None for single frames, which have no past to act in, and for stores without actions.
    """

    frames: np.ndarray
    actions: np.ndarray | None = None


class FrameBatches:
    """Endless shuffled batches of a split, the same for the same seed.

    Every pass goes through all windows of `clip_length` frames in an order of its own; a batch at a pass's end is filled from the next
    pass, so that none is short and no frame is lost. Clips never cross an episode. Raises `UserError` when the split has no clip.
    """

    def __init__(self, store: FrameStore, split: str, batch_size: int, clip_length: int = 1, seed: int = 0) -> None:
        if batch_size < 1:
            raise UserError(f"a batch size of {batch_size}: must be at least 1")
        self._store, self._batch_size, self._clip_length, self._seed = store, batch_size, clip_length, seed
        self._starts = _some(store, split, store.starts(split, clip_length), clip_length)
        self._pass, self._position = 0, 0
        self._order = self._permutation()

    def __iter__(self) -> Iterator[FrameBatch]:
        return self

    def __next__(self) -> FrameBatch:
        parts, missing = [], self._batch_size
        while missing:
            part = self._order[self._position : self._position + missing]
            parts.append(part)
            self._position += len(part)
            missing -= len(part)
            if self._position == len(self._order):
                self._pass, self._position = self._pass + 1, 0
                self._order = self._permutation()
        return _read(self._store, self._starts[np.concatenate(parts)], self._clip_length)

    def state_dict(self) -> dict[str, Any]:
        """The position, and what it is a position in: plain numbers and texts."""
        return {"pass": self._pass, "position": self._position, **self._identity()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on exactly where `state_dict` was taken; raise `UserError` when these are other batches."""
        for key, value in self._identity().items():
            if state[key] != value:
                raise UserError(f"{self._store.path}: cannot go on with these frames: {key} was {state[key]} and is {value}")
        self._pass, self._position = state["pass"], state["position"]
        self._order = self._permutation()

    def _identity(self) -> dict[str, Any]:
        return {"fingerprint": self._store.fingerprint, "seed": self._seed, "clip_length": self._clip_length, "clips": len(self._starts)}

    def _permutation(self) -> np.ndarray:
        return np.random.default_rng([self._seed, self._pass]).permutation(len(self._starts))


def in_order(
    store: FrameStore, split: str, batch_size: int, clip_length: int = 1, limit: int | None = None
) -> Iterator[FrameBatch]:
    """Return a split's frames in order, each once; the last batch is short. `limit` takes that many, evenly spread.

    With clips, one follows the other; what is left of an episode after its last whole clip is not returned. Raises `UserError`
    when the split has none.
    """
    starts = _some(store, split, _side_by_side(store, split, clip_length), clip_length)
    if limit is not None and limit < len(starts):
        starts = starts[np.linspace(0, len(starts) - 1, max(1, limit)).round().astype(np.int64)]
    return (_read(store, starts[at : at + batch_size], clip_length) for at in range(0, len(starts), batch_size))


def _side_by_side(store: FrameStore, split: str, clip_length: int) -> np.ndarray:
    if clip_length == 1:
        return store.indices(split)
    ranges = [
        np.arange(episode.first, episode.first + episode.length - clip_length + 1, clip_length)
        for episode in store.of_split(split)
        if episode.ordered
    ]
    return np.concatenate([np.empty(0, np.int64), *ranges]).astype(np.int64, copy=False)


def _some(store: FrameStore, split: str, starts: np.ndarray, clip_length: int) -> np.ndarray:
    if len(starts):
        return starts
    counts = {name: len(store.starts(name, clip_length)) for name in ("train", "val", "test")}
    held = ", ".join(f"{count:,} in {name}" for name, count in counts.items() if count) or "none in any split"
    kind = "frames" if clip_length == 1 else f"clips of {clip_length} frames"
    raise UserError(f"{store.path}: no {kind} in split '{split}' ({held}); name another split or build the store with one")


def _read(store: FrameStore, starts: np.ndarray, clip_length: int) -> FrameBatch:
    actions = store.action_windows(starts, clip_length) if clip_length > 1 else None
    return FrameBatch(store.windows(starts, clip_length), actions)
