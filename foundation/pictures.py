"""Pictures a person looks at: labelled grids of frames as PNG."""

import io
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from foundation.files import write_atomically

_GAP = 2
_TEXT_HEIGHT = 18
_BACKGROUND = 255


class Thinned:
    """Keeps the pictures of an episode; of a long one every second, fourth, ... as it grows, so that any fits in memory."""

    def __init__(self, most: int = 512) -> None:
        self.pictures: list[np.ndarray] = []
        self.every = 1
        """One picture of so many is kept."""
        self._most, self._seen = 2 * (most // 2), 0

    def add(self, picture: np.ndarray) -> None:
        """Take the next picture, and keep a copy of it where it is its turn."""
        if self._seen % self.every == 0:
            if len(self.pictures) == self._most:
                self.pictures, self.every = self.pictures[::2], 2 * self.every
            self.pictures.append(np.array(picture))
        self._seen += 1


def picture_grid(rows: Sequence[np.ndarray], labels: Sequence[str] = (), scale: int = 1) -> np.ndarray:
    """Lay rows of frames, each uint8 (N, H, W, 3), under one another; return one uint8 (H, W, 3) picture.

    `labels` names each row (in a line above it); `scale` enlarges every pixel.
    """
    strips = []
    for index, row in enumerate(rows):
        row = row.repeat(scale, axis=1).repeat(scale, axis=2)
        padded = np.pad(row, ((0, 0), (_GAP, _GAP), (_GAP, _GAP), (0, 0)), constant_values=_BACKGROUND)
        strip = np.concatenate(list(padded), axis=1)
        if index < len(labels) and labels[index]:
            strip = np.concatenate([_text_line(labels[index], strip.shape[1]), strip])
        strips.append(strip)
    width = max(strip.shape[1] for strip in strips)
    widened = [np.pad(s, ((0, 0), (0, width - s.shape[1]), (0, 0)), constant_values=_BACKGROUND) for s in strips]
    return np.concatenate(widened)


def in_rows(frames: np.ndarray, columns: int) -> list[np.ndarray]:
    """Split frames (N, H, W, 3) into rows of at most `columns`."""
    return [frames[start : start + columns] for start in range(0, len(frames), columns)]


def overlaid(frames: np.ndarray, masks: np.ndarray, colour: tuple[int, int, int] = (255, 0, 0)) -> np.ndarray:
    """Colour frames uint8 (N, H, W, 3) by masks (N, H, W) in [0, 1], the frames in grey beneath; return uint8."""
    grey = frames.mean(-1, keepdims=True) * 0.7 + 40
    shown = np.clip(masks, 0, 1)[..., None] * 0.75
    return (grey * (1 - shown) + np.array(colour) * shown).astype(np.uint8)


def captioned(pictures: Sequence[np.ndarray], captions: Sequence[str], columns: int, scale: int = 1) -> np.ndarray:
    """Lay pictures uint8 (H, W, 3) out in rows of `columns`, each with its caption above it; return one uint8 (H, W, 3) picture."""
    tiles = [picture_grid([picture[None]], [caption], scale) for picture, caption in zip(pictures, captions, strict=True)]
    rows = [np.concatenate(tiles[start : start + columns], 1) for start in range(0, len(tiles), columns)]
    width = max(row.shape[1] for row in rows)
    return np.concatenate([np.pad(row, ((0, 0), (0, width - row.shape[1]), (0, 0)), constant_values=_BACKGROUND) for row in rows])


def write_png(path: str | Path, picture: np.ndarray) -> None:
    """Write a uint8 RGB picture (H, W, 3) to `path` in one step."""
    _, encoded = cv2.imencode(".png", np.ascontiguousarray(picture[..., ::-1]))
    write_atomically(path, encoded.tobytes())


def write_gif(path: str | Path, frames: np.ndarray, frames_per_second: float) -> None:
    """Write uint8 RGB frames (N, H, W, 3) to `path` as an endless film, in one step. A GIF counts in hundredths of a second."""
    # OpenCV's GIF has one coarse palette for all frames; Pillow finds each its own 256 colours
    from PIL import Image

    pictures = [Image.fromarray(np.ascontiguousarray(frame)).quantize(256) for frame in frames]
    content = io.BytesIO()
    duration = max(20, 10 * round(100 / frames_per_second))
    pictures[0].save(content, "GIF", save_all=True, append_images=pictures[1:], duration=duration, loop=0, optimize=False)
    write_atomically(path, content.getvalue())


def _text_line(text: str, width: int) -> np.ndarray:
    line = np.full((_TEXT_HEIGHT, width, 3), _BACKGROUND, np.uint8)
    cv2.putText(line, text, (_GAP + 2, _TEXT_HEIGHT - 5), cv2.FONT_HERSHEY_SIMPLEX, 0.42, (30, 30, 30), 1, cv2.LINE_AA)
    return line
