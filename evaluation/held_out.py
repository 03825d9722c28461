"""One pass over held-out frames: pictures' quality beside the mean training frame's, the loss's terms, the KL of every unit.

Shapes: B batch, T frames of a clip, N = B*T, C channels, H height, W width.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from encoders.artifact import EncoderArtifact
from encoders.encoder import Generates
from encoders.training.validation import Validation, to_batch, validate
from evaluation.histogram import Histogram
from evaluation.quality import psnr, ssim
from foundation.errors import UserError


@dataclass(frozen=True)
class TrainingFrames:
    """What held-out frames are compared with: the mean of the training frames, float32 (H, W, C) in [0, 1], and what values they have."""

    mean: np.ndarray
    histogram: Histogram | None = None
    """For models whose likelihood is one of discrete values."""


@dataclass(frozen=True)
class HeldOut:
    """What was measured of reconstructions, and of the mean training frame in their place."""

    frames: int
    reconstruction: dict[str, float]
    """PSNR in dB, of the squared error pooled over all frames; that error; SSIM."""
    mean_training_frame: dict[str, float]
    histogram_bits_per_dim: float | None
    """What coding the same frames takes with the histogram of the training frames; None for other likelihoods."""
    validation: Validation

    @property
    def gain_db(self) -> float:
        return self.reconstruction["psnr_db"] - self.mean_training_frame["psnr_db"]

    @property
    def kl_per_unit(self) -> dict[str, list[float]]:
        """The KL of every unit in nats, by reading, rounded as it is reported."""
        return {name: [round(float(value), 5) for value in kl.ravel()] for name, kl in self.validation.kl_per_unit.items()}


def mean_frame(chunks: Iterable[np.ndarray]) -> np.ndarray:
    """Return the mean, float32 (H, W, C) in [0, 1], of chunks of uint8 frames (N, H, W, C)."""
    sums, count = [], 0
    for chunk in chunks:
        sums.append(chunk.sum(0, dtype=np.int64))
        count += len(chunk)
    if not count:
        raise UserError("there are no training frames to take the mean of; name a store that has a train split")
    return (np.sum(sums, 0) / count / 255).astype(np.float32)


def measure(artifact: EncoderArtifact, batches: Iterable[Any], training: TrainingFrames, device: torch.device) -> HeldOut:
    """Measure a model that generates, on `device`, on finite batches; raise `UserError` when there are none."""
    measured = _Measured(artifact.model, batches, training, device)
    found = validate(artifact.model, measured, artifact.info.steps, device)
    bits = None if measured.seen is None or training.histogram is None else training.histogram.bits_per_dim(measured.seen)
    return HeldOut(measured.reconstructed.frames, measured.reconstructed.metrics(), measured.baseline.metrics(), bits, found)


class _Quality:
    """Squared error and SSIM of predictions, summed over frames."""

    def __init__(self) -> None:
        self.squared_error, self.similarity, self.frames = 0.0, 0.0, 0

    def add(self, x_NCHW: Tensor, prediction_NCHW: Tensor) -> None:
        self.squared_error += float((x_NCHW - prediction_NCHW).double().square().mean((1, 2, 3)).sum())
        self.similarity += float(ssim(x_NCHW, prediction_NCHW).sum())
        self.frames += len(x_NCHW)

    def metrics(self) -> dict[str, float]:
        error = self.squared_error / self.frames
        return {"psnr_db": psnr(error), "mean_squared_error": error, "ssim": self.similarity / self.frames}


class _Measured:
    """Pass batches on to validation, and measure the reconstructions on the way: the store is read once."""

    def __init__(self, model: Any, batches: Iterable[Any], training: TrainingFrames, device: torch.device) -> None:
        assert isinstance(model, Generates)
        self.model, self.batches, self.device = model, batches, device
        histogram = training.histogram
        self.seen = None if histogram is None else Histogram(len(histogram.counts), histogram.bits)
        self.mean_frame_1CHW = torch.from_numpy(training.mean).movedim(-1, 0)[None].to(device)
        self.reconstructed, self.baseline = _Quality(), _Quality()

    def __iter__(self) -> Iterator[Any]:
        for batch in self.batches:
            seen = to_batch(batch, self.device)
            x_NCHW = seen.frames.flatten(0, 1)
            self.reconstructed.add(x_NCHW, self.model.reconstruct(seen.frames, seen.actions).flatten(0, 1))
            self.baseline.add(x_NCHW, self.mean_frame_1CHW.expand_as(x_NCHW))
            if self.seen is not None:
                self.seen.add(np.asarray(batch.frames))
            yield batch
        if not self.reconstructed.frames:
            raise UserError("there are no frames in this split; name another with --split")
