"""Which clips make a batch: shuffled passes over one store or several, cut among ranks. No pixel is read here."""

from collections.abc import Sequence
from dataclasses import dataclass
from operator import index
from typing import Any

import numpy as np

from foundation.errors import UserError

_MIXED, _FLIPPED = 1, 2
_SAID_LATER = {"identities"}
"""What positions of before it was written down do not say: they are compared by the rest."""


@dataclass(frozen=True)
class Plan:
    """The clips of one batch: (number of the store, starts int64) one store after the other, and bool (B,) which are flipped."""

    parts: tuple[tuple[int, np.ndarray], ...]
    flipped: np.ndarray | None = None


class Sampler:
    """Plans batch after batch: every store's clips in passes of an order of their own, and the stores in exact proportion.

    Of the first N rows, store i has had `weights[i] / sum(weights) * N`, to within one row for two stores. A batch of `batch_size` rows
    is the same for any number of `ranks`: each gets its own, equal part of it.
    """

    def __init__(
        self, starts: Sequence[np.ndarray], batch_size: int, seed: int, weights: Sequence[float], rank: int, ranks: int, flip: bool
    ) -> None:
        self._passes = [_Passes(clips, seed, number) for number, clips in enumerate(starts)]
        self._batch_size, self._seed, self._flip = batch_size, seed, flip
        self._shares = [weight / sum(weights) for weight in weights]
        self._rows = slice(rank * batch_size // ranks, (rank + 1) * batch_size // ranks)

    def plan(self) -> Plan:
        """Return the next batch's clips."""
        taken = [one.taken for one in self._passes]
        number = sum(taken) // self._batch_size
        counts = _counts(taken, self._shares, self._batch_size)
        stores = np.repeat(np.arange(len(counts)), counts)
        if len(counts) > 1:
            # so that a rank with few rows does not always draw from the same store
            stores = np.random.default_rng([self._seed, number, 0, _MIXED]).permutation(stores)
        starts = np.empty(self._batch_size, np.int64)
        for store, one in enumerate(self._passes):
            starts[stores == store] = one.take(counts[store])
        flipped = np.random.default_rng([self._seed, number, 0, _FLIPPED]).random(self._batch_size) < 0.5 if self._flip else None
        return _arranged(stores[self._rows], starts[self._rows], None if flipped is None else flipped[self._rows])

    def position(self) -> dict[str, list[int]]:
        """Where every store's passes stand."""
        return {"passes": [one.number for one in self._passes], "positions": [one.position for one in self._passes]}

    def seek(self, passes: Sequence[int], positions: Sequence[int]) -> None:
        """Go to a position; raises ValueError for one that cannot be."""
        for one, number, position in zip(self._passes, passes, positions, strict=True):
            one.seek(number, position)


class _Passes:
    """Endless passes over the clips of a store; what a pass's end leaves missing comes from the next."""

    def __init__(self, starts: np.ndarray, seed: int, store: int) -> None:
        self._starts, self._seed, self._store = starts, seed, store
        self.seek(0, 0)

    @property
    def taken(self) -> int:
        return self.number * len(self._starts) + self.position

    def seek(self, number: int, position: int) -> None:
        number, position = index(number), index(position)
        if number < 0 or not 0 <= position < len(self._starts):
            raise ValueError(f"clip {position} of {len(self._starts)} in pass {number}")
        self.number, self.position = number, position
        self._order = np.random.default_rng([self._seed, number, self._store]).permutation(len(self._starts))

    def take(self, count: int) -> np.ndarray:
        parts = [np.empty(0, np.int64)]
        while count:
            part = self._order[self.position : self.position + count]
            parts.append(part)
            count -= len(part)
            self.position += len(part)
            if self.position == len(self._order):
                self.seek(self.number + 1, 0)
        return self._starts[np.concatenate(parts)]


def checked_weights(weights: Sequence[float] | None, clips: Sequence[int]) -> list[float]:
    """Return a weight for every store: as many as it has clips, if none are given."""
    if weights is None:
        return [float(count) for count in clips]
    if len(weights) != len(clips) or not all(0 < weight < float("inf") for weight in weights):
        raise UserError(f"weights {list(weights)}: give one greater than 0 for each of {len(clips)} stores")
    return [float(weight) for weight in weights]


def check_difference(where: str, saved: dict[str, Any], own: dict[str, Any]) -> None:
    """Raise `UserError` where a saved position is one in other batches, naming the first difference."""
    if not {"passes", "positions", *own} - _SAID_LATER <= saved.keys():
        raise UserError(f"{where}: cannot resume with these frames: the position was saved by another version; start over")
    for key, value in own.items():
        if key not in saved or saved[key] == value:
            continue
        if key == "identities":
            changed = "the frames are the same, but their order, names, splits or what is recorded beside them is not"
            raise UserError(f"{where}: cannot go on with these frames: {changed}; give the store as it was, or start over")
        raise UserError(f"{where}: cannot go on with these frames: {key} was {_shown(saved[key])} and is {_shown(value)}")


def _shown(value: Any) -> Any:
    return value[0] if isinstance(value, list) and len(value) == 1 else value


def _counts(taken: list[int], shares: list[float], rows: int) -> list[int]:
    """Return how many of the next rows each store gives: one by one to the store that is furthest behind its share."""
    if len(taken) == 1:
        return [rows]
    counts, done = [0] * len(taken), sum(taken)
    for row in range(done + 1, done + rows + 1):
        behind = [row * share - before - count for share, before, count in zip(shares, taken, counts, strict=True)]
        counts[behind.index(max(behind))] += 1
    return counts


def _arranged(stores: np.ndarray, starts: np.ndarray, flipped: np.ndarray | None) -> Plan:
    """Put the rows of a store side by side, so that each store's frames are read straight into their place."""
    order = np.argsort(stores, kind="stable")
    numbers, begins = np.unique(stores[order], return_index=True)
    parts = tuple(zip(numbers.tolist(), np.split(starts[order], begins[1:]), strict=True))
    return Plan(parts, None if flipped is None else flipped[order])
