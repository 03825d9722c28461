"""Pictures of masks: over their frames, swapped between frames of high and low value, and a film beside the truth.

Shapes: M frames, P pairs of frames, H height, W width, C channels.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from encoders.encoder import Encoder, GivesMasks, GivesValue, to_float
from encoders.training.pictures import to_uint8
from evaluation.masked import Masked
from foundation.pictures import captioned, in_rows, overlaid, picture_grid

_COLUMNS = 10
_SCALE = 2
_TILE = 192
_PAIRS, _SHOWN_PAIRS = 64, 8
_RIGHT, _WRONG, _MISSED = (60, 200, 80), (255, 60, 60), (90, 130, 255)


def shown_times(masks: np.ndarray) -> float:
    """Return how many times brighter masks (M, H, W) have to be shown to be seen: once where they come near 1."""
    return float(1 / np.clip(np.quantile(masks, 0.999), 0.02, 1))


def contact_sheet(frames: np.ndarray, masks: np.ndarray, value: np.ndarray | None) -> np.ndarray:
    """Return a picture of frames uint8 (M, H, W, 3), each over itself with its mask (M, H, W) in red; rows by rising value if known."""
    times = shown_times(masks)
    red = "masks in red" + _times(times)
    if value is not None:
        order = np.argsort(value, kind="stable")
        frames, masks, value = frames[order], masks[order], value[order]
    rows, labels = [], []
    above = in_rows(frames, _COLUMNS)
    for number, (plain, marked) in enumerate(zip(above, in_rows(overlaid(frames, masks * times), _COLUMNS), strict=True)):
        rows += [plain, marked]
        of_row = None if value is None else value[number * _COLUMNS : number * _COLUMNS + len(plain)]
        values = "" if of_row is None else f"; values {', '.join(f'{one:.2f}' for one in of_row)}"
        labels += [f"frames, and their {red}{values}", ""]
    return picture_grid(rows, labels, _SCALE)


@torch.no_grad()
def swaps(
    model: Encoder, giver: GivesValue, frames: np.ndarray, value: np.ndarray, device: torch.device
) -> tuple[np.ndarray, dict[str, float]]:
    """Swap what masks mark between frames of high value, A, and of low value, B; return a picture and the mean values.

    With Z the mask of A, `replaced` is A(1 - Z) + Z B, which should be worth what B is, and `injected` B(1 - Z) + Z A, worth what A is.
    """
    assert isinstance(model, GivesMasks)
    random, tenth = np.random.default_rng(0), max(1, len(frames) // 10)
    order = np.argsort(value, kind="stable")
    count = min(_PAIRS, tenth)
    chosen = [random.choice(part, count, replace=False) for part in (order[-tenth:], order[:tenth])]
    a, b = (to_float(torch.from_numpy(frames[rows]).to(device))[:, None] for rows in chosen)
    mask = model.masks(a)[:, :, None]
    pictures = {"A": a, "B": b, "replaced": a * (1 - mask) + mask * b, "injected": b * (1 - mask) + mask * a}
    values = {name: giver.value(picture).flatten().cpu() for name, picture in pictures.items()}
    times = shown_times(mask.cpu().numpy())
    shown = [to_uint8(picture[:, 0]) for picture in (*pictures.values(), mask.expand(-1, -1, 3, -1, -1) * times)]
    rows = [np.stack([picture[pair] for picture in shown]) for pair in range(min(count, _SHOWN_PAIRS))]
    said = [", ".join(f"{name} {float(of[pair]):.2f}" for name, of in values.items()) for pair in range(len(rows))]
    labels = [f"value: {one}; mask of A{_times(times)}" for one in said]
    return picture_grid(rows, labels, _SCALE), {name.lower(): float(of.mean()) for name, of in values.items()}


def film(frames: np.ndarray, found: Masked, truth: np.ndarray | None, threshold: float) -> Iterator[np.ndarray]:
    """Yield a grid for each frame uint8 (M, H, W, 3): itself, the truth bool (M, H, W), mask, saliency, right or wrong."""
    scale, times = max(1, _TILE // frames.shape[1]), shown_times(found.masks)
    for index, frame in enumerate(frames):
        mask = found.masks[index]
        tiles: dict[str, Any] = {"frame": frame}
        if truth is not None:
            tiles["truth"] = _grey(truth[index])
        tiles |= {f"mask{_times(times)}": _grey(mask * times), f"mask of {threshold:g} or more": _grey(mask >= threshold)}
        if found.saliency is not None and found.value is not None:
            tiles["saliency"] = _grey(found.saliency[index] / max(float(found.value[index]), 1e-6))
        if truth is None:
            tiles["mask over the frame"] = overlaid(frame[None], mask[None] * times)[0]
        else:
            tiles["right/wrong/missed: G/R/B"] = told(frame, mask >= threshold, truth[index])
        value = "" if found.value is None else f", value {found.value[index]:.2f}"
        captions = [f"{name}{value}" if name == "frame" else name for name in tiles]
        yield captioned(list(tiles.values()), captions, 3, scale)


def told(frame: np.ndarray, marked: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Colour a frame uint8 (H, W, 3) by what a mask bool (H, W) marks rightly, wrongly and misses."""
    picture = np.repeat((frame.mean(-1, keepdims=True) * 0.5).astype(np.uint8), 3, -1)
    for where, colour in ((marked & truth, _RIGHT), (marked & ~truth, _WRONG), (~marked & truth, _MISSED)):
        picture[where] = (picture[where] * 0.4 + np.array(colour) * 0.6).astype(np.uint8)
    return picture


def _times(times: float) -> str:
    return f", {times:.0f} times as bright" if times >= 1.5 else ""


def _grey(mask: np.ndarray) -> np.ndarray:
    return np.repeat((np.clip(mask, 0, 1) * 255).astype(np.uint8)[..., None], 3, -1)
