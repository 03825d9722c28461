from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from frames.building.metering import FrameMeter
from frames.readers import Recording


class Announced(Recording):
    def __init__(self, name: str, expected: int | None, size: int = 0) -> None:
        super().__init__(name, Path(name), [])
        self._expected, self._size = expected, size

    @property
    def origin(self) -> int:
        return self._size

    def expected_frames(self) -> int | None:
        return self._expected

    def frames_per_second(self) -> float:
        return 20.0

    def frames(self) -> Iterator[np.ndarray]:
        return iter([])


class Bar:
    """Remembers where it stood after every movement."""

    def __init__(self) -> None:
        self.done, self.stood = 0, []

    def __call__(self, amount: int = 1, note: str | None = None, total: int | None = None) -> None:
        self.done += amount
        self.stood.append((self.done, total))


def decode(meter: FrameMeter, recordings: dict[str, int], step: int = 10) -> None:
    for name, frames in recordings.items():
        for start in range(0, frames, step):
            meter._next = 0
            meter.decoded(name, min(step, frames - start))
        meter.finished(name)


@pytest.mark.parametrize("announced", [50, 100, 200, None])
def test_the_bar_reaches_its_end_with_the_last_frame_whatever_was_announced(announced):
    meter, bar = FrameMeter([Announced(f"{n}", announced, size=900) for n in range(30)]), Bar()
    meter.show_on(bar)
    decode(meter, {f"{n}": 100 for n in range(30)})
    assert bar.stood[-1] == (3000, 3000)
    assert all(done <= total for done, total in bar.stood)


@pytest.mark.parametrize("announced", [100, 200])
def test_the_bar_does_not_jump_where_headers_announce_twice_the_frames(announced):
    meter, bar = FrameMeter([Announced(f"{n}", announced) for n in range(30)]), Bar()
    meter.show_on(bar)
    decode(meter, {f"{n}": 100 for n in range(30)})
    shares = [done / total for done, total in bar.stood]
    assert all(-0.001 <= after - before < 0.03 for before, after in pairwise(shares))


def test_what_tells_no_length_is_estimated_by_its_bytes():
    recordings = [Announced("a", 100, size=1000), Announced("b", None, size=5000), Announced("c", None, size=0)]
    assert FrameMeter(recordings).total == 100 + 500 + 1


def test_frames_of_an_earlier_run_count_as_done():
    assert FrameMeter([Announced("a", 100)], done=40).total == 140


def test_a_damaged_recording_leaves_the_total_to_the_others():
    meter = FrameMeter([Announced(f"{n}", 100) for n in range(4)])
    meter.finished("0")
    assert meter.total == 300
