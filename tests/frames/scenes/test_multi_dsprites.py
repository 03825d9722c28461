"""Multi-dSprites: two to five sprites that hide each other, as their factors say."""

import math

import numpy as np
import pytest

from frames.scenes.multi_dsprites import FACTORS, MULTI_DSPRITES, draw


def sprite(x: float, y: float, shape: int, colour: tuple[float, float, float], angle: float = 0.0, scale: float = 1.0) -> list[float]:
    return [x, y, shape, *colour, 1, angle, scale]


def scene(*sprites: list[float], grey: int = 100) -> tuple[np.ndarray, np.ndarray]:
    """Return the picture (H, W, 3) and the masks (K, H, W) of one scene."""
    factors = np.array([[0, 0, 0, 0, 0, 0, 1, 0, 0], *sprites], np.float32)
    scenes = draw(np.array([grey], np.uint8), factors[None])
    return scenes.images[0], scenes.masks[0, ..., 0]


def test_a_square_turns_and_grows_as_its_factors_say() -> None:
    for angle, scale in ((0.0, 1.0), (0.4, 0.6), (2.0, 0.8)):
        _, masks = scene(sprite(0.25, 0.75, 2, (1, 0, 0), angle, scale))
        for row in range(64):
            for column in range(64):
                right, down = column + 0.5 - 24, row + 0.5 - 40
                u, v = right * math.cos(angle) + down * math.sin(angle), down * math.cos(angle) - right * math.sin(angle)
                edge = max(abs(u), abs(v)) - 11 * scale
                assert abs(edge) < 1e-4 or (masks[1, row, column] == 255) == (edge < 0)


def test_an_oval_has_the_area_of_an_ellipse_and_a_heart_its_tip_below() -> None:
    _, masks = scene(sprite(0.5, 0.5, 0, (1, 1, 1), angle=1.0))
    assert (masks[1] > 0).sum() == pytest.approx(math.pi * 11 * 1.3 * 11 * 0.85, rel=0.02)
    _, masks = scene(sprite(0.5, 0.5, 1, (1, 1, 1)))
    rows = np.flatnonzero(masks[1].any(1))
    assert np.flatnonzero(masks[1][rows[-1]]).tolist() == [30, 31, 32, 33]
    assert not masks[1][rows[0], 30:34].any()
    assert np.array_equal(masks[1], masks[1][:, ::-1])


def test_a_later_sprite_hides_an_earlier_one_and_edges_are_hard() -> None:
    picture, masks = scene(sprite(0.5, 0.5, 2, (1, 0, 0)), sprite(0.6, 0.5, 2, (0, 0.2, 0)), grey=77)
    assert sorted(map(tuple, np.unique(picture.reshape(-1, 3), axis=0).tolist())) == [(0, 51, 0), (77, 77, 77), (255, 0, 0)]
    assert np.array_equal(picture[masks[2] > 0], np.full((22 * 22, 3), (0, 51, 0)))
    assert 0 < (masks[1] > 0).sum() < 22 * 22
    assert np.array_equal(masks.astype(int).sum(0), np.full((64, 64), 255))


def test_random_scenes_keep_to_their_ranges() -> None:
    scenes = MULTI_DSPRITES.draw(np.random.default_rng(0), 300)
    assert (scenes.images.shape, scenes.masks.shape, scenes.factors.shape) == ((300, 64, 64, 3), (300, 6, 64, 64, 1), (300, 6, 9))
    visible = scenes.factors[:, 1:, 6]
    assert set(visible.sum(1)) == {2, 3, 4, 5}
    assert np.array_equal(scenes.masks.astype(int).sum(1)[..., 0], np.full((300, 64, 64), 255))
    for masks, there in zip(scenes.masks[:, 1:], visible, strict=True):
        assert not masks[there == 0].any()
    # whole sprites: none reaches the picture's edge
    assert not scenes.masks[:, 1:, [0, -1]].any()
    assert not scenes.masks[:, 1:, :, [0, -1]].any()
    there = scenes.factors[:, 1:][visible > 0]
    for factor, (low, high) in {"x": (0, 1), "red": (0, 1), "orientation": (0, 2 * math.pi), "scale": (0.5, 1)}.items():
        (column,) = next(one.columns for one in FACTORS if one.name == factor)
        assert there[:, column].min() == pytest.approx(low, abs=0.02 * (high - low))
        assert there[:, column].max() == pytest.approx(high, abs=0.02 * (high - low))
    assert np.array_equal(scenes.images, MULTI_DSPRITES.draw(np.random.default_rng(0), 300).images)
