"""What a drawn scene is: pictures, the mask of every object, and what each object is in numbers."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from frames.scenes.factors import Factor

SHOWN = 255


@dataclass(frozen=True)
class Scenes:
    """N scenes of K things, the first of which is the background."""

    images: np.ndarray
    """uint8 (N, H, W, 3)."""
    masks: np.ndarray
    """uint8 (N, K, H, W, 1), 255 where a thing is seen, else 0; every pixel belongs to one."""
    factors: np.ndarray
    """float32 (N, K, F): what each thing is; zeros but for the visibility for the background, zeros alone for things that are not there."""


@dataclass(frozen=True)
class SceneKind:
    """A kind of scenes that can be drawn without end."""

    name: str
    size: tuple[int, int]
    """Height and width."""
    factors: tuple[Factor, ...]
    draw: Callable[[np.random.Generator, int], Scenes]
    """Draws so many scenes with a generator: the same ones from the same state."""
