"""Tetrominoes: three pieces of four cells on black, drawn as the Multi-Object Datasets' pictures are, pixel by pixel.

Shapes: N scenes, P pieces, 4 cells of a piece, 5x5 pixels of a cell.
"""

import numpy as np

from frames.scenes.factors import Factor
from frames.scenes.scene import SHOWN, SceneKind, Scenes

SIZE, CELL, PIECES = 35, 5, 3
BEVEL = np.array(
    [
        [191, 255, 255, 255, 223],
        [127, 159, 159, 159, 191],
        [127, 159, 159, 159, 191],
        [127, 159, 159, 159, 191],
        [95, 63, 63, 63, 127],
    ],
    np.uint8,
)
"""The brightness of a cell's pixels, lit from the top."""
COLOURS = np.array([(1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 0), (1, 0, 1), (0, 1, 1)], np.uint8)
_CELLS = (
    # I
    "00 10 20 30",
    "00 01 02 03",
    # O
    "00 01 10 11",
    # L and J
    "00 10 20 21",
    "00 01 02 10",
    "00 01 11 21",
    "02 10 11 12",
    "00 10 11 12",
    "00 01 10 20",
    "00 01 02 12",
    "01 11 20 21",
    # S and Z
    "01 02 10 11",
    "00 10 11 21",
    "00 01 11 12",
    "01 10 11 20",
    # T
    "00 01 02 11",
    "00 10 11 20",
    "01 10 11 21",
    "01 10 11 12",
)
SHAPES = np.array([[(int(cell[0]), int(cell[1])) for cell in cells.split()] for cells in _CELLS])
"""The cells of every shape in every orientation as (row, column), int (19, 4, 2)."""
_EXTENTS = CELL * (SHAPES.max(1) + 1)

FACTORS = (
    Factor("x", (0,)),
    Factor("y", (1,)),
    Factor("shape", (2,), is_class=True),
    Factor("color", (3, 4, 5), is_class=True),
    Factor("visibility", (6,), is_class=True),
)
"""x and y are the column and the row of a piece's upper left corner in pixels, the shape is its place in `SHAPES`, a colour three times
0 or 1."""


def random_scenes(random: np.random.Generator, count: int) -> Scenes:
    """Draw scenes of pieces that lie anywhere in the picture and never overlap; shapes, colours and places are even."""
    shapes, corners = np.empty((0, PIECES), np.int64), np.empty((0, PIECES, 2), np.int64)
    while len(shapes) < count:
        # some more than are missing, for about half of the draws overlap
        drawn = random.integers(len(SHAPES), size=(2 * (count - len(shapes)) + 16, PIECES))
        placed = random.integers(0, SIZE - _EXTENTS[drawn] + 1)
        fits = ~_overlap(drawn, placed)
        shapes, corners = np.concatenate([shapes, drawn[fits]]), np.concatenate([corners, placed[fits]])
    return draw(shapes[:count], corners[:count], COLOURS[random.integers(len(COLOURS), size=(count, PIECES))])


def draw(shapes_NP: np.ndarray, corners_NP2: np.ndarray, colours_NP3: np.ndarray) -> Scenes:
    """Draw pieces: places in `SHAPES`, the (row, column) of their upper left corners, colours of 0 and 1.

    Pieces must lie inside the picture, and not overlap.
    """
    count, pieces = shapes_NP.shape
    scene = SIZE * SIZE * np.arange(count)
    flat = _pixels(shapes_NP, corners_NP2) + scene[:, None, None, None, None]
    owners, brightness = np.zeros((2, count, SIZE, SIZE), np.uint8)
    owners.reshape(-1)[flat] = np.arange(1, 1 + pieces, dtype=np.uint8)[:, None, None, None]
    brightness.reshape(-1)[flat] = BEVEL
    palette = np.pad(colours_NP3.astype(np.uint8), ((0, 0), (1, 0), (0, 0)))
    images = np.take_along_axis(palette, owners.reshape(count, -1, 1), 1).reshape(*owners.shape, 3) * brightness[..., None]
    masks = (owners[:, None] == np.arange(1 + pieces, dtype=np.uint8)[:, None, None]) * np.uint8(SHOWN)
    factors = np.zeros((count, 1 + pieces, 7), np.float32)
    factors[:, 1:, 0], factors[:, 1:, 1] = corners_NP2[..., 1], corners_NP2[..., 0]
    factors[:, 1:, 2], factors[:, 1:, 3:6], factors[..., 6] = shapes_NP, colours_NP3, 1
    return Scenes(images, masks[..., None], factors)


def _pixels(shapes_NP: np.ndarray, corners_NP2: np.ndarray) -> np.ndarray:
    """Return the places in a flat picture of all pixels of all pieces: (N, P, 4, 5, 5)."""
    corners = (corners_NP2[:, :, None] + CELL * SHAPES[shapes_NP]) @ (SIZE, 1)
    within = np.arange(CELL)
    return corners[..., None, None] + SIZE * within[:, None] + within


def _overlap(shapes_NP: np.ndarray, corners_NP2: np.ndarray) -> np.ndarray:
    """Return whether any two pieces share a pixel, bool (N,): whether cells of different pieces are less than a cell apart, both ways."""
    cells = corners_NP2[:, :, None] + CELL * SHAPES[shapes_NP]
    found = np.zeros(len(cells), bool)
    for first in range(PIECES):
        for second in range(first + 1, PIECES):
            apart = np.abs(cells[:, first, :, None] - cells[:, second, None]).max(-1)
            found |= (apart < CELL).any((1, 2))
    return found


TETROMINOES = SceneKind("Tetrominoes", (SIZE, SIZE), FACTORS, random_scenes)
