"""What is no recording and must not go unnoticed: the record of a video that is not there."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from frames.readers.recording import BadRecording, Recording


@dataclass
class Reported(Recording):
    """Something that looks like part of a recording and gives no frames: it is left out and listed with its `reason`."""

    reason: str = ""

    def frames_per_second(self) -> float:
        raise BadRecording(self.reason)

    def frames(self) -> Iterator[np.ndarray]:
        raise BadRecording(self.reason)
