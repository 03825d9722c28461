"""What every container's reader gives: the frames that it lists, or its damage."""

from dataclasses import dataclass

import numpy as np

MOST_FRAMES = 10_000_000


class Damaged(Exception):
    """A structure that is cut off or contradicts itself: where, in the user's words."""


@dataclass(frozen=True)
class Listing:
    """The frames that a file lists: `times` float64 (F,), the seconds at which each is shown, sorted; None where it does not tell.

    Times are rounded to `resolution` seconds. Of the frames, `doubtful` may decode to nothing in a sound file. `damage` says what is
    wrong with the structure, None when nothing is.
    """

    times: np.ndarray | None = None
    resolution: float = 0.0
    doubtful: int = 0
    damage: str | None = None

    def interval(self) -> float | None:
        """Return the seconds from a frame to the next where none was dropped: the mean of those near the median.

        A recorder that drops repeated frames leaves gaps, which the median passes over; the mean takes out the rounding. None
        without two frames that are shown one after the other.
        """
        steps = np.empty(0) if self.times is None else np.diff(self.times)
        steps = steps[steps > 0]
        if not len(steps):
            return None
        # the lower one of the two in the middle: half of a step and a gap is neither
        median = np.sort(steps)[(len(steps) - 1) // 2]
        near = np.abs(steps - median) <= max(median / 4, 1.5 * self.resolution)
        return float(steps[near].mean())


NOTHING_LISTED = Listing()


def leading(times: np.ndarray, first_key: int) -> np.ndarray:
    """Return bool (F,): which frames, in the order in which they are stored, need one from before the first key frame.

    A recording that was cut from another without encoding it, or that joined a stream, begins with frames that nothing can decode.
    """
    return (np.arange(len(times)) < first_key) | (times < times[first_key])


def cut_off(size: int, needed: int) -> Damaged:
    """Say that a file ends before what it announces."""
    return Damaged(f"truncated: {size:,} of {needed:,} bytes")
