"""What results come to: estimates for every row of a task, and over tasks with scores normalised by each task's target."""

from dataclasses import replace
from typing import Any

import numpy as np

from comparison.report.estimates import Pair, RowSummary, Summary
from comparison.report.gap import with_gaps
from comparison.report.probes import correlations, probe_columns, probed
from comparison.report.statistics import (
    Estimate,
    Scores,
    Statistic,
    area_under_curve,
    estimate,
    interquartile_mean,
    interquartile_mean_for,
    mean,
    median,
    on_common_grid,
    optimality_gap,
    paired_difference,
    performance_profile,
    probability_of_improvement,
)
from comparison.results import ORDER, RowResults, TaskResults

THRESHOLDS = 101
TIMED_POINTS = 33
"""Of a learning curve against seconds, whose evaluations are at other times in every run."""
ALL_TASKS = "all tasks"


def summarise(tasks: list[TaskResults]) -> list[Summary]:
    """Return a summary of each task; before them one of all tasks, where several have a target and a row that learned on all of them."""
    single = [_summary(task.name, [task], [_row_summary(task, row) for row in task.rows]) for task in tasks]
    scaled = [task for task in tasks if task.target is not None]
    together = _over_tasks(tasks, scaled) if len(scaled) > 1 else None
    return [together, *single] if together and any(one.row.kind != "player" for one in together.rows) else single


def _row_summary(task: TaskResults, row: RowResults) -> RowSummary:
    scores, seeds = [np.array(row.scores)], [[run.seed for run in row.runs]]
    if not row.runs:
        return RowSummary(row, scores, seeds, row.failures)
    target = task.target
    areas = _areas(row)
    curved = len(areas) > 0
    return RowSummary(
        row,
        scores,
        seeds,
        row.failures,
        iqm=estimate(interquartile_mean, scores),
        median=estimate(median, scores),
        mean=estimate(mean, scores),
        optimality_gap=estimate(optimality_gap, [target.normalised(scores[0])]) if target else None,
        area=estimate(interquartile_mean, [areas]) if curved else None,
        normalised_area=estimate(interquartile_mean, [target.normalised(areas)]) if curved and target else None,
        curve=_curve(row),
        timed_curve=_timed_curve(row),
        seconds=row.seconds,
    )


def _curve(row: RowResults) -> list[tuple[int, Estimate]]:
    """Estimate the learning curve where every finished seed was evaluated."""
    points: dict[int, list[float]] = {}
    for run in row.runs:
        for point in run.curve:
            points.setdefault(point.step, []).append(point.score)
    whole = [(step, scores) for step, scores in sorted(points.items()) if len(scores) == len(row.runs)]
    return [(step, estimate(interquartile_mean, [np.array(scores)])) for step, scores in whole]


def _timed_curve(row: RowResults) -> list[tuple[float, Estimate]]:
    """Estimate the learning curve against seconds of training, where every seed knows them, on the stretch that all seeds share."""
    curves = [([point.seconds for point in run.curve], [point.score for point in run.curve]) for run in row.runs]
    known = [(times, scores) for times, scores in curves if times and None not in times]
    if not curves or len(known) < len(curves):
        return []
    grid, scores_RG = on_common_grid(known, TIMED_POINTS)  # type: ignore[arg-type]
    return [(float(at), estimate(interquartile_mean, [scores_RG[:, index]])) for index, at in enumerate(grid)]


def _over_tasks(tasks: list[TaskResults], scaled: list[TaskResults]) -> Summary:
    labels = list(dict.fromkeys(row.label for task in scaled for row in task.rows))
    whole, left_out = [], [f"{task.name} (no target is known)" for task in tasks if task not in scaled]
    for label in labels:
        found = [next((row for row in task.rows if row.label == label), None) for task in scaled]
        everywhere = [row for row in found if row is not None and row.runs]
        if len(everywhere) < len(scaled):
            left_out.append(f"{label} (no finished run on every task)")
        else:
            whole.append(everywhere)
    whole.sort(key=lambda everywhere: ORDER.index(everywhere[0].kind))
    return _summary(ALL_TASKS, scaled, _rows_over_tasks(scaled, whole), left_out)


