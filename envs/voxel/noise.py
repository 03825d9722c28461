"""Smooth random fields on a torus, for hills, groves and clouds."""

import numpy as np


def periodic_noise(random: np.random.Generator, size: int, bumps: int) -> np.ndarray:
    """Return noise in [-1, 1], float (size, size), with `bumps` random values a side and no seam at the edges."""
    weights = np.zeros((size, bumps))
    at = np.arange(size) * bumps / size
    low = at.astype(int)
    part = (at - low) ** 2 * (3 - 2 * (at - low))
    weights[np.arange(size), low] = 1 - part
    weights[np.arange(size), (low + 1) % bumps] = part
    return weights @ random.uniform(-1, 1, (bumps, bumps)) @ weights.T
