"""Arrays from outside, checked at the door: compiled code does not look, and an index out of bounds ends the process."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from foundation.errors import UserError


@dataclass(frozen=True)
class Kind:
    """What an array must be: its type, its shape (None: any length), and where its numbers lie, ends included.

    `low` and `high` are a number, or an array with one for each entry. NaN and infinity never pass. `whole` asks for whole numbers, in all
    entries or in those where it is True.
    """

    dtype: Any
    shape: tuple[int | None, ...]
    low: Any = -math.inf
    high: Any = math.inf
    whole: Any = False


def checked_arrays(values: Any, kinds: Mapping[str, Kind], what: str) -> dict[str, np.ndarray]:
    """Return the arrays of a mapping that `kinds` names, each a C-contiguous copy that its owner may write into.

    Raises `UserError` that begins with `what`, and names the array, where one is missing or is not what its kind says.
    """
    if not isinstance(values, Mapping):
        raise UserError(f"{what}: its arrays are missing")
    return {name: _checked(values.get(name), kind, f"{what}: '{name}'") for name, kind in kinds.items()}


def alike(value: Any, template: Any, what: str) -> Any:
    """Return an array, or a mapping of some, whose types and shapes are those of `template`; raise `UserError` where they are not."""
    if isinstance(template, Mapping):
        if not isinstance(value, Mapping) or value.keys() != template.keys():
            raise UserError(f"{what} has other entries than {', '.join(map(str, template))}")
        return {key: alike(value[key], one, f"{what}: '{key}'") for key, one in template.items()}
    if not isinstance(value, np.ndarray) or (value.dtype, value.shape) != (template.dtype, template.shape):
        raise UserError(f"{what} is no array of {template.dtype} of shape {template.shape}")
    return value


def _checked(value: Any, kind: Kind, what: str) -> np.ndarray:
    if not isinstance(value, np.ndarray):
        raise UserError(f"{what} is missing, or no array")
    if value.dtype != kind.dtype:
        raise UserError(f"{what} is of type {value.dtype}, not {np.dtype(kind.dtype)}")
    if len(value.shape) != len(kind.shape) or any(want not in (None, have) for have, want in zip(value.shape, kind.shape, strict=True)):
        wanted = ", ".join("any" if one is None else str(one) for one in kind.shape)
        raise UserError(f"{what} has shape {value.shape}, not ({wanted})")
    if value.dtype.kind == "f" and not np.isfinite(value).all():
        raise UserError(f"{what} holds numbers that are not finite")
    if ((value < kind.low) | (value > kind.high)).any():
        raise UserError(f"{what} holds numbers out of range")
    if (np.asarray(kind.whole) & (value != np.floor(value))).any():
        raise UserError(f"{what} holds numbers that are not whole")
    return np.array(value, order="C")
