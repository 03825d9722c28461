"""Which bounds of a space say something: Stable-Baselines3 and gymnasium take any for what they are."""

import numpy as np
from gymnasium import spaces

_ENDLESS = 1e18
_WIDEST = 2**24
"""A float32 from -1 to 1 tells no more whole numbers apart."""


def bounded(space: spaces.Box) -> np.ndarray:
    """Return for each number of a box whether its bounds are any, bool of the box's shape.

    Infinite ones, those near a float's largest number and those of an integer type's whole range (of 32 bits or more) are none.
    """
    low, high = space.low.astype(np.float64), space.high.astype(np.float64)
    with np.errstate(invalid="ignore"):
        finite = np.maximum(np.abs(low), np.abs(high)) < _ENDLESS
    if space.dtype.kind in "iu" and space.dtype.itemsize >= 4:
        limits = np.iinfo(np.dtype(space.dtype).str)
        finite &= (space.high < limits.max) & ((space.low > limits.min) | (limits.min == 0))
    return finite


def scalable(space: spaces.Box) -> np.ndarray:
    """Return for each number of a box whether it can be scaled to [-1, 1] and still be told apart, bool of the box's shape."""
    width = space.high.astype(np.float64) - space.low.astype(np.float64)
    return bounded(space) & (width > 0) & ((space.dtype.kind == "f") | (width <= _WIDEST))
