"""Multi-dSprites, coloured on grey: two to five ovals, hearts and squares that may hide each other, with hard edges.

After the Multi-Object Datasets' variant "colored_on_grayscale", by our own drawing: its sizes and places are those of dSprites, recalled.
Shapes: N scenes, S sprites, H height, W width.
"""

import colorsys

import numpy as np

from frames.scenes.factors import Factor
from frames.scenes.scene import SHOWN, SceneKind, Scenes

SIZE, FEWEST, MOST = 64, 2, 5
SCALES = (0.5, 1.0)
MARGIN = 16
"""From here to `SIZE - MARGIN` lie the sprites' centres, so that all of each is in the picture."""
REACH = 11.0
"""Half the side of a square of scale 1, in pixels."""
_AT_ONCE = 64

FACTORS = (
    Factor("x", (0,)),
    Factor("y", (1,)),
    Factor("shape", (2,), is_class=True),
    *(Factor(name, (column,)) for column, name in enumerate(("red", "green", "blue"), 3)),
    Factor("visibility", (6,), is_class=True),
    Factor("orientation", (7,), period=float(2 * np.pi)),
    Factor("scale", (8,)),
)
"""x and y are the centre's, 0 at the left and upper margin and 1 at the right and lower one; the shape is 0 oval, 1 heart, 2 square;
colours are in [0, 1], the orientation in radians, counted clockwise."""


def random_scenes(random: np.random.Generator, count: int) -> Scenes:
    """Draw scenes of random greys and sprites; the later of two sprites lies on top."""
    factors = np.zeros((count, 1 + MOST, 9), np.float32)
    factors[:, 1:, 0:2] = random.random((count, MOST, 2))
    factors[:, 1:, 2] = random.integers(3, size=(count, MOST))
    hues = random.random((count * MOST, 3))
    factors[:, 1:, 3:6] = np.array([colorsys.hsv_to_rgb(*hue) for hue in hues]).reshape(count, MOST, 3)
    factors[:, 1:, 7] = random.uniform(0, 2 * np.pi, (count, MOST))
    factors[:, 1:, 8] = random.uniform(*SCALES, (count, MOST))
    there = np.arange(MOST) < random.integers(FEWEST, MOST + 1, count)[:, None]
    factors[:, 1:][~there] = 0
    factors[:, 0, 6], factors[:, 1:, 6] = 1, there
    return draw(random.integers(0, 256, count).astype(np.uint8), factors)


def draw(greys_N: np.ndarray, factors_NKF: np.ndarray) -> Scenes:
    """Draw sprites on a ground of one grey; the first row of factors is the ground's."""
    covering = np.concatenate([_covering(factors_NKF[at : at + _AT_ONCE, 1:]) for at in range(0, len(factors_NKF), _AT_ONCE)])
    # the last that covers a pixel is seen
    last = covering.shape[1] - covering[:, ::-1].argmax(1)
    seen = np.where(covering.any(1), last, 0)
    colours = np.rint(255 * factors_NKF[..., 3:6]).astype(np.uint8)
    colours[:, 0] = greys_N[:, None]
    images = colours[np.arange(len(seen))[:, None, None], seen]
    masks = (seen[:, None] == np.arange(factors_NKF.shape[1])[:, None, None]) * np.uint8(SHOWN)
    return Scenes(images, masks[..., None], factors_NKF)


def _covering(factors_NSF: np.ndarray) -> np.ndarray:
    """Return which pixels' middles lie inside each sprite, whatever hides it: bool (N, S, H, W)."""
    covering = np.zeros((*factors_NSF.shape[:2], SIZE, SIZE), bool)
    for shape, is_inside in enumerate((_oval, _heart, _square)):
        chosen = (factors_NSF[..., 2] == shape) & (factors_NSF[..., 6] > 0)
        covering[chosen] = is_inside(*_own_axes(factors_NSF[chosen]))
    return covering


def _own_axes(factors_MF: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return every pixel's place (M, H, W) along the axes of each sprite, in its own size: right and down before it turned."""
    x, y, angle, scale = factors_MF[:, (0, 1, 7, 8)].T[..., None, None]
    middles = np.arange(SIZE, dtype=np.float32) + 0.5 - MARGIN
    across, down = middles - (SIZE - 2 * MARGIN) * x, middles[:, None] - (SIZE - 2 * MARGIN) * y
    cos, sin = np.cos(angle) / (REACH * scale), np.sin(angle) / (REACH * scale)
    return cos * across + sin * down, cos * down - sin * across


def _square(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return np.maximum(np.abs(u), np.abs(v)) <= 1


def _oval(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return u * u / 1.3**2 + v * v / 0.85**2 <= 1


def _heart(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """(u^2 + v^2 - 1)^3 <= -u^2 v^3: its tip points down."""
    across, ring = u * u, u * u + v * v - 1
    return ring * ring * ring + across * v * v * v <= 0


MULTI_DSPRITES = SceneKind("MultiDSprites", (SIZE, SIZE), FACTORS, random_scenes)
