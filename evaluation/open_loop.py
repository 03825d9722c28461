"""Open-loop prediction judged: how long a model's future stays like the real one, beside futures that need no model.

The model sees the first C frames of a clip, then predicts the other H alone. Baselines: the last frame seen, repeated; the mean training
frame; the blend of both that is best for each frame ahead (its weights are fitted on training clips).
Shapes: B clips, T = C + H frames, C context, H horizon (pixel height and width are h and w), c colours.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from encoders.encoder import Predicts, to_float
from evaluation.quality import psnr, ssim_by_range
from foundation.errors import UserError

FROZEN_GREY_LEVELS = 0.5
"""A frame that differs by less from the one before, on average, is frozen; a clip is when most of its future is."""
_SHORT, _LONG = 10, 100


@dataclass(frozen=True)
class Clips:
    """Clips uint8 (B, T, h, w, c) of one rate, in frames a second, and the actions float32 (B, T, A) that led to each frame, or None."""

    frames: np.ndarray
    frames_per_second: float
    actions: np.ndarray | None = None


@dataclass(frozen=True)
class Settings:
    """`context` frames are seen; `samples` futures are drawn of each clip; `use_obs` names the levels that see, as in "TTF"."""

    context: int = 36
    samples: int = 1
    use_obs: str | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.use_obs is not None and set(self.use_obs) - {"T", "F"}:
            raise UserError(f"use_obs '{self.use_obs}': a T or an F for every level, the lowest first, as in TTF")

    @property
    def levels(self) -> list[bool] | None:
        """Tell which levels see the context; None: those that saw in training."""
        return None if self.use_obs is None else [letter == "T" for letter in self.use_obs]


def predict(model: Predicts, clips: Clips, settings: Settings, generator: torch.Generator) -> Iterator[Tensor]:
    """Yield `settings.samples` futures (B, H, c, h, w) in [0, 1] of clips, on the generator's device.

    Raises `UserError` where the settings do not fit the model.
    """
    device, horizon = generator.device, clips.frames.shape[1] - settings.context
    seen = to_float(torch.from_numpy(clips.frames[:, : settings.context]).to(device))
    actions = None if clips.actions is None else torch.from_numpy(clips.actions).to(device)
    try:
        for sample in model.open_loop(seen, settings.context, horizon, settings.samples, settings.levels, generator, actions):
            yield sample[:, settings.context :].clamp(0, 1)
    except ValueError as error:
        raise UserError(str(error)) from error


def check_settings(model: Any, settings: Settings, frame_shape: tuple[int, int, int]) -> None:
    """Raise `UserError` where the settings do not fit the model, before anything is predicted."""
    height, width, channels = frame_shape
    seen = torch.empty(1, settings.context, channels, height, width)
    try:
        model.open_loop(seen, settings.context, 1, settings.samples, settings.levels)
    except ValueError as error:
        raise UserError(str(error)) from error


def pairs(model: Predicts, clips: Iterable[Clips], settings: Settings, device: torch.device) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield what came and what the model predicts, each (B, H, c, h, w) in [0, 1]."""
    generator = torch.Generator(device).manual_seed(settings.seed)
    for some in clips:
        future = to_float(torch.from_numpy(some.frames[:, settings.context :]).to(device))
        yield future, next(predict(model, some, settings, generator))


class _Scores:
    """Squared error and similarity of one way to predict, by frame ahead, added up over clips."""

    def __init__(self, horizon: int) -> None:
        self.clips = 0
        self.error_H, self.psnr_H, self.ssim_H, self.wide_ssim_H = (np.zeros(horizon) for _ in range(4))

    def add(self, error_BH: np.ndarray, ssim_BH: np.ndarray, wide_ssim_BH: np.ndarray) -> None:
        self.clips += len(error_BH)
        self.error_H += error_BH.sum(0)
        self.psnr_H += (-10 * np.log10(error_BH.clip(1e-12))).sum(0)
        self.ssim_H += ssim_BH.sum(0)
        self.wide_ssim_H += wide_ssim_BH.sum(0)

    def report(self) -> dict[str, Any]:
        error_H, ssim_H = self.error_H / self.clips, self.ssim_H / self.clips
        parts = {name: slice(0, frames) for name, frames in _parts(len(error_H)).items()}
        return {
            "psnr_db": {name: psnr(float(error_H[part].mean())) for name, part in parts.items()},
            "ssim": {name: float(ssim_H[part].mean()) for name, part in parts.items()},
            "curves": {
                "psnr_db": [psnr(error) for error in error_H],
                "mean_of_psnr_db": (self.psnr_H / self.clips).tolist(),
                "ssim": ssim_H.tolist(),
                "ssim_data_range_2": (self.wide_ssim_H / self.clips).tolist(),
            },
        }


def fit_blend(clips: Iterable[Clips], context: int, mean_frame: np.ndarray, horizon: int | None = None) -> np.ndarray:
    """Return float64 (H): for each frame ahead the weight w of the last frame seen that makes w*last + (1-w)*mean best.

    Least squares over all pixels: w = <x - mean, last - mean> / |last - mean|^2, within [0, 1]. Beyond the clips, up to a `horizon` that
    is longer, the last weight stays.
    """
    products_H, squares = np.zeros(0), 0.0
    for some in clips:
        centred = some.frames[:, context - 1 :].astype(np.float32) / 255 - mean_frame
        last = centred[:, 0]
        found_H = np.einsum("bhwc,bthwc->t", last, centred[:, 1:], dtype=np.float64, optimize=True)
        products_H = found_H if not len(products_H) else products_H + found_H
        squares += float(np.square(last, dtype=np.float64).sum())
    if not len(products_H):
        raise UserError("no training clip is long enough to fit the blend of the last and the mean frame; predict fewer frames")
    weights_H = (products_H / max(squares, 1e-12)).clip(0, 1)
    return np.pad(weights_H, (0, max(0, (horizon or 0) - len(weights_H))), mode="edge")


