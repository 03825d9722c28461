"""Scores of a few runs, with what they leave unknown (Agarwal et al. 2021, "Deep RL at the edge of the statistical precipice").

Scores are given by task: a sequence of arrays, one a task, each of one score a run. Every task weighs the same, however many of
its runs there are. Resampling is stratified: each task's runs are drawn anew among that task's runs. R runs of a task, N runs of
all tasks (or numbers to be ranked), S resamples, K thresholds.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

Scores = Sequence[np.ndarray]
Statistic = Callable[[Scores], np.ndarray]
"""Scores by task, each (..., R) -> (...): the same function for one set of scores and for many resamples of it."""

RESAMPLES = 10_000
FEW_SEEDS = 5
"""Under this many seeds an interval is too narrow to trust."""
_ROUNDING = 1e-9
"""Ends of intervals closer than this (or this share of themselves) count as equal: one mean over 5 and over 15 runs rounds differently."""


@dataclass(frozen=True)
class Estimate:
    """A number from a few runs, and its percentile bootstrap interval."""

    value: float
    low: float
    high: float

    @property
    def interval(self) -> tuple[float, float]:
        return self.low, self.high


def interquartile_mean(scores: Scores) -> np.ndarray:
    """Return the mean of the middle half of all runs, every task weighing the same.

    With equally many runs a task, a quarter of all runs, rounded down, is cut off at either end, as the paper's authors do in rliable
    (`scipy.stats.trim_mean`). Otherwise runs differ in weight, and it is the `exact_interquartile_mean`.
    """
    if len({np.shape(task)[-1] for task in scores}) > 1:
        return exact_interquartile_mean(scores)
    together = np.sort(np.concatenate([np.asarray(task, float) for task in scores], axis=-1), axis=-1)
    cut = together.shape[-1] // 4
    return together[..., cut : together.shape[-1] - cut].mean(axis=-1)


def exact_interquartile_mean(scores: Scores) -> np.ndarray:
    """Return the mean of the weighted quantile function from 1/4 to 3/4: a run's weight is its task's, shared among the task's runs.

    A run that lies across one of these ends counts with the part inside. With equally many runs a task, N divisible by 4, both
    interquartile means agree.
    """
    together_N = np.concatenate([np.asarray(task, float) for task in scores], axis=-1)
    weights_N = np.concatenate([np.full(np.shape(task)[-1], 1 / (len(scores) * np.shape(task)[-1])) for task in scores])
    order = np.argsort(together_N, axis=-1)
    ends = np.cumsum(weights_N[order], axis=-1)
    inside = np.clip(ends, 0.25, 0.75) - np.clip(ends - weights_N[order], 0.25, 0.75)
    return (inside * np.take_along_axis(together_N, order, axis=-1)).sum(axis=-1) / inside.sum(axis=-1)


def interquartile_mean_for(rows: Sequence[Scores]) -> Statistic:
    """Return the interquartile mean that trims all these rows alike, so that rows of the same distribution have the same mean.

    Rounded down, the share cut off depends on the number of runs (3 of 15, 7 of 30); where rows or tasks differ in it, use the exact one.
    """
    counts = {len(task) for row in rows for task in row}
    return interquartile_mean if len(counts) <= 1 else exact_interquartile_mean


def median(scores: Scores) -> np.ndarray:
    """Return the median over tasks of each task's mean score; of a single task, the median of its runs."""
    return np.median(scores[0], axis=-1) if len(scores) == 1 else np.median(_task_means(scores), axis=0)


def mean(scores: Scores) -> np.ndarray:
    """Return the mean over tasks of each task's mean score."""
    return _task_means(scores).mean(axis=0)


def optimality_gap(scores: Scores, target: float = 1.0) -> np.ndarray:
    """Return by how much runs fall short of `target`, averaged; what lies above the target makes up for nothing."""
    return target - _task_means([np.minimum(task, target) for task in scores]).mean(axis=0)


def estimate(statistic: Statistic, scores: Scores, level: float = 0.95, seed: int = 0) -> Estimate:
    """Return a statistic of the scores with its percentile bootstrap interval, over runs within tasks."""
    drawn = statistic(_resampled(scores, np.random.default_rng(seed)))
    return Estimate(float(statistic(scores)), *_percentiles(drawn, level))


def paired_difference(ours: Scores, theirs: Scores, level: float = 0.95, seed: int = 0) -> Estimate:
    """Return the mean of ours - theirs over pairs, and its interval; entry i of ours and entry i of theirs have the same seed.

    Pairs are resampled whole, so that what a seed does to both sides alike cancels out. Raises `ValueError` for unequal counts.
    """
    return estimate(mean, [np.asarray(a, float) - np.asarray(b, float) for a, b in _same_counts(ours, theirs)], level, seed)


def probability_of_improvement(ours: Scores, theirs: Scores, level: float = 0.95, seed: int = 0) -> Estimate:
    """Return the chance that a run of ours scores above a run of theirs on the same task, ties counted half, averaged over tasks."""
    generator = np.random.default_rng(seed)
    values, drawn = [], []
    for a, b in zip(ours, theirs, strict=True):
        wins_RQ = _wins(np.asarray(a, float), np.asarray(b, float))
        shares_SR, shares_SQ = _shares(len(a), generator), _shares(len(b), generator)
        values.append(wins_RQ.mean())
        drawn.append(((shares_SR @ wins_RQ) * shares_SQ).sum(axis=1))
    return Estimate(float(np.mean(values)), *_percentiles(np.mean(drawn, axis=0), level))


