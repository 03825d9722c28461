"""The numbers of a report are those that the reference implementations and closed forms give."""

import numpy as np
import pytest
from scipy.stats import bootstrap, trim_mean

from comparison.report.statistics import (
    Estimate,
    Scores,
    area_under_curve,
    estimate,
    interquartile_mean,
    mean,
    median,
    optimality_gap,
    overlap,
    paired_difference,
    performance_profile,
    probability_of_improvement,
)
from comparison.report.tables import interval_cell, value_cell

GENERATOR = np.random.default_rng(3)
ONE_TASK = [GENERATOR.normal(4, 2, 7)]
THREE_TASKS = [GENERATOR.normal(middle, 1 + middle, 6) for middle in (0, 2, 5)]
OTHERS = [GENERATOR.normal(middle, 1 + middle, 5) for middle in (0.5, 1, 6)]
STATISTICS = {"iqm": interquartile_mean, "median": median, "mean": mean, "optimality_gap": optimality_gap}


def reference(name: str):
    """Return a module of rliable, the paper's own implementation."""
    return pytest.importorskip(f"rliable.{name}", reason="rliable is not installed: pip install -e '.[dev]'")


def matrix(scores: Scores) -> np.ndarray:
    return np.stack(scores, axis=1)


@pytest.fixture
def fewer_resamples(monkeypatch) -> None:
    """Hundreds of experiments do not need ten thousand resamples each."""
    monkeypatch.setattr("comparison.report.statistics.RESAMPLES", 1000)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 8, 11])
def test_the_interquartile_mean_is_scipys_trimmed_mean(count: int) -> None:
    scores = GENERATOR.normal(size=count)
    assert interquartile_mean([scores]) == pytest.approx(trim_mean(scores, 0.25))


@pytest.mark.parametrize("name", STATISTICS)
def test_statistics_over_tasks_are_rliables(name: str) -> None:
    expected = getattr(reference("metrics"), f"aggregate_{name}")(matrix(THREE_TASKS))
    assert STATISTICS[name](THREE_TASKS) == pytest.approx(expected)


def test_intervals_over_tasks_are_rliables_stratified_bootstrap() -> None:
    library, metrics = reference("library"), reference("metrics")
    points, intervals = library.get_interval_estimates(
        {"ours": matrix(THREE_TASKS)}, lambda x: np.array([getattr(metrics, f"aggregate_{name}")(x) for name in STATISTICS]), reps=2000
    )
    for index, statistic in enumerate(STATISTICS.values()):
        found = estimate(statistic, THREE_TASKS)
        assert found.value == pytest.approx(points["ours"][index])
        assert found.interval == pytest.approx(intervals["ours"][:, index], abs=0.08 * (found.high - found.low))


def test_the_probability_of_improvement_is_rliables() -> None:
    library, metrics = reference("library"), reference("metrics")
    found = probability_of_improvement(THREE_TASKS, OTHERS)
    assert found.value == pytest.approx(metrics.probability_of_improvement(matrix(THREE_TASKS), matrix(OTHERS)))
    _, intervals = library.get_interval_estimates(
        {"both": [matrix(THREE_TASKS), matrix(OTHERS)]}, lambda x, y: np.array([metrics.probability_of_improvement(x, y)]), reps=500
    )
    assert found.interval == pytest.approx(intervals["both"][:, 0], abs=0.05)


def test_performance_profiles_are_rliables() -> None:
    thresholds = np.linspace(-2, 8, 11)
    profiles, bands = reference("library").create_performance_profile({"ours": matrix(THREE_TASKS)}, thresholds, reps=2000)
    profile, low, high = performance_profile(THREE_TASKS, thresholds)
    assert profile == pytest.approx(profiles["ours"])
    # shares of 18 runs move in steps of 1 / 18: two bootstraps may differ by one
    assert np.stack([low, high]) == pytest.approx(bands["ours"], abs=1 / 18 + 1e-9)


def test_the_interval_over_one_task_is_scipys_percentile_bootstrap() -> None:
    expected = bootstrap(
        (ONE_TASK[0],), lambda x, axis: trim_mean(x, 0.25, axis=axis), method="percentile", n_resamples=10_000, rng=0
    ).confidence_interval
    found = estimate(interquartile_mean, ONE_TASK)
    assert found.interval == pytest.approx((expected.low, expected.high), abs=0.03 * (found.high - found.low))


