"""The numbers of a report are those that the reference implementations give."""

import numpy as np
import pytest
from scipy.stats import bootstrap, trim_mean

from agents.statistics import (
    improvement_interval,
    interquartile_interval,
    interquartile_mean,
    overlap,
    probability_of_improvement,
)

GENERATOR = np.random.default_rng(3)
ONE_TASK = [GENERATOR.normal(4, 2, 7)]
THREE_TASKS = [GENERATOR.normal(mean, 1 + mean, 6) for mean in (0, 2, 5)]
OTHERS = [GENERATOR.normal(mean, 1 + mean, 5) for mean in (0.5, 1, 6)]


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 8, 11])
def test_the_interquartile_mean_is_scipys_trimmed_mean(count: int) -> None:
    scores = GENERATOR.normal(size=count)
    assert interquartile_mean([scores]) == pytest.approx(trim_mean(scores, 0.25))


def test_the_interval_over_one_task_is_scipys_percentile_bootstrap() -> None:
    reference = bootstrap(
        (ONE_TASK[0],), lambda x, axis: trim_mean(x, 0.25, axis=axis), method="percentile", n_resamples=10_000, rng=0
    ).confidence_interval
    low, high = interquartile_interval(ONE_TASK)
    width = high - low
    assert low == pytest.approx(reference.low, abs=0.03 * width)
    assert high == pytest.approx(reference.high, abs=0.03 * width)


def test_intervals_over_tasks_are_rliables_stratified_bootstrap() -> None:
    library = pytest.importorskip("rliable.library", reason="rliable is not installed: pip install -e .[dev]")
    metrics = pytest.importorskip("rliable.metrics")
    matrix = np.stack(THREE_TASKS, axis=1)
    points, intervals = library.get_interval_estimates(
        {"ours": matrix}, lambda x: np.array([metrics.aggregate_iqm(x)]), reps=10_000, random_state=np.random.RandomState(1)
    )
    low, high = interquartile_interval(THREE_TASKS)
    assert interquartile_mean(THREE_TASKS) == pytest.approx(points["ours"][0])
    assert [low, high] == pytest.approx(intervals["ours"][:, 0], abs=0.03 * (high - low))


def test_the_probability_of_improvement_is_rliables() -> None:
    metrics = pytest.importorskip("rliable.metrics", reason="rliable is not installed: pip install -e .[dev]")
    expected = metrics.probability_of_improvement(np.stack(THREE_TASKS, axis=1), np.stack(OTHERS, axis=1))
    assert probability_of_improvement(THREE_TASKS, OTHERS) == pytest.approx(expected)
    low, high = improvement_interval(THREE_TASKS, OTHERS)
    assert 0 <= low < expected < high <= 1


def test_ties_count_half() -> None:
    assert probability_of_improvement([np.array([1.0, 2.0])], [np.array([1.0, 2.0])]) == 0.5


def test_the_same_scores_give_the_same_interval() -> None:
    assert interquartile_interval(ONE_TASK) == interquartile_interval(ONE_TASK)


def test_touching_intervals_overlap() -> None:
    assert overlap((0, 1), (1, 2))
    assert not overlap((0, 1), (1.1, 2))
