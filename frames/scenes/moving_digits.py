"""Moving digits: two of them cross a black picture in straight lines, at constant speed, and are reflected at its sides.

The rules are those of Moving MNIST (Srivastava et al. 2015, section 4.1): two digits in 64x64, brighter pixels in front.
Shapes: F frames, D digits, h and w of a digit's picture.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from frames.labels import STATE
from frames.scenes.digit_pictures import DigitPictures

SIZE, DIGITS = 64, 2
SPEEDS = (2.0, 5.0)
"""Pixels a frame."""
LABELS = "observation.labels"
"""Which digits are seen: uint8 (F, D)."""


@dataclass(frozen=True)
class Motion:
    """Where digits are: `positions` float64 (F, D, 2), row and column of the upper left corner in pixels; `speeds` (F, D, 2) a frame."""

    positions: np.ndarray
    speeds: np.ndarray


def motion(start_D2: np.ndarray, speed_D2: np.ndarray, room_2: np.ndarray, length: int) -> Motion:
    """Return how digits move that start at places within [0, room] and are reflected at its ends.

    A straight line folded at both walls is the reflected one: no error adds up from frame to frame.
    """
    straight = start_D2 + np.arange(length)[:, None, None] * speed_D2
    there = np.mod(straight, 2 * room_2)
    back = there > room_2
    return Motion(np.where(back, 2 * room_2 - there, there), np.where(back, -speed_D2, speed_D2))


@dataclass(frozen=True)
class MovingDigits:
    """An episode of moving digits."""

    pictures: np.ndarray
    """uint8 (D, h, w)."""
    labels: np.ndarray | None
    """uint8 (D,)"""
    moves: Motion

    def frames(self) -> Iterator[np.ndarray]:
        """Draw the frames, uint8 (64, 64, 3)."""
        height, width = self.pictures.shape[1:]
        for corners_D2 in self.moves.positions.round().astype(int):
            grey = np.zeros((SIZE, SIZE), np.uint8)
            for picture, (row, column) in zip(self.pictures, corners_D2, strict=True):
                part = grey[row : row + height, column : column + width]
                np.maximum(part, picture, out=part)
            yield np.repeat(grey[..., None], 3, axis=2)

    def arrays(self) -> dict[str, np.ndarray]:
        """Return what is true of every frame, by name: state as an environment would tell it, and which digits are seen."""
        known = {}
        for digit in range(len(self.pictures)):
            for name, values in (("", self.moves.positions), ("_speed", self.moves.speeds)):
                for axis, direction in enumerate(("row", "column")):
                    known[f"{STATE}{direction}{name}_{digit}"] = values[:, digit, axis].astype(np.float32)
        if self.labels is not None:
            known[LABELS] = np.repeat(self.labels[None], len(self.moves.positions), axis=0)
        return known


def drawn_episode(digits: DigitPictures, among: np.ndarray, random: np.random.Generator, length: int) -> MovingDigits:
    """Draw an episode with digits of the places `among`: each anywhere, in any direction, at a speed of 2 to 5 pixels a frame."""
    chosen = random.choice(among, DIGITS)
    pictures = digits.pictures[chosen]
    room_2 = SIZE - np.array(pictures.shape[1:], float)
    start_D2 = random.uniform(0, 1, (DIGITS, 2)) * room_2
    angle_D, speed_D = random.uniform(0, 2 * np.pi, DIGITS), random.uniform(*SPEEDS, DIGITS)
    speed_D2 = speed_D[:, None] * np.stack([np.sin(angle_D), np.cos(angle_D)], 1)
    labels = None if digits.labels is None else digits.labels[chosen]
    return MovingDigits(pictures, labels, motion(start_D2, speed_D2, room_2, length))