def _rows_over_tasks(tasks: list[TaskResults], rows: list[list[RowResults]]) -> list[RowSummary]:
    """Estimate rows that have finished runs on every task; their interquartile means are all cut in the same way."""
    scores = [[_normalised(task, row.scores) for task, row in zip(tasks, everywhere, strict=True)] for everywhere in rows]
    areas = [[_normalised(task, _areas(row)) for task, row in zip(tasks, everywhere, strict=True)] for everywhere in rows]
    curved = [one if all(len(task) for task in one) else [] for one in areas]
    of_scores, of_areas = interquartile_mean_for(scores), interquartile_mean_for(curved)
    return [
        replace(_row_over_tasks(everywhere, found, of_scores), normalised_area=estimate(of_areas, heights) if heights else None)
        for everywhere, found, heights in zip(rows, scores, curved, strict=True)
    ]


def _row_over_tasks(rows: list[RowResults], scores: Scores, middle: Statistic) -> RowSummary:
    seconds = [row.seconds for row in rows if row.seconds is not None]
    return RowSummary(
        replace(rows[0], runs=[run for row in rows for run in row.runs]),
        list(scores),
        [[run.seed for run in row.runs] for row in rows],
        [failure for row in rows for failure in row.failures],
        iqm=estimate(middle, scores),
        median=estimate(median, scores),
        mean=estimate(mean, scores),
        optimality_gap=estimate(optimality_gap, scores),
        seconds=float(np.mean(seconds)) if seconds else None,
    )


def _normalised(task: TaskResults, scores: Any) -> np.ndarray:
    assert task.target
    return task.target.normalised(scores)


def _areas(row: RowResults) -> np.ndarray:
    curves = [run.curve for run in row.runs if run.curve]
    return np.array([area_under_curve([point.step for point in curve], [point.score for point in curve]) for curve in curves])


def _summary(name: str, tasks: list[TaskResults], rows: list[RowSummary], left_out: list[str] | None = None) -> Summary:
    together = len(tasks) > 1
    rows, gaps = with_gaps(rows, interquartile_mean_for([one.scores for one in rows]) if together else interquartile_mean)
    finished = [one for one in rows if one.fewest_seeds]
    learners = [one for one in finished if one.row.kind != "player"]
    thresholds = _thresholds(learners or finished)
    return Summary(
        name,
        tasks,
        rows,
        _improvements(learners, finished),
        _differences(learners),
        thresholds,
        {one.row.key: performance_profile(one.scores, thresholds) for one in finished},
        left_out or [],
        gaps,
        # encoders of one name may differ by task, and their probes do
        [] if together else correlations(rows),
    )


def _thresholds(rows: list[RowSummary]) -> np.ndarray:
    """Cover the rows' scores, and zero; a player's may lie far above those of all agents."""
    every = [0.0, *(score for one in rows for score in one.all_scores)]
    margin = 0.05 * (max(every) - min(every)) or 1.0
    return np.linspace(min(every) - margin, max(every) + margin, THRESHOLDS)


def _improvements(learners: list[RowSummary], against: list[RowSummary]) -> list[Pair]:
    pairs: dict[tuple[str, str], Estimate] = {}
    for ours in learners:
        for theirs in against:
            mirrored = pairs.get((theirs.row.key, ours.row.key))
            if theirs is not ours:
                found = _mirrored(mirrored) if mirrored else probability_of_improvement(ours.scores, theirs.scores)
                pairs[ours.row.key, theirs.row.key] = found
    labels = {one.row.key: one.label for one in against}
    return [Pair(labels[row], labels[over], found) for (row, over), found in pairs.items()]


def _mirrored(one: Estimate) -> Estimate:
    return Estimate(1 - one.value, 1 - one.high, 1 - one.low)


def _differences(learners: list[RowSummary]) -> list[Pair]:
    pairs = [(ours, theirs) for index, ours in enumerate(learners) for theirs in learners[index + 1 :] if ours.row.kind == "encoder"]
    found = [_difference(ours, theirs) for ours, theirs in pairs]
    return [pair for pair in found if pair is not None]


