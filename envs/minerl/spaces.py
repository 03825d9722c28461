"""From the spaces of `minerl` and gym to gymnasium's, and observations and actions back and forth.

Between the two stands a description in plain JSON values, so that spaces can also come from another interpreter:
`{"type": "dict", "spaces": {...}}`, `{"type": "box", "low", "high", "shape", "dtype"}` (bounds: one number, or nested lists),
`{"type": "discrete", "n"}`, `{"type": "enum", "values", "default"}`, `{"type": "multi_discrete", "nvec"}`, `{"type": "text"}`.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from gymnasium import spaces

from envs.minerl.worker import describe as describe
from foundation.errors import UserError, nearest

_LONGEST_TEXT = 4096


class Enum(spaces.Discrete):
    """A Discrete whose numbers stand for the words in `values`; `default` is the word for doing nothing. Both are understood."""

    def __init__(self, values: list[str], default: str | None = None) -> None:
        super().__init__(len(values))
        self.values = tuple(values)
        self.default = self.values[0] if default is None else default

    def word(self, value: Any, key: str = "value") -> str:
        """Return the word for a number or a word; raises `UserError` for what is neither."""
        if isinstance(value, str):
            if value not in self.values:
                raise UserError(f"{key}='{value}': {nearest(value, self.values)}")
            return str(value)
        return self.values[_number(self, value, key)]

    def number(self, word: Any) -> int:
        """Return the number that stands for a word."""
        return self.values.index(str(word))

    def __repr__(self) -> str:
        return f"Enum({', '.join(self.values)})"


def from_description(described: Mapping[str, Any]) -> spaces.Space:
    """Make the gymnasium space that `describe` described; raises `ValueError` for an unknown type."""
    kind = described["type"]
    if kind == "dict":
        return spaces.Dict({key: from_description(inner) for key, inner in described["spaces"].items()})
    if kind == "enum":
        return Enum(described["values"], described["default"])
    if kind == "multi_discrete":
        return spaces.MultiDiscrete(described["nvec"])
    if kind == "discrete":
        return spaces.Discrete(described["n"])
    if kind == "text":
        return spaces.Text(_LONGEST_TEXT)
    if kind == "box":
        shape, dtype = tuple(described["shape"]), np.dtype(described["dtype"])
        low, high = (np.broadcast_to(np.array(described[bound], dtype), shape).copy() for bound in ("low", "high"))
        return spaces.Box(low, high, shape, dtype.type)
    raise ValueError(f"a space of an unknown type '{kind}'")


def dictionary(described: Mapping[str, Any]) -> spaces.Dict:
    """Make the gymnasium space of a described dictionary, as those of observations and actions are."""
    space = from_description(described)
    assert isinstance(space, spaces.Dict)
    return space


def read_observation(space: spaces.Space, value: Any) -> Any:
    """Return an observation of the client as one of `space`: contiguous arrays of the space's dtype, words as numbers."""
    if isinstance(space, spaces.Dict):
        return {key: read_observation(inner, value[key]) for key, inner in space.spaces.items()}
    if isinstance(space, Enum):
        return np.int64(space.number(value))
    if isinstance(space, spaces.Discrete):
        return np.int64(value)
    if isinstance(space, spaces.Text):
        return str(value)
    # copied, for the client's arrays are its own; its picture is a mirrored view with negative strides, which torch refuses
    return np.array(value, space.dtype, order="C").reshape(space.shape)


def write_action(space: spaces.Dict, action: Mapping[str, Any]) -> dict[str, Any]:
    """Return an action as the client takes it: words for enums, numbers that survive being printed.

    Keys left out do nothing (Minecraft would go on holding a key). Raises `UserError` for an unknown key or a value out of range.
    """
    unknown = next((key for key in action if key not in space.spaces), None)
    if unknown is not None:
        raise UserError(f"unknown action '{unknown}': {nearest(unknown, space.spaces)}")
    return {key: _write(inner, action[key], key) if key in action else _nothing(inner) for key, inner in space.spaces.items()}


def _write(space: spaces.Space, value: Any, key: str) -> Any:
    if isinstance(space, Enum):
        return space.word(value, key)
    if isinstance(space, spaces.Discrete):
        return _number(space, value, key)
    if isinstance(space, spaces.Dict):
        return write_action(space, value)
    if isinstance(space, spaces.Text):
        return str(value)
    # as float64, since the client sends digits: those of a float32 are fewer than say which one it was
    array = np.asarray(value, np.float64 if np.issubdtype(space.dtype, np.floating) else space.dtype)
    if array.shape != space.shape or not np.isfinite(array).all():
        raise UserError(f"{key}={value!r}: must be {space.shape} finite numbers")
    return array


def _nothing(space: spaces.Space) -> Any:
    if isinstance(space, Enum):
        return space.default
    if isinstance(space, spaces.Discrete):
        return 0
    if isinstance(space, spaces.Dict):
        return {key: _nothing(inner) for key, inner in space.spaces.items()}
    return "" if isinstance(space, spaces.Text) else np.zeros(space.shape, space.dtype)


def _number(space: spaces.Discrete, value: Any, key: str) -> int:
    number = int(value)
    if not 0 <= number < space.n:
        raise UserError(f"{key}={value!r}: must be from 0 to {space.n - 1}")
    return number
