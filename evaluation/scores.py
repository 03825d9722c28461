"""Scores of predictions: AUC, R^2, balanced accuracy, calibration.

Shapes: N frames, K columns of a target.
"""

from dataclasses import dataclass

import numpy as np

from encoders.heads.scores import area_under_curve

_BINS = 10


def auc(truth: np.ndarray, score: np.ndarray) -> float:
    """Return the chance that a frame of truth 1 scores above one of truth 0 (N,), ties counted half; NaN without both kinds."""
    return area_under_curve(np.asarray(score), np.asarray(truth))


def balanced_accuracy(truth: np.ndarray, score: np.ndarray) -> float:
    """Return the mean share of both kinds (N,) that is told right by `score` above 0; NaN without both kinds."""
    positive, told = np.asarray(truth) > 0.5, np.asarray(score) > 0
    if positive.all() or not positive.any():
        return float("nan")
    return float((told[positive].mean() + (~told[~positive]).mean()) / 2)


def r_squared(truth: np.ndarray, predicted: np.ndarray) -> float:
    """Return 1 - squared error / squared deviation from the mean, both summed over all columns (N, K); NaN where nothing deviates."""
    spread = np.square(truth - truth.mean(0)).sum() if len(truth) else 0.0
    return float(1 - np.square(truth - predicted).sum() / spread) if spread > 0 else float("nan")


@dataclass(frozen=True)
class Calibration:
    """Predictions in ten equal parts of [0, 1]: how many there are, their mean, and the mean of what they predict; empty parts left out."""

    frames: list[int]
    predicted: list[float]
    observed: list[float]

    @property
    def expected_error(self) -> float:
        """The mean distance of predicted and observed, by frames."""
        gaps = np.abs(np.subtract(self.predicted, self.observed))
        return float(np.average(gaps, weights=self.frames))


def calibration(truth: np.ndarray, predicted: np.ndarray) -> Calibration:
    """Return how predictions (N,) in [0, 1] compare with the truth (N,), which may lie anywhere in [0, 1]."""
    part = np.minimum((np.asarray(predicted) * _BINS).astype(int), _BINS - 1)
    rows = [part == number for number in range(_BINS) if (part == number).any()]
    return Calibration(
        [int(row.sum()) for row in rows], [float(predicted[row].mean()) for row in rows], [float(truth[row].mean()) for row in rows]
    )
