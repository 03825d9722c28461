"""All that is said of a model's open-loop predictions: scores beside baselines, curves, strips, films.

Shapes: B clips, T frames of a clip (height and width are h and w), c colours.
"""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from encoders.encoder import to_float
from evaluation.open_loop import Clips, Predictor, Settings, evaluate_open_loop, fit_blend, predict
from evaluation.open_loop_pictures import write_curves, write_predictions
from evaluation.perceptual import perceptual_distances

_PICTURED = 4


def judge_predictions(
    folder: Path,
    model: Predictor,
    training: Iterable[Clips],
    held_out: Callable[[], Iterable[Clips]],
    settings: Settings,
    mean_frame: np.ndarray,
    device: torch.device,
    weights: Path | None = None,
) -> tuple[dict[str, Any], list[Path]]:
    """Judge predictions on held-out clips; return what `evaluation.json` holds under "open_loop", and the pictures written to `folder`.

    `training` gives clips of the same length that the blend of the baselines is fitted on, `held_out` those to judge, anew at each
    call; `weights` is a folder for LPIPS and FVD. Raises `UserError` when there are no clips.
    """
    blend = fit_blend(training, settings.context, mean_frame)
    report = evaluate_open_loop(model, held_out(), settings, mean_frame, blend, device)
    if weights is not None:
        report["perceptual"] = perceptual_distances(weights, _pairs(model, held_out(), settings, device), device)
    write_curves(folder / "open_loop_curves.png", report)
    pictures = [folder / "open_loop_curves.png"]
    for number, some in enumerate(_spread(held_out, sum(group["clips"] for group in report["groups"].values()))):
        pictures += write_predictions(folder, f"open_loop_{number}", model, some, settings, device)
    return report, pictures


def _pairs(model: Predictor, clips: Iterable[Clips], settings: Settings, device: torch.device) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield what came and what the model predicts."""
    generator = torch.Generator(device).manual_seed(settings.seed)
    for some in clips:
        future = to_float(torch.from_numpy(some.frames[:, settings.context :]).to(device))
        yield future, next(predict(model, some, settings, generator))


def _spread(held_out: Callable[[], Iterable[Clips]], count: int) -> Iterator[Clips]:
    """Yield single clips at equal distances."""
    wanted = set(np.linspace(0, count - 1, min(_PICTURED, count)).round().astype(int).tolist())
    number = 0
    for some in held_out():
        for row, clip in enumerate(some.frames):
            if number in wanted:
                yield Clips(clip[None], some.frames_per_second, None if some.actions is None else some.actions[row : row + 1])
            number += 1
