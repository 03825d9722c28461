"""What happened in several ticks, as one: for recordings read at a stride or thinned, and for an environment that skips frames."""

from collections.abc import Collection
from typing import Any, Literal

import numpy as np

TICKS_A_SECOND = 20.0
"""Of Minecraft, a second; also taken for those of environments that name no rate."""

Joining = Literal["sum", "max", "mean", "last"]

# held or not, whatever type a recorder writes them in
_KEYS = {
    *("attack", "back", "crouch", "drop", "forward", "inventory", "jump", "left", "pickItem", "place", "right", "sneak", "sprint"),
    *("swapHands", "use", "ESC"),
}
_IDLE_TEXTS = ("none", "")


def adds_up(name: str, dtype: np.dtype) -> bool:
    """Say whether what an array or an action's key holds is an increment: rewards, and how far the camera turned.

    Whole numbers called `camera` are another package's choice, such as which one looks.
    """
    what = name.split(".")[-1]
    return name.split(".")[0] == "reward" or (what.startswith("camera") and (what != "camera" or dtype.kind == "f"))


def joining(name: str, dtype: np.dtype) -> Joining:
    """Return how the ticks of an array "action.camera", "reward", ... become one.

    Increments are added up. A key counts as held if it was in any of the ticks. Of choices, such as what is placed or crafted, and of all
    other whole numbers and texts, the last that is not idle stays (not 0, "none" or ""). Other real numbers, such as a throttle or the
    vectors of obfuscated environments, are held over a tick and not added to the one before: they are averaged, so that one that is held
    stays what it is and none is lost.
    """
    if adds_up(name, dtype):
        return "sum"
    if dtype.kind == "f":
        return "max" if name.split(".")[-1] in _KEYS else "mean"
    return "last"


def join_ticks(values: np.ndarray, begins: np.ndarray, how: Joining, idle: Collection[Any] | None = None) -> np.ndarray:
    """Make one entry of each span of ticks, (T, ...) -> (N, ...).

    Span i begins at `begins[i]` and ends before `begins[i + 1]`, the last one with `values`; none is empty. `idle` are the values that
    do nothing, if not 0, "none" and "". Sums of whole numbers become int64, so that none overflows; everything else keeps its type.
    """
    total = np.dtype(np.int64) if how == "sum" and values.dtype.kind in "bui" else values.dtype
    if not len(begins):
        return values[:0].astype(total)
    if how == "sum":
        return np.add.reduceat(values, begins, axis=0, dtype=total)
    if how == "max":
        return np.maximum.reduceat(values, begins, axis=0)
    ends = np.append(begins[1:], len(values))
    tail = (1,) * (values.ndim - 1)
    if how == "mean":
        sums = np.add.reduceat(values, begins, axis=0, dtype=np.float64)
        return (sums / (ends - begins).reshape(-1, *tail)).astype(values.dtype)
    idle = idle if idle is not None else _IDLE_TEXTS if values.dtype.kind == "U" else (0,)
    active = ~np.isin(values, np.array(list(idle), values.dtype))
    latest = np.maximum.reduceat(np.where(active, np.arange(len(values)).reshape(-1, *tail), -1), begins, axis=0)
    return np.take_along_axis(values, np.where(latest < 0, (ends - 1).reshape(-1, *tail), latest), axis=0)