def gap_between(bottom: Scores, top: Scores, statistic: Statistic, level: float = 0.95, seed: int = 0) -> Estimate:
    """Return by how much a statistic of `top` lies above that of `bottom`, and its interval over runs of both."""
    generator = np.random.default_rng(seed)
    low_S, high_S = (statistic(_resampled(scores, generator)) for scores in (bottom, top))
    return Estimate(float(statistic(top) - statistic(bottom)), *_percentiles(high_S - low_S, level))


def share_of_gap(ours: Scores, bottom: Scores, top: Scores, statistic: Statistic, level: float = 0.95, seed: int = 0) -> Estimate:
    """Return which share of the gap from `bottom` to `top` a statistic of ours makes up, 0 at `bottom` and 1 at `top`.

    The interval is over runs of all three, drawn apart; resamples without a gap have no share and are left out.
    """
    generator = np.random.default_rng(seed)
    low_S, high_S, ours_S = (statistic(_resampled(scores, generator)) for scores in (bottom, top, ours))
    there_S = high_S > low_S
    shares_S = (ours_S - low_S)[there_S] / (high_S - low_S)[there_S]
    share = (statistic(ours) - statistic(bottom)) / (statistic(top) - statistic(bottom))
    return Estimate(float(share), *_percentiles(shares_S, level))


def rank_correlation(ours: Sequence[float], theirs: Sequence[float]) -> float | None:
    """Return Spearman's rank correlation, ties with their mean rank; None where one side is the same everywhere."""
    a, b = (_centred_ranks(np.asarray(side, float)) for side in (ours, theirs))
    spread = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / spread if spread else None


def performance_profile(
    scores: Scores, thresholds: np.ndarray, level: float = 0.95, seed: int = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the share of runs that score above each threshold (K), averaged over tasks, and its pointwise interval (low, high)."""
    generator = np.random.default_rng(seed)
    above = [(np.asarray(task, float)[:, None] > thresholds).astype(float) for task in scores]
    drawn_SK = np.mean([_shares(len(task_RK), generator) @ task_RK for task_RK in above], axis=0)
    low, high = np.quantile(drawn_SK, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return np.mean([task_RK.mean(axis=0) for task_RK in above], axis=0), low, high


def area_under_curve(steps: Sequence[float], scores: Sequence[float]) -> float:
    """Return the mean height of a learning curve between its first and its last point (trapezoids); of one point, its score."""
    if len(steps) == 1:
        return float(scores[0])
    return float(np.trapezoid(scores, steps) / (steps[-1] - steps[0]))


def on_common_grid(curves: Sequence[tuple[Sequence[float], Sequence[float]]], points: int) -> tuple[np.ndarray, np.ndarray]:
    """Return `points` places from the latest first to the earliest last place of all curves, and the curves there: (G,), (R, G).

    A curve is places in rising order and a height at each, in between which it is a straight line. Both are empty where curves share no
    stretch.
    """
    start, end = max(places[0] for places, _ in curves), min(places[-1] for places, _ in curves)
    if end <= start:
        return np.empty(0), np.empty((len(curves), 0))
    grid = np.linspace(start, end, points)
    return grid, np.stack([np.interp(grid, places, heights) for places, heights in curves])


def overlap(one: tuple[float, float], other: tuple[float, float]) -> bool:
    """Whether two intervals share a point, up to rounding: where runs never vary, an interval is a single number."""
    rounding = _ROUNDING * max(1.0, *(abs(end) for end in (*one, *other)))
    return one[0] <= other[1] + rounding and other[0] <= one[1] + rounding


def _task_means(scores: Scores) -> np.ndarray:
    return np.stack([np.mean(task, axis=-1) for task in scores])


def _resampled(scores: Scores, generator: np.random.Generator) -> list[np.ndarray]:
    arrays = [np.asarray(task, float) for task in scores]
    return [task[generator.integers(len(task), size=(RESAMPLES, len(task)))] for task in arrays]


def _shares(runs: int, generator: np.random.Generator) -> np.ndarray:
    """Return how large a share each run has of each resample, (S, R): means over resamples are products with it."""
    return generator.multinomial(runs, np.full(runs, 1 / runs), size=RESAMPLES) / runs


def _wins(ours_R: np.ndarray, theirs_Q: np.ndarray) -> np.ndarray:
    difference = ours_R[:, None] - theirs_Q[None]
    return (difference > 0) + 0.5 * (difference == 0)


def _same_counts(ours: Scores, theirs: Scores) -> list[tuple[np.ndarray, np.ndarray]]:
    pairs = list(zip(ours, theirs, strict=True))
    if any(len(a) != len(b) for a, b in pairs):
        raise ValueError("paired scores must be as many on both sides, in the same order of seeds")
    return pairs


def _centred_ranks(values_N: np.ndarray) -> np.ndarray:
    below_N = (values_N[:, None] > values_N).sum(1)
    ranks_N = below_N + ((values_N[:, None] == values_N).sum(1) - 1) / 2
    return ranks_N - ranks_N.mean()


def _percentiles(values: np.ndarray, level: float) -> tuple[float, float]:
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
