"""What heads say of held-out frames, drawn over them.

Shapes: N frames, C channels, H height, W width, K actions, A numbers of an action, M points.
"""

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import torch

from encoders.encoder import Batch, Encoder, GivesMasks
from encoders.heads.attached import heads_of
from encoders.heads.config import Column
from encoders.heads.networks import Actions, Value
from foundation.pictures import in_rows, picture_grid

_COLUMNS, _ROWS = 5, 3
_SIDE = 256
_LINE = 16
_BAR = 14
_PIXELS_A_DEGREE = 3.0
_PREDICTED, _TRUE = (0, 255, 255), (255, 255, 255)
_LABEL = "bar: value (right edge: true); arrows: camera of the next actions, predicted cyan, true white; dots: points; red: evidence"


@torch.no_grad()
def heads_picture(model: Encoder, batch: Batch) -> np.ndarray | None:
    """Return held-out clips (their middle frames) from low to high value, with what the heads say of them; None without heads to draw.

    What is drawn: a bar for the value, an arrow for the turn of the camera that the next actions add up to, the keys that they hold more
    often than not, the points, and the evidence in red.
    """
    heads = heads_of(model)
    if heads is None:
        return None
    middle = batch.frames.shape[1] // 2
    frames = batch.frames[:, middle]
    latents = model.some_readings(batch.frames, batch.actions, heads.readings)
    found = {name: head(latents[head.reading]) for name, head in heads.by_name.items() if isinstance(head, (Actions, Value))}
    shown: dict[str, Any] = {"points": _points(model, batch, middle), "mask": _masks(model, batch, middle)}
    order = np.arange(len(frames))
    if "value" in found:
        shown["value"] = found["value"].sigmoid()[:, middle].cpu().numpy()
        shown["true value"] = batch.targets["reward_to_come"][:, middle].cpu().numpy()
        order = np.argsort(shown["value"], kind="stable")
    if "actions" in found:
        shown["actions"] = found["actions"][:, middle].cpu().numpy()
        shown["true actions"] = batch.targets["next_actions"][:, middle].cpu().numpy()
    chosen = order[np.linspace(0, len(order) - 1, min(len(order), _COLUMNS * _ROWS)).round().astype(int)]
    acting = dict(heads.by_name.items()).get("actions")
    columns = acting.columns if isinstance(acting, Actions) else ()
    pictures = frames.movedim(1, -1).mul(255).round().byte().cpu().numpy()
    rows = {name: value for name, value in shown.items() if value is not None}
    drawn = [_drawn(pictures[row], {name: value[row] for name, value in rows.items()}, columns) for row in chosen]
    return picture_grid(in_rows(np.stack(drawn), _COLUMNS), [_LABEL])


def _points(model: Encoder, batch: Batch, middle: int) -> np.ndarray | None:
    """Return the points (N, 3, M): x, y and log-sum-exp."""
    if "points" not in model.latents:
        return None
    return model.encode_clip(batch.frames, batch.actions, "points")[:, middle].unflatten(1, (3, -1)).cpu().numpy()


def _masks(model: Encoder, batch: Batch, middle: int) -> np.ndarray | None:
    return model.masks(batch.frames)[:, middle].cpu().numpy() if isinstance(model, GivesMasks) else None


