"""How far a build is, in frames: what recordings will hold is only estimated until they are decoded."""

import threading
import time
from collections.abc import Sequence

from foundation.progress import Advance
from frames.readers import Recording

_SECONDS_BETWEEN = 0.1


class FrameMeter:
    """Counts the decoded frames of all threads and corrects the bar's total by what finished recordings turn out to hold.

    The total is what is decoded plus what is left. The finished recordings say by how much the estimates are wrong, those still
    to be done are scaled by that, and a recording never counts for less than what has come out of it: so the total changes by
    little at a time, and the bar arrives at its end with the last frame. A recording without an estimate gets one by its bytes.
    """

    def __init__(self, recordings: Sequence[Recording], done: int = 0) -> None:
        """`done` frames are there already."""
        self._expected = _estimates(recordings)
        self._done = done
        self._decoded: dict[str, int] = {}
        self._finished: set[str] = set()
        self._known = [0, 0]
        self._frames = self._shown = 0
        self._next = 0.0
        self._lock = threading.Lock()
        self._advance: Advance | None = None

    def show_on(self, advance: Advance) -> None:
        """Move this bar from now on."""
        self._advance = advance

    @property
    def total(self) -> int:
        """How many frames there will be in all, by what is known now."""
        left = 0.0
        decoded, expected = self._known
        # the estimates weigh as much as one usual recording, so that the first to finish does not decide alone
        usual = sum(self._expected.values()) / max(1, len(self._expected))
        ratio = (decoded + usual) / (expected + usual) if usual else 1.0
        for name, estimate in self._expected.items():
            if name not in self._finished:
                left += max(0.0, ratio * estimate - self._decoded.get(name, 0))
        return self._done + self._frames + round(left)

    def decoded(self, name: str, frames: int) -> None:
        """Count more frames of a recording."""
        with self._lock:
            self._decoded[name] = self._decoded.get(name, 0) + frames
            self._frames += frames
            if time.monotonic() >= self._next:
                self._show()

    def finished(self, name: str) -> None:
        """A recording is done with, whatever came of it."""
        with self._lock:
            self._finished.add(name)
            # what is damaged says nothing of the estimates
            if self._decoded.get(name):
                self._known[0] += self._decoded[name]
                self._known[1] += round(self._expected[name])
            self._show()

    def _show(self) -> None:
        self._next = time.monotonic() + _SECONDS_BETWEEN
        if self._advance is not None:
            note = f"{len(self._finished)}/{len(self._expected)} recordings"
            self._advance(self._frames - self._shown, note, self.total)
            self._shown = self._frames


def _estimates(recordings: Sequence[Recording]) -> dict[str, float]:
    """How many frames each recording should hold; without a word from it, as many a byte as the others have, at least one."""
    told = {recording.name: _told(recording) for recording in recordings}
    sizes = {recording.name: recording.origin for recording in recordings}
    frames = sum(count for count in told.values() if count)
    size = sum(sizes[name] for name, count in told.items() if count)
    a_byte = frames / size if size else 1e-3
    return {name: float(count) if count else max(1.0, sizes[name] * a_byte) for name, count in told.items()}


def _told(recording: Recording) -> int | None:
    try:
        return recording.expected_frames()
    # a damaged recording of a package's layout: what is wrong is said when it is read
    except Exception:
        return None
