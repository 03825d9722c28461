"""Tetrominoes are drawn as the published pictures are, pixel by pixel, and keep their rules."""

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from frames.scenes.tetrominoes import COLOURS, SHAPES, TETROMINOES, draw

REAL = Path(__file__).resolve().parents[3].parent / "shared" / "golden" / "efficientmorl" / "tetrominoes_real10.safetensors"
"""Ten pictures of the published data set with their masks."""


def piece_of(mask: np.ndarray, picture: np.ndarray) -> tuple[int, tuple[int, int], np.ndarray]:
    """Find a piece's shape, corner and colour by its mask (H, W) and the picture (H, W, 3)."""
    rows, columns = np.nonzero(mask)
    corner = (rows.min(), columns.min())
    cells = {((row - corner[0]) // 5, (column - corner[1]) // 5) for row, column in zip(rows, columns, strict=True)}
    (shape,) = (number for number, known in enumerate(SHAPES) if {tuple(cell) for cell in known.tolist()} == cells)
    return shape, corner, (picture[mask > 0].max(0) > 0).astype(np.uint8)


@pytest.mark.skipif(not REAL.exists(), reason="needs ten published pictures, tetrominoes_real10.safetensors")
def test_ten_published_pictures_and_their_masks_are_redrawn_from_their_factors() -> None:
    real = load_file(REAL)
    for picture, masks in zip(real["image"], real["true_mask"], strict=True):
        shapes, corners, colours = zip(*(piece_of(mask, picture) for mask in masks[1:]), strict=True)
        scene = draw(np.array([shapes]), np.array([corners]), np.array([colours]))
        assert np.array_equal(scene.images[0], picture)
        assert np.array_equal(scene.masks[0, ..., 0], masks)


def test_a_cell_is_lit_from_the_top() -> None:
    """The pattern written out by hand, in the O's upper left cell: an edge of light at the top, of dark at the bottom."""
    square = int(np.flatnonzero((np.array([[0, 0], [0, 1], [1, 0], [1, 1]]) == SHAPES).all((1, 2)))[0])
    picture = draw(np.array([[square]]), np.array([[[20, 10]]]), np.array([[[1, 0, 1]]])).images[0]
    assert picture[20:25, 10:15, 0].tolist() == [
        [191, 255, 255, 255, 223],
        [127, 159, 159, 159, 191],
        [127, 159, 159, 159, 191],
        [127, 159, 159, 159, 191],
        [95, 63, 63, 63, 127],
    ]
    assert np.array_equal(picture[..., 0], picture[..., 2])
    assert not picture[..., 1].any()
    assert np.array_equal(picture[20:25, 10:15], picture[25:30, 15:20])


def test_pieces_lie_inside_whole_and_apart_and_the_factors_say_what_is_seen() -> None:
    scenes = TETROMINOES.draw(np.random.default_rng(1), 200)
    assert (scenes.images.shape, scenes.masks.shape, scenes.factors.shape) == ((200, 35, 35, 3), (200, 4, 35, 35, 1), (200, 4, 7))
    for picture, masks, factors in zip(scenes.images, scenes.masks[..., 0], scenes.factors, strict=True):
        assert [int((mask == 255).sum()) for mask in masks] == [925, 100, 100, 100]
        assert np.array_equal(masks.astype(int).sum(0), np.full((35, 35), 255))
        assert not picture[masks[0] > 0].any()
        assert factors[0].tolist() == [0, 0, 0, 0, 0, 0, 1]
        for mask, (x, y, shape, *colour, visible) in zip(masks[1:], factors[1:], strict=True):
            found = piece_of(mask, picture)
            assert (found[0], found[1], found[2].tolist(), visible) == (shape, (y, x), colour, 1)


def test_shapes_colours_and_places_are_even_and_a_seed_gives_the_same_scenes() -> None:
    count = 6_000
    first, again = (TETROMINOES.draw(np.random.default_rng(7), count) for _ in range(2))
    assert np.array_equal(first.images, again.images)
    pieces = first.factors[:, 1:]
    assert len(np.unique(SHAPES.reshape(len(SHAPES), -1), axis=0)) == len(SHAPES) == 19
    # of the published million scenes 0.4967 have a piece of S or Z
    assert np.isin(pieces[..., 2], (11, 12, 13, 14)).any(1).mean() == pytest.approx(0.4967, abs=0.02)
    for colour in COLOURS:
        assert (pieces[..., 3:6] == colour).all(-1).mean() == pytest.approx(1 / 6, abs=0.012)
    upright = pieces[pieces[..., 2] == 0]
    assert (set(upright[:, 0]), set(upright[:, 1])) == (set(range(31)), set(range(16)))