def _drawn(frame: np.ndarray, shown: dict[str, Any], columns: Sequence[Column]) -> np.ndarray:
    """Draw over one frame uint8 (H, W, 3), enlarged, with two lines of words below."""
    scale = max(1, _SIDE // frame.shape[1])
    canvas = np.ascontiguousarray(frame.repeat(scale, 0).repeat(scale, 1))
    if "mask" in shown:
        mask = cv2.resize(shown["mask"], (canvas.shape[1], canvas.shape[0]))[..., None]
        canvas = (canvas * (1 - 0.7 * mask) + np.array([255, 0, 0]) * 0.7 * mask).astype(np.uint8)
    if "points" in shown:
        _draw_points(canvas, shown["points"])
    words = ["", ""]
    if "actions" in shown:
        _draw_turn(canvas, shown["true actions"], [Column(one.name, one.kind) for one in columns], _TRUE)
        _draw_turn(canvas, shown["actions"], columns, _PREDICTED)
        words = [f"held: {_held(shown['actions'] > 0, columns)}", f"did: {_did(shown['true actions'], columns)}"]
    if "value" in shown:
        _draw_bar(canvas, shown["value"], shown["true value"])
        words[0] = f"{shown['value']:.2f} ({shown['true value']:.2f})  {words[0]}"
    below = np.full((2 * _LINE, canvas.shape[1], 3), 255, np.uint8)
    for line, text in enumerate(words):
        cv2.putText(below, text, (2, _LINE * (line + 1) - 5), cv2.FONT_HERSHEY_SIMPLEX, 0.36, (30, 30, 30), 1, cv2.LINE_AA)
    return np.concatenate([canvas, below])


def _draw_points(canvas: np.ndarray, points_3M: np.ndarray) -> None:
    """Draw a dot a point, the larger the more of its map's mass there is beside the others'."""
    height, width = canvas.shape[:2]
    x, y, mass = points_3M
    spread = (mass - mass.min()) / max(float(np.ptp(mass)), 1e-6)
    for number, (across, down, share) in enumerate(zip(x, y, spread, strict=True)):
        # -1 is the middle of the first of 8 cells
        at = (int(width * (0.5 + 0.4375 * across)), int(height * (0.5 + 0.4375 * down)))
        hue = np.array([[[180 * number // len(x), 255, 255]]], np.uint8)
        colour = cv2.cvtColor(hue, cv2.COLOR_HSV2RGB)[0, 0].tolist()
        cv2.circle(canvas, at, int(3 + 4 * share), colour, -1, cv2.LINE_AA)
        cv2.circle(canvas, at, int(3 + 4 * share), (0, 0, 0), 1, cv2.LINE_AA)


def _draw_turn(canvas: np.ndarray, actions_KA: np.ndarray, columns: Sequence[Column], colour: tuple[int, int, int]) -> None:
    """Draw the sum of the camera's turns, pitch down and yaw to the right, in degrees."""
    turn = [float(np.nansum(actions_KA[:, place]) * columns[place].scale) for place in _camera(columns)]
    if len(turn) != 2 or not np.isfinite(turn).all():
        return
    height, width = canvas.shape[:2]
    down, across = (np.clip(_PIXELS_A_DEGREE * degrees, -size / 2, size / 2) for degrees, size in zip(turn, (height, width), strict=True))
    middle = (width // 2, height // 2)
    cv2.arrowedLine(canvas, middle, (int(middle[0] + across), int(middle[1] + down)), colour, 2, cv2.LINE_AA, tipLength=0.2)


def _draw_bar(canvas: np.ndarray, value: float, true: float) -> None:
    """Draw the value as a bar at the right, from the bottom up, and the true one as a thin one beside it."""
    height, width = canvas.shape[:2]
    canvas[:, width - _BAR :] = canvas[:, width - _BAR :] // 3
    for number, left, right, colour in ((value, _BAR, 4, (255, 220, 0)), (true, 4, 0, (0, 255, 0))):
        if np.isfinite(number):
            canvas[round(height * (1 - float(number))) :, width - left : width - right or None] = colour


def _camera(columns: Sequence[Column]) -> list[int]:
    return [place for place, column in enumerate(columns) if column.kind == "number" and ".camera" in column.name]


def _held(held_KA: np.ndarray, columns: Sequence[Column]) -> str:
    """Name the keys that are held in more than half of the actions."""
    return " ".join(
        column.name.rpartition(".")[2] for place, column in enumerate(columns) if column.kind == "key" and held_KA[:, place].mean() > 0.5
    )


def _did(actions_KA: np.ndarray, columns: Sequence[Column]) -> str:
    known = actions_KA[~np.isnan(actions_KA).any(1)]
    return _held(known > 0.5, columns) if len(known) else "not known"
