"""What a likelihood of discrete values is compared with: the histogram of the training frames' values, channel by channel."""

from collections.abc import Iterable, Iterator

import numpy as np


class Histogram:
    """Counts of the values of every channel of uint8 frames, made coarser to `bits` first."""

    def __init__(self, channels: int, bits: int = 8) -> None:
        self.bits = bits
        self.counts = np.zeros((channels, 2**bits), np.int64)

    def add(self, frames: np.ndarray) -> None:
        """Count frames uint8 (..., C)."""
        for channel, counts in enumerate(self.counts):
            counts += np.bincount(frames[..., channel].ravel() >> (8 - self.bits), minlength=len(counts))

    def counting(self, chunks: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """Pass chunks of frames on, and count them."""
        for chunk in chunks:
            self.add(chunk)
            yield chunk

    def bits_per_dim(self, seen: "Histogram") -> float:
        """Return the bits a pixel and channel that coding what `seen` counted takes with this histogram, Laplace-smoothed."""
        smoothed = self.counts + 1
        log_probabilities = np.log2(smoothed / smoothed.sum(1, keepdims=True))
        return float(-(seen.counts * log_probabilities).sum() / seen.counts.sum())