def _difference(ours: RowSummary, theirs: RowSummary) -> Pair | None:
    """Compare two rows on the seeds that both have; None where a task has no such seed."""
    a_scores, b_scores = [], []
    for index, (a, b) in enumerate(zip(ours.seeds, theirs.seeds, strict=True)):
        shared = sorted(set(a) & set(b))
        a_scores.append(ours.scores[index][[a.index(seed) for seed in shared]])
        b_scores.append(theirs.scores[index][[b.index(seed) for seed in shared]])
    pairs = min(len(scores) for scores in a_scores)
    return Pair(ours.label, theirs.label, paired_difference(a_scores, b_scores), pairs) if pairs else None


def to_table(summaries: list[Summary]) -> list[dict[str, Any]]:
    """Return a line a row, as `comparison.json` and `rows.csv` hold it; all have the same entries."""
    targets = list(probed([one for summary in summaries for one in summary.rows]))
    return [_table_line(summary, one, targets) for summary in summaries for one in summary.rows]


def _table_line(summary: Summary, one: RowSummary, targets: list[str]) -> dict[str, Any]:
    encoder = one.row.encoder
    numbers: dict[str, float | None] = {}
    for name in ("iqm", "median", "mean", "optimality_gap", "area", "normalised_area", "gap_closed"):
        found: Estimate | None = getattr(one, name)
        numbers[name] = found.value if found else None
        numbers[f"{name}_low"], numbers[f"{name}_high"] = found.interval if found else (None, None)
    speed = encoder.speed if encoder else None
    return {
        "task": summary.name,
        "row": one.label,
        "kind": one.row.kind,
        "algorithm": one.row.algorithm,
        "seeds": one.fewest_seeds,
        "failed": len(one.failures),
        **numbers,
        "normalised": summary.normalised,
        "seconds": one.seconds,
        **_costs(summary, one),
        "restarts": one.row.restarts,
        "run_restarts": one.row.run_restarts,
        "encoder": encoder.name if encoder else None,
        "latents": int(np.prod(encoder.latents)) if encoder else None,
        "encoder_parameters": encoder.parameters if encoder else None,
        "policy_parameters": one.row.policy_parameters,
        "learning_parameters": one.row.learning_parameters,
        "frozen_parameters": one.row.frozen_parameters,
        "agent_preset": one.row.preset,
        "own_settings": settings_line(one.row) or None,
        "tuning": one.row.tuning,
        "encode_milliseconds": speed.milliseconds if speed else None,
        "encode_frames_per_second": round(speed.frames_per_second, 1) if speed else None,
        "encode_batch": speed.batch if speed else None,
        "encode_device": speed.device if speed else None,
        "encoder_collapsed": encoder.collapsed if encoder else None,
        "learned_from": encoder.learned_from if encoder else None,
        "told": one.row.told,
        **probe_columns(one, targets),
    }


def settings_line(row: RowResults) -> str:
    """Return the settings in which a row differs from rows on latents, in one line."""
    return ", ".join(f"{name} {_setting(value)}" for name, value in row.own_settings.items())


def _setting(value: Any) -> str:
    return (" ".join(map(str, value)) or "none") if isinstance(value, list) else f"{value:g}" if isinstance(value, float) else str(value)


def _costs(summary: Summary, one: RowSummary) -> dict[str, Any]:
    """Return what a run of a row took, on one task; runs of several tasks differ."""
    row, steps = one.row, None if summary.normalised else one.row.steps
    evaluating = [run.evaluation_seconds for run in row.runs if run.evaluation_seconds is not None]
    return {
        "evaluation_seconds": float(np.mean(evaluating)) if evaluating and not summary.normalised else None,
        "machine": "; ".join(row.machines) or None,
        "steps": steps,
        "environment_steps": None if steps is None else steps * summary.tasks[0].frame_skip,
    }


def curve_lines(summaries: list[Summary]) -> list[dict[str, Any]]:
    """Return a line a point of every learning curve: `against` steps (agent steps) or seconds (of training, without evaluation)."""
    found = []
    for summary in summaries:
        for one in summary.rows:
            for against, curve in (("steps", one.curve), ("seconds", one.timed_curve)):
                numbers = [{"at": at, "iqm": point.value, "low": point.low, "high": point.high} for at, point in curve]
                found += [{"task": summary.name, "row": one.label, "against": against, **line} for line in numbers]
    return found
