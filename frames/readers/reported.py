"""What is no recording and must not go unnoticed: the record of a video that is not there, an array of something else."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from frames.readers.recording import BadRecording, ExcludedRecording, Recording


@dataclass
class Reported(Recording):
    """Something that looks like a recording, or part of one, and gives no frames: it is left out and listed with its `reason`.

    Pictures beside it are no thumbnails of it. `fault` says that it is damaged, and does not just belong to another program.
    """

    reason: str = ""
    fault: bool = True

    def frames_per_second(self) -> float:
        raise self._refusal()

    def frames(self) -> Iterator[np.ndarray]:
        raise self._refusal()

    def _refusal(self) -> BadRecording:
        return BadRecording(self.reason) if self.fault else ExcludedRecording(self.reason)
