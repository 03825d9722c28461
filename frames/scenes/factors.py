"""What the columns of "observation.factors" are: classes, numbers, or angles."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from foundation.errors import UserError, nearest
from frames.scenes.reading import values_at
from frames.store import FrameStore

FACTORS = "observation.factors"
META = "factors"
"""Where a store's meta record names them."""
_MOST_CLASSES = 20


@dataclass(frozen=True)
class Factor:
    """One thing that objects differ in."""

    name: str
    columns: tuple[int, ...]
    """One, or for a class the several whose values tell it together, such as the three of a colour."""
    is_class: bool = False
    period: float | None = None
    """After how much a number begins anew: 360 for an angle in degrees."""


# the columns that EfficientMORL's HDF5 files of CLEVR begin with
_CLEVR = (
    *(Factor(name, (column,)) for column, name in enumerate(("x", "y", "z"))),
    Factor("rotation", (3,), period=360.0),
    *(Factor(name, (column,), is_class=True) for column, name in enumerate(("size", "material", "shape", "color"), 4)),
)


def factors_meta(factors: Sequence[Factor]) -> list[dict[str, Any]]:
    """Return factors as a store's meta record holds them."""
    return [{**asdict(factor), "columns": list(factor.columns)} for factor in factors]


def known_factors(store: FrameStore) -> list[Factor] | None:
    """Return what the store's columns are by its own word, or as in the published files of CLEVR; None where nothing tells."""
    if META in store.meta:
        return [Factor(**{**entry, "columns": tuple(entry["columns"])}) for entry in store.meta[META]]
    columns = min((episode.arrays[FACTORS].shape[-1] for episode in store.episodes if FACTORS in episode.arrays), default=0)
    named = all("clevr" in episode.name.lower() for episode in store.episodes)
    return list(_CLEVR) if named and columns > len(_CLEVR) else None


def told_factors(words: Sequence[str], columns: int, option: str) -> list[Factor]:
    """Return what a user says of each column: NAME:class, NAME:number, NAME:360 for an angle in degrees, or - to leave it out.

    Raises `UserError`, naming `option`, for too few or too many words and for what is none of these.
    """
    if len(words) != columns:
        raise UserError(f"{option}: {len(words)} words for {columns} columns of '{FACTORS}'; give one for each, - leaves it out")
    return [_told(word, column, option) for column, word in enumerate(words) if word != "-"]


def guessed_factors(values: np.ndarray) -> list[Factor]:
    """Return what the columns of (N, F) look like: few whole numbers are classes; columns of one value are left out."""
    found = []
    for column, entries in enumerate(values.T):
        kinds = np.unique(entries)
        is_class = len(kinds) <= _MOST_CLASSES and bool((kinds == kinds.round()).all())
        if len(kinds) > 1:
            found.append(Factor(f"factor {column}", (column,), is_class))
    return found


def has_factors(store: FrameStore) -> bool:
    """Say whether all of a store's pictures have factors."""
    return all(FACTORS in episode.arrays for episode in store.episodes)


def factors_at(store: FrameStore, indices: np.ndarray) -> np.ndarray:
    """Return the factors float32 (N, K, F) of frames by global index."""
    return values_at(store, indices, FACTORS).astype(np.float32, copy=False)


def _told(word: str, column: int, option: str) -> Factor:
    name, _, kind = word.rpartition(":")
    if kind.replace(".", "", 1).isdigit() and float(kind) > 0:
        return Factor(name, (column,), period=float(kind))
    if not name or kind not in ("class", "number"):
        raise UserError(f"{option} {word}: {nearest(kind, ('class', 'number'))}; or the period of an angle: NAME:360")
    return Factor(name, (column,), kind == "class")