@torch.no_grad()
def evaluate_open_loop(
    model: Predicts, clips: Iterable[Clips], settings: Settings, mean_frame: np.ndarray, blend: np.ndarray, device: torch.device
) -> dict[str, Any]:
    """Predict the future of clips and compare it with what came; return what `evaluation.json` holds under "open_loop".

    PSNR is of the squared error pooled over clips, for values in [0, 1]; SSIM for a data range of 1, beside that for 2, which older
    programs report. Frozen clips and every rate are groups of their own. With several samples there are rows for their mean, and for
    each clip's best by either measure. Raises `UserError` when there are no clips.
    """
    groups: dict[str, dict[str, _Scores]] = {}
    generator = torch.Generator(device).manual_seed(settings.seed)
    mean = to_float(torch.from_numpy(mean_frame[None, None] * 255)).to(device)
    for some in clips:
        x_BTchw = to_float(torch.from_numpy(some.frames[:, settings.context - 1 :]).to(device))
        last, future = x_BTchw[:, :1], x_BTchw[:, 1:]
        rows = _measured(_predictions(predict(model, some, settings, generator), last, future, mean, blend), future)
        for row, frozen in enumerate(is_frozen(some.frames[:, settings.context :])):
            group = groups.setdefault(f"{'frozen' if frozen else 'moving'} clips, {some.frames_per_second:g} frames/s", {})
            for name, measured in rows.items():
                group.setdefault(name, _Scores(future.shape[1])).add(*(values[row : row + 1] for values in measured))
    if not groups:
        raise UserError("no clip is long enough for open-loop prediction; predict fewer frames")
    return {
        "context": settings.context,
        "horizon": len(blend),
        "samples": settings.samples,
        "use_obs": settings.use_obs,
        "data_range": 1.0,
        "blend": blend.tolist(),
        "groups": {name: _group_report(group) for name, group in sorted(groups.items())},
    }


def is_frozen(frames: np.ndarray) -> np.ndarray:
    """Tell of clips uint8 (B, T, h, w, c) whether most of their frames differ by less than half a grey level from the one before."""
    changes = [np.abs(np.diff(clip.astype(np.int16), axis=0)).mean((1, 2, 3)) for clip in frames]
    return np.array([bool(len(change)) and np.mean(change < FROZEN_GREY_LEVELS) > 0.5 for change in changes])


def _group_report(group: dict[str, _Scores]) -> dict[str, Any]:
    return {"clips": next(iter(group.values())).clips, "rows": {name: scores.report() for name, scores in group.items()}}


def _predictions(samples: Iterable[Tensor], last: Tensor, future: Tensor, mean: Tensor, blend: np.ndarray) -> Iterator[tuple[str, Tensor]]:
    """Yield the ways to predict by name, each (B, H, c, h, w); the model's samples first."""
    total, count = torch.zeros_like(future), 0
    for sample in samples:
        total, count = total + sample, count + 1
        yield "model", sample
    if count > 1:
        yield "mean of the samples", total / count
    weights = torch.from_numpy(blend).to(future)[None, :, None, None, None]
    yield "repeat the last frame", last.expand_as(future)
    yield "mean frame", mean.expand_as(future)
    yield "best blend of both", weights * last + (1 - weights) * mean


Measured = tuple[np.ndarray, np.ndarray, np.ndarray]


def _measured(predictions: Iterator[tuple[str, Tensor]], future: Tensor) -> dict[str, Measured]:
    """Return squared error, SSIM and SSIM of data range 2, each (B, H), by row; samples become their mean and best."""
    rows: dict[str, list[Measured]] = {}
    for name, prediction in predictions:
        rows.setdefault(name, []).append(_compare(prediction, future))
    samples = rows["model"]
    found = {name: measured[0] for name, measured in rows.items()}
    if len(samples) > 1:
        stacked = [np.stack(values) for values in zip(*samples, strict=True)]
        best_psnr = (-np.log10(stacked[0].clip(1e-12))).mean(2).argmax(0)
        best_ssim = stacked[1].mean(2).argmax(0)
        found["model"] = tuple(values.mean(0) for values in stacked)
        for name, best in (("best sample by PSNR", best_psnr), ("best sample by SSIM", best_ssim)):
            found[name] = tuple(values[best, np.arange(len(best))] for values in stacked)
    return found


def _compare(prediction: Tensor, future: Tensor) -> Measured:
    measured: tuple[list[Tensor], list[Tensor], list[Tensor]] = ([], [], [])
    # a frame ahead at a time: SSIM's windows of whole clips would not fit into memory
    for ahead in range(future.shape[1]):
        x, y = future[:, ahead], prediction[:, ahead]
        error = (x - y).double().square().mean((1, 2, 3))
        for values, value in zip(measured, (error, *ssim_by_range(x, y, (1.0, 2.0))), strict=True):
            values.append(value)
    return tuple(torch.stack(values, 1).cpu().numpy() for values in measured)  # type: ignore[return-value]


def _parts(horizon: int) -> dict[str, int]:
    """Name how many frames ahead the figures are for."""
    return {f"first {frames}": frames for frames in (_SHORT, _LONG) if frames < horizon} | {"all": horizon}
