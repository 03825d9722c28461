"""What a person looks at of open-loop predictions: strips of every frame, films, and the curves of their quality.

Shapes: B clips, T frames of a clip, C context, H horizon (height and width are h and w), c colours.
"""

import io
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from encoders.encoder import Predicts
from encoders.training.pictures import to_uint8
from evaluation.open_loop import Clips, Settings, predict
from foundation.errors import figure_label
from foundation.files import write_atomically
from foundation.pictures import in_rows, picture_grid, write_gif, write_png

_COLUMNS = 20
_FILM_SCALE, _SCALED_FRAMES = 3, 1500
"""How much films are enlarged: longer ones less, so that one of 1,000 frames stays a few MB."""
_PICTURED = 4
_KINDS = ("target", "prediction", "error")


def write_spread(folder: Path, model: Predicts, clips: Iterable[Clips], count: int, settings: Settings, device: torch.device) -> list[Path]:
    """Write strips and films of a few of `count` clips, at equal distances; return their paths."""
    written: list[Path] = []
    for number, clip in enumerate(_spread(clips, count)):
        written += write_predictions(folder, f"open_loop_{number}", model, clip, settings, device)
    return written


@torch.no_grad()
def write_predictions(folder: Path, name: str, model: Predicts, clip: Clips, settings: Settings, device: torch.device) -> list[Path]:
    """Write a strip (PNG) and a film (GIF) of one clip (1, T, h, w, c), target, prediction and error; return their paths.

    The strip has every predicted frame; the film begins with the context, on both sides alike. The error is the absolute difference.
    """
    generator = torch.Generator(device).manual_seed(settings.seed)
    context, target = clip.frames[0, : settings.context], clip.frames[0, settings.context :]
    prediction = to_uint8(next(predict(model, clip, settings, generator))[0])
    error = np.abs(target.astype(np.int16) - prediction).astype(np.uint8)
    write_png(folder / f"{name}.png", _strips(target, prediction, error, settings.context))
    sides = [np.concatenate([context, target]), np.concatenate([context, prediction]), np.concatenate([context * 0, error])]
    scale = max(1, min(_FILM_SCALE, _SCALED_FRAMES // len(clip.frames[0])))
    film = np.concatenate(sides, axis=2).repeat(scale, axis=1).repeat(scale, axis=2)
    write_gif(folder / f"{name}.gif", film, clip.frames_per_second)
    return [folder / f"{name}.png", folder / f"{name}.gif"]


def write_curves(path: Path, report: dict[str, Any]) -> Path:
    """Draw PSNR and SSIM by frame ahead, a row of plots a group, the baselines beside the model; return `path`."""
    from matplotlib.figure import Figure

    groups = report["groups"]
    figure = Figure(figsize=(11, 3.6 * len(groups)), layout="constrained")
    for axes, (name, group) in zip(figure.subplots(len(groups), 2, squeeze=False), groups.items(), strict=True):
        for axis, measure, label in zip(axes, ("psnr_db", "ssim"), ("PSNR (dB, pooled, data range 1)", "SSIM (data range 1)"), strict=True):
            for row, scores in group["rows"].items():
                curve = scores["curves"][measure]
                axis.plot(range(1, len(curve) + 1), curve, label=figure_label(row), linewidth=2 if row == "model" else 1)
            ahead = f"frames ahead, after {report['context']} frames seen"
            axis.set(xlabel=ahead, ylabel=label, title=f"{figure_label(name)} ({group['clips']} clips)")
            axis.grid(alpha=0.3)
    # beside the curves: inside, it would hide some
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=4, fontsize=9)
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=110)
    write_atomically(path, content.getvalue())
    return path


def _spread(clips: Iterable[Clips], count: int) -> Iterator[Clips]:
    """Yield single clips at equal distances."""
    wanted = set(np.linspace(0, count - 1, min(_PICTURED, count)).round().astype(int).tolist())
    number = 0
    for some in clips:
        for row, clip in enumerate(some.frames):
            if number in wanted:
                yield Clips(clip[None], some.frames_per_second, None if some.actions is None else some.actions[row : row + 1])
            number += 1


def _strips(target: np.ndarray, prediction: np.ndarray, error: np.ndarray, context: int) -> np.ndarray:
    rows, labels = [], []
    for part, kind_rows in enumerate(zip(*(in_rows(frames, _COLUMNS) for frames in (target, prediction, error)), strict=True)):
        first = context + part * _COLUMNS
        rows += kind_rows
        labels += [f"{kind}, frames {first + 1} to {first + len(row)}" for kind, row in zip(_KINDS, kind_rows, strict=True)]
    return picture_grid(rows, labels)
