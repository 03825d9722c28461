"""The numbers of a report are those that the reference implementations and closed forms give."""

from math import lcm

import numpy as np
import pytest
from scipy.stats import bootstrap, trim_mean

from comparison.report.statistics import (
    Estimate,
    Scores,
    area_under_curve,
    estimate,
    exact_interquartile_mean,
    interquartile_mean,
    interquartile_mean_for,
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
UNEVEN = [GENERATOR.normal(middle, 1 + middle, runs) for middle, runs in ((0, 4), (2, 7), (5, 3))]
STATISTICS = {"iqm": interquartile_mean, "median": median, "mean": mean, "optimality_gap": optimality_gap}


def reference(name: str):
    """Return a module of rliable, the paper's own implementation."""
    return pytest.importorskip(f"rliable.{name}", reason="rliable is not installed: pip install -e '.[dev]'")


def matrix(scores: Scores) -> np.ndarray:
    return np.stack(scores, axis=1)


def middle_half(scores: Scores) -> float:
    """Integrate the weighted quantile function from 1/4 to 3/4, on a grid so fine that no step of it lies inside a cell."""
    cells = 4 * len(scores) * lcm(*(len(task) for task in scores))
    weighed = sorted((score, cells // len(scores) // len(task)) for task in scores for score in task)
    total = 0.0
    for cell in range(cells // 4, 3 * cells // 4):
        passed = 0
        for score, width in weighed:
            passed += width
            if passed > cell:
                total += score
                break
    return total / (cells // 2)


def repeated(scores: Scores, task: int, times: int) -> list[np.ndarray]:
    return [np.repeat(runs, times) if index == task else runs for index, runs in enumerate(scores)]


@pytest.fixture
def fewer_resamples(monkeypatch) -> None:
    """Hundreds of experiments do not need ten thousand resamples each."""
    monkeypatch.setattr("comparison.report.statistics.RESAMPLES", 1000)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 8, 11])
def test_the_interquartile_mean_is_scipys_trimmed_mean(count: int) -> None:
    scores = GENERATOR.normal(size=count)
    assert interquartile_mean([scores]) == pytest.approx(trim_mean(scores, 0.25))


@pytest.mark.parametrize("name", STATISTICS)
@pytest.mark.parametrize(("tasks", "runs"), [(2, 3), (2, 4), (2, 5), (3, 5), (3, 6), (4, 5), (5, 20)])
def test_statistics_over_tasks_are_rliables(name: str, tasks: int, runs: int) -> None:
    scores = [GENERATOR.normal(middle, 1 + middle, runs) for middle in range(tasks)]
    expected = getattr(reference("metrics"), f"aggregate_{name}")(matrix(scores))
    assert STATISTICS[name](scores) == pytest.approx(expected, rel=1e-12)


def test_a_task_that_lost_seeds_weighs_as_much_as_before() -> None:
    high, low = np.full(15, 0.9), np.full(15, 0.1)
    for scores in ([high, low], [high, low[:5]], [high[:4], low], [low[:1], high]):
        assert interquartile_mean(scores) == pytest.approx(0.5, rel=1e-12)
        # no run differs from the others of its task: nothing is open
        assert overlap(estimate(interquartile_mean, scores).interval, (0.5, 0.5))


@pytest.mark.parametrize("runs", [(4, 7, 3), (5, 4), (1, 9), (20, 3, 7, 7), (2, 3)])
def test_the_exact_interquartile_mean_integrates_the_middle_of_the_quantile_function(runs: tuple[int, ...]) -> None:
    scores = [GENERATOR.normal(2 * index, 1 + index, count) for index, count in enumerate(runs)]
    assert exact_interquartile_mean(scores) == pytest.approx(middle_half(scores), rel=1e-12)
    assert interquartile_mean(scores) == pytest.approx(middle_half(scores), rel=1e-12)


def test_of_equally_many_runs_that_four_divides_both_interquartile_means_are_one() -> None:
    for tasks, runs in ((1, 8), (2, 6), (4, 5), (3, 20)):
        scores = [GENERATOR.normal(index, 1, runs) for index in range(tasks)]
        assert exact_interquartile_mean(scores) == pytest.approx(interquartile_mean(scores), rel=1e-12)


@pytest.mark.parametrize("times", [2, 3, 10])
@pytest.mark.parametrize("task", [0, 1, 2])
def test_repeating_every_run_of_a_task_changes_no_number(task: int, times: int) -> None:
    again, thresholds = repeated(UNEVEN, task, times), np.linspace(-4, 12, 33)
    for statistic in (*STATISTICS.values(), exact_interquartile_mean):
        assert statistic(again) == pytest.approx(statistic(UNEVEN), rel=1e-12)
    assert performance_profile(again, thresholds)[0] == pytest.approx(performance_profile(UNEVEN, thresholds)[0], rel=1e-12)
    assert probability_of_improvement(again, OTHERS).value == pytest.approx(probability_of_improvement(UNEVEN, OTHERS).value, rel=1e-12)
    assert probability_of_improvement(OTHERS, again).value == pytest.approx(probability_of_improvement(OTHERS, UNEVEN).value, rel=1e-12)
    shifted = [runs - np.arange(len(runs)) for runs in UNEVEN]
    difference = paired_difference(UNEVEN, shifted).value
    assert paired_difference(again, repeated(shifted, task, times)).value == pytest.approx(difference, rel=1e-12)


def test_rows_that_are_compared_are_cut_alike() -> None:
    """Rounded down, 3 of 15 runs are cut off, and of as many scores with one run fewer on a task a whole quarter of the weight."""
    full = [np.zeros(5), np.zeros(5), np.ones(5)]
    fewer = [np.zeros(5), np.zeros(5), np.ones(4)]
    alike = interquartile_mean_for([full, fewer])
    assert alike(full) == pytest.approx(1 / 6)
    assert alike(fewer) == pytest.approx(1 / 6)
    doubled = [np.repeat(runs, 2) for runs in full]
    assert interquartile_mean_for([full, doubled])(doubled) == pytest.approx(1 / 6)
    assert interquartile_mean_for([full, full])(full) == pytest.approx(2 / 9)


def test_intervals_over_uneven_tasks_are_those_of_a_loop_over_resamples() -> None:
    generator = np.random.default_rng(8)
    drawn = [middle_half([generator.choice(runs, len(runs)) for runs in UNEVEN]) for _ in range(1500)]
    found = estimate(interquartile_mean, UNEVEN)
    assert found.interval == pytest.approx(tuple(np.percentile(drawn, [2.5, 97.5])), abs=0.08 * (found.high - found.low))


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


def test_a_run_that_scores_a_threshold_exactly_is_not_above_it() -> None:
    """Returns in Treechop are whole logs: one may well be a threshold."""
    shares, *band = performance_profile([np.array([0.0, 1.0])], np.array([-0.5, 0.0, 0.5, 1.0, 1.5]))
    assert shares.tolist() == [1, 0.5, 0.5, 0, 0]
    assert [ends[[0, -2, -1]].tolist() for ends in band] == [[1, 0, 0]] * 2


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


def test_rounding_keeps_no_two_intervals_apart() -> None:
    third = sum([0.1] * 3) / 3
    assert third != 0.1
    assert overlap((third, third), (0.1, 0.1))
    assert not overlap((0.1, 0.1), (0.1 + 1e-6, 0.2))


def test_an_estimate_that_rounds_to_zero_is_shown_without_a_sign() -> None:
    found = Estimate(-0.001, -0.004, 0.02)
    assert (value_cell(found), interval_cell(found)) == ("0.00", "0.00 to 0.02")
