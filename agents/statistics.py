"""Scores of a few runs, with what they leave unknown (Agarwal et al. 2021, "Deep RL at the edge of the statistical precipice").

Scores are given by task: a sequence of arrays, one a task, each of one score a seed. Resampling is stratified: each task's seeds
are drawn anew among that task's seeds.
"""

from collections.abc import Sequence

import numpy as np

Scores = Sequence[np.ndarray]

RESAMPLES = 10_000
FEW_SEEDS = 5
"""Under this many seeds an interval is too narrow to trust."""


def interquartile_mean(scores: Scores) -> float:
    """Return the mean of the middle half of all scores (a quarter, rounded down, is cut off at either end)."""
    return float(_trimmed_means(np.concatenate([np.asarray(task, float) for task in scores])[None])[0])


def interquartile_interval(scores: Scores, level: float = 0.95, seed: int = 0) -> tuple[float, float]:
    """Return the percentile bootstrap interval of the interquartile mean, over seeds within tasks."""
    draws = _resampled(scores, np.random.default_rng(seed))
    return _percentiles(_trimmed_means(np.concatenate(draws, axis=1)), level)


def probability_of_improvement(ours: Scores, theirs: Scores) -> float:
    """Return the chance that a run of ours scores above a run of theirs on the same task, ties counted half, averaged over tasks."""
    pairs = zip(ours, theirs, strict=True)
    return float(np.mean([_wins(np.asarray(a, float)[None], np.asarray(b, float)[None])[0] for a, b in pairs]))


def improvement_interval(ours: Scores, theirs: Scores, level: float = 0.95, seed: int = 0) -> tuple[float, float]:
    """Return the percentile bootstrap interval of the probability of improvement, over seeds within tasks."""
    generator = np.random.default_rng(seed)
    pairs = zip(_resampled(ours, generator), _resampled(theirs, generator), strict=True)
    return _percentiles(np.mean([_wins(a, b) for a, b in pairs], axis=0), level)


def overlap(one: tuple[float, float], other: tuple[float, float]) -> bool:
    """Whether two intervals share a point."""
    return one[0] <= other[1] and other[0] <= one[1]


def _trimmed_means(scores_SR: np.ndarray) -> np.ndarray:
    """S resamples of R scores -> S means of the middle half."""
    count = scores_SR.shape[1]
    cut = count // 4
    return np.sort(scores_SR, axis=1)[:, cut : count - cut].mean(axis=1)


def _resampled(scores: Scores, generator: np.random.Generator) -> list[np.ndarray]:
    arrays = [np.asarray(task, float) for task in scores]
    return [task[generator.integers(len(task), size=(RESAMPLES, len(task)))] for task in arrays]


def _wins(ours_SR: np.ndarray, theirs_SR: np.ndarray) -> np.ndarray:
    difference = ours_SR[:, :, None] - theirs_SR[:, None, :]
    return ((difference > 0) + 0.5 * (difference == 0)).mean(axis=(1, 2))


def _percentiles(values: np.ndarray, level: float) -> tuple[float, float]:
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
