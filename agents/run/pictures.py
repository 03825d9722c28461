"""What an agent saw in one episode, beside what its encoder makes of it: a strip (PNG) and a small film (animated WebP)."""

import io
from pathlib import Path

import numpy as np

from foundation.files import write_atomically
from foundation.pictures import in_rows, picture_grid, write_png
from wrappers import PictureEncoder

STRIP, FILM = "episode.png", "episode.webp"

_PICTURES_A_STRIP = 10
_PICTURES_A_FILM = 125
_FASTER = 4
"""An episode is played at this multiple of the game's speed."""
_SIDE = 128
_QUALITY = 68
_CHUNK = 32


def write_episode(folder: Path, pictures: list[np.ndarray], frames_per_second: float, frozen: PictureEncoder | None) -> None:
    """Write `episode.png` and `episode.webp` of an episode's pictures, uint8 (H, W, 3), so many to a second of the game.

    Where there is an encoder, its reconstructions stand below (strip) or on the right (film).
    """
    chosen = np.linspace(0, len(pictures) - 1, min(_PICTURES_A_STRIP, len(pictures))).round().astype(int)
    rows = _with_reconstructions(np.stack([pictures[index] for index in chosen]), frozen)
    write_png(folder / STRIP, picture_grid([part for row in rows for part in in_rows(row, _PICTURES_A_STRIP)], scale=2))
    step = -(-len(pictures) // _PICTURES_A_FILM)
    columns = _with_reconstructions(np.stack(pictures[::step]), frozen)
    seconds = step / frames_per_second / _FASTER
    write_atomically(folder / FILM, _film(np.concatenate(columns, axis=2), seconds))


def _with_reconstructions(frames: np.ndarray, frozen: PictureEncoder | None) -> list[np.ndarray]:
    if frozen is None or not frozen.generates:
        return [frames]
    return [frames, np.concatenate([frozen.reconstruct(frames[start : start + _CHUNK]) for start in range(0, len(frames), _CHUNK)])]


def _film(frames: np.ndarray, seconds: float) -> bytes:
    """Encode uint8 (N, H, W, 3), each shown for `seconds`, as an endless WebP; small pictures are enlarged."""
    from PIL import Image

    scale = max(1, _SIDE // frames.shape[1])
    large = frames.repeat(scale, axis=1).repeat(scale, axis=2)
    pictures = [Image.fromarray(np.ascontiguousarray(frame)) for frame in large]
    content = io.BytesIO()
    duration = max(20, round(1000 * seconds))
    pictures[0].save(content, "WEBP", save_all=True, append_images=pictures[1:], duration=duration, loop=0, quality=_QUALITY, method=4)
    return content.getvalue()