def test_the_median_of_one_task_is_that_of_its_runs() -> None:
    assert median([np.array([1.0, 2.0, 9.0])]) == 2
    assert median([np.array([1.0, 2.0, 9.0]), np.array([0.0]), np.array([5.0])]) == 4


def test_nothing_above_the_target_makes_up_for_a_gap() -> None:
    assert optimality_gap([np.array([0.5, 7.0])]) == pytest.approx(0.25)
    assert optimality_gap([np.array([0.5, 7.0])], target=10) == pytest.approx(6.25)
    assert optimality_gap([np.array([2.0, 3.0]), np.array([0.0])]) == pytest.approx(0.5)


def test_tasks_with_more_runs_weigh_no_more_in_a_mean() -> None:
    assert mean([np.zeros(9), np.ones(1)]) == 0.5
    assert performance_profile([np.zeros(9), np.ones(1)], np.array([0.5]))[0] == pytest.approx([0.5])


def test_a_bootstrap_over_two_runs_has_the_closed_form() -> None:
    """A resample of {0, 1} has the mean 0, 1/2 or 1 with chances 1/4, 1/2, 1/4."""
    two = [np.array([0.0, 1.0])]
    assert estimate(mean, two).interval == (0, 1)
    assert estimate(mean, two, level=0.4).interval == (0.5, 0.5)


def test_runs_that_never_vary_within_a_task_leave_nothing_open() -> None:
    """Resampling over both tasks together would draw 0s and 5s anew, and find an interval."""
    found = estimate(mean, [np.zeros(6), np.full(6, 5.0)])
    assert (found.value, *found.interval) == (2.5, 2.5, 2.5)


def test_pairs_stay_pairs_when_they_are_drawn_anew() -> None:
    """Seeds that differ by hundreds, and rows that differ by 1 on every seed: only whole pairs show it."""
    theirs = [GENERATOR.normal(0, 300, 8), GENERATOR.normal(0, 300, 5)]
    ours = [task + 1 for task in theirs]
    found = paired_difference(ours, theirs)
    assert (found.value, *found.interval) == pytest.approx((1, 1, 1))
    assert overlap(estimate(mean, ours).interval, estimate(mean, theirs).interval)
    with pytest.raises(ValueError, match="as many on both sides"):
        paired_difference([np.ones(3)], [np.ones(2)])


def test_intervals_hold_the_truth_about_as_often_as_they_say(fewer_resamples) -> None:
    """Of 250 experiments; a percentile bootstrap of 5 seeds is known to be too narrow, and docs/comparisons.md says by how much."""
    generator = np.random.default_rng(5)
    covered = {}
    for seeds in (5, 30):
        found = [estimate(interquartile_mean, [generator.normal(2, 1, seeds)], seed=trial) for trial in range(250)]
        covered[seeds] = np.mean([one.low <= 2 <= one.high for one in found])
    assert 0.90 <= covered[30] <= 0.98
    assert 0.82 <= covered[5] <= 0.94


def test_intervals_of_paired_differences_hold_the_truth(fewer_resamples) -> None:
    generator = np.random.default_rng(6)
    hits = 0
    for trial in range(250):
        shared, noise = generator.normal(0, 50, 30), generator.normal(0, 1, 30)
        found = paired_difference([shared + 0.5 + noise], [shared], seed=trial)
        hits += found.low <= 0.5 <= found.high
    assert 0.90 <= hits / 250 <= 0.98


def test_ties_count_half() -> None:
    assert probability_of_improvement([np.array([1.0, 2.0])], [np.array([1.0, 2.0])]).value == 0.5


def test_the_area_under_a_curve_is_its_mean_height() -> None:
    assert area_under_curve([0, 10, 40], [0, 2, 2]) == pytest.approx((10 + 60) / 40)
    assert area_under_curve([100, 200], [3, 3]) == 3
    assert area_under_curve([128], [4]) == 4


def test_the_same_scores_give_the_same_interval() -> None:
    assert estimate(interquartile_mean, ONE_TASK) == estimate(interquartile_mean, ONE_TASK)


def test_touching_intervals_overlap() -> None:
    assert overlap((0, 1), (1, 2))
    assert not overlap((0, 1), (1.1, 2))


def test_an_estimate_that_rounds_to_zero_is_shown_without_a_sign() -> None:
    found = Estimate(-0.001, -0.004, 0.02)
    assert (value_cell(found), interval_cell(found)) == ("0.00", "0.00 to 0.02")
