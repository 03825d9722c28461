"""An encoder judged on a split of a store: pictures' quality beside the mean training frame's, KL, active units, a verdict.

Shapes: B batch, T frames of a clip, N = B*T, C channels, H height, W width.
"""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from encoders.artifact import EncoderArtifact
from encoders.encoder import Encoder
from encoders.training.validation import collapse_verdict, is_collapsed, to_batch, validate
from evaluation.histogram import Histogram
from evaluation.quality import psnr, ssim
from foundation.errors import UserError


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


def mean_frame(chunks: Iterable[np.ndarray]) -> np.ndarray:
    """Return the mean, float32 (H, W, C) in [0, 1], of chunks of uint8 frames (N, H, W, C)."""
    sums, count = [], 0
    for chunk in chunks:
        sums.append(chunk.sum(0, dtype=np.int64))
        count += len(chunk)
    if not count:
        raise UserError("there are no training frames to take the mean of; name a store that has a train split")
    return (np.sum(sums, 0) / count / 255).astype(np.float32)


def evaluate(
    artifact: EncoderArtifact, batches: Iterable[Any], baseline: np.ndarray, device: torch.device, histogram: Histogram | None = None
) -> dict[str, Any]:
    """Judge an encoder on finite batches of frames, beside predicting `baseline` (H, W, C), the mean training frame, for all of them.

    Returns what `evaluation.json` holds: PSNR (dB, squared error pooled over all frames), SSIM, the loss's terms and the KL of every
    unit in nats, active units, and a verdict in words; with a `histogram` of the training frames, bits per dimension by it beside those
    of the model's ELBO, on the same frames. Raises `UserError` when there is nothing to judge it on.
    """
    model = artifact.model.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    measured = _Measured(model, batches, baseline, device, histogram)
    found = validate(model, measured, artifact.info.steps, device)
    quality, baseline_quality = measured.reconstructed.metrics(), measured.baseline.metrics()
    gain = quality["psnr_db"] - baseline_quality["psnr_db"]
    coded = None if histogram is None else _coded(found.terms["bits_per_dim"], histogram.bits_per_dim(measured.histogram))
    return {
        "frames": measured.reconstructed.frames,
        "reconstruction": quality,
        "mean_training_frame": baseline_quality,
        "gain_db": gain,
        **({} if coded is None else {"bits_per_dim": coded}),
        "terms": found.terms,
        "kl_nats": {name: one.kl for name, one in found.activity.items()},
        "active_units": {name: one.active for name, one in found.activity.items()},
        "units": {name: one.units for name, one in found.activity.items()},
        "kl_per_unit": {name: [round(float(value), 5) for value in kl.ravel()] for name, kl in found.kl_per_unit.items()},
        "collapsed": is_collapsed(model, found.activity),
        "verdict": f"{collapse_verdict(model, found.activity)}\n{_judged(model, quality, gain)}",
    }


class _Measured:
    """Pass batches on to validation, and measure the reconstructions on the way: the store is read once."""

    def __init__(
        self, model: Encoder, batches: Iterable[Any], baseline: np.ndarray, device: torch.device, histogram: Histogram | None
    ) -> None:
        self.model, self.batches, self.device = model, batches, device
        self.is_coded = histogram is not None
        self.histogram = Histogram(model.frame_shape[2], histogram.bits if histogram else 8)
        self.mean_frame_1CHW = torch.from_numpy(baseline).movedim(-1, 0)[None].to(device)
        self.reconstructed, self.baseline = _Quality(), _Quality()

    def __iter__(self) -> Iterator[Any]:
        for batch in self.batches:
            seen = to_batch(batch, self.device)
            x_NCHW = seen.frames.flatten(0, 1)
            self.reconstructed.add(x_NCHW, self.model.reconstruct(seen.frames, seen.actions).flatten(0, 1))
            self.baseline.add(x_NCHW, self.mean_frame_1CHW.expand_as(x_NCHW))
            if self.is_coded:
                self.histogram.add(np.asarray(batch.frames))
            yield batch
        if not self.reconstructed.frames:
            raise UserError("there are no frames in this split; name another with --split")


def _coded(elbo: float, histogram: float) -> dict[str, float]:
    return {"elbo": elbo, "histogram_of_training_frames": histogram}


def _judged(model: Encoder, quality: dict[str, float], gain: float) -> str:
    if gain < 1:
        return f"It reconstructs no better than the mean training frame, or hardly so ({gain:+.1f} dB): {model.collapse_remedy}."
    measured = f"{quality['psnr_db']:.2f} dB, {gain:.1f} dB above the mean training frame's, and SSIM {quality['ssim']:.3f}"
    return f"Its reconstructions have {measured}."
