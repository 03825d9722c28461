"""Plain sentences on what the intervals of a report allow to conclude, and what they do not."""

from comparison.report.estimates import Gap, RowSummary, Summary
from comparison.report.statistics import FEW_SEEDS, Estimate, overlap
from comparison.results import TaskResults

_LONG_LIST = 4


def conclusions(summary: Summary) -> list[str]:
    """Return sentences about one task, or about all tasks together; those that warn begin with "Warning"."""
    # what was told the answers is no rival
    finished = [one for one in summary.rows if one.iqm and not one.row.told]
    sentences = [_against_others(one, finished) for one in finished if one.row.kind == "encoder"]
    sentences += [_share_of(summary, gap) for gap in summary.gaps]
    warnings = [*_few_seeds(summary), *_collapsed(summary), *_failed(summary)]
    notes = [*_references(summary), *_restarted(summary), *_uneven(summary), *_untimed(summary), *_left_out(summary)]
    return [*sentences, *warnings, *notes, *_scope(summary)]


def _against_others(ours: RowSummary, finished: list[RowSummary]) -> str:
    assert ours.iqm
    above: list[str] = []
    below: list[str] = []
    open_: list[str] = []
    few: list[str] = []
    for theirs in finished:
        if theirs is ours or not theirs.iqm:
            continue
        if min(ours.fewest_seeds, theirs.fewest_seeds) < FEW_SEEDS:
            few.append(theirs.label)
        elif overlap(ours.iqm.interval, theirs.iqm.interval):
            open_.append(theirs.label)
        else:
            (above if ours.iqm.value > theirs.iqm.value else below).append(theirs.label)
    parts = []
    if above:
        parts.append(f"scores higher than {_named(above, finished)}")
    if below:
        parts.append(f"scores lower than {_named(below, finished)}")
    if open_:
        parts.append(f"overlaps with {_named(open_, finished)}, against which nothing can be concluded")
    if few:
        parts.append(f"has too few seeds to conclude anything against {_named(few, finished, 'any other row')}")
    return f"{ours.label} {'; it '.join(parts)}." if parts else f"{ours.label} has no row to be compared with."


def _named(labels: list[str], finished: list[RowSummary], everything: str = "all other rows") -> str:
    """List some of the rows; a long list of all but one says no more than that."""
    return everything if len(labels) == len(finished) - 1 > _LONG_LIST else _listed(labels)


def _share_of(summary: Summary, gap: Gap) -> str:
    """Say which share of a gap each row closes, or why that is not known."""
    named = f"the gap from {gap.bottom} to {gap.top}"
    if gap.unknown:
        return f"Which share of {named} a row closes is not known: {gap.unknown}."
    rows = {one.label: one for one in summary.rows}
    if min(rows[gap.bottom].fewest_seeds, rows[gap.top].fewest_seeds) < FEW_SEEDS:
        return f"Too few seeds to conclude which share of {named} a row closes."
    between = [one for one in summary.rows if one.row.algorithm == gap.algorithm and one.gap_closed and one.fewest_seeds >= FEW_SEEDS]
    shares = [f"{one.label} closes {share_cell(one.gap_closed)}" for one in between if one.label not in (gap.bottom, gap.top)]
    assert gap.found
    size = f"{gap.found.value:.2f} ({gap.found.low:.2f} to {gap.found.high:.2f})"
    return f"Of {named}, {size}, {_listed(shares)}." if shares else f"{named[:1].upper()}{named[1:]} is {size}."


def share_cell(share: Estimate | None) -> str:
    """Return a share of a gap with its interval, in percent, or a dash; the gap's ends are what they are, without one."""
    if share is None:
        return "–"
    if share.low == share.high:
        return f"{100 * share.value:z.0f} %"
    return f"{100 * share.value:z.0f} % ({100 * share.low:z.0f} to {100 * share.high:z.0f})"


def _references(summary: Summary) -> list[str]:
    found = [f"{one.label} ({one.row.told})" for one in summary.rows if one.row.told and one.iqm]
    return [f"References, no rivals: {_listed(found)}."] if found else []


def _few_seeds(summary: Summary) -> list[str]:
    agents = [one for one in summary.rows if one.row.kind != "player"]
    fewest = min((one.fewest_seeds for one in agents), default=0)
    if fewest >= FEW_SEEDS:
        return []
    return [
        f"Warning: {fewest} finished {'seed' if fewest == 1 else 'seeds'} in the smallest row. Intervals from fewer than "
        f"{FEW_SEEDS} seeds are too narrow to trust: read this as a check that everything works, not as evidence."
    ]


def _collapsed(summary: Summary) -> list[str]:
    found = [one.label for one in summary.rows if one.row.encoder and one.row.encoder.collapsed]
    if not found:
        return []
    return [f"Warning: {_listed(found)} collapsed: nearly all its latents carry no information, so its agents see next to nothing."]


def _failed(summary: Summary) -> list[str]:
    failed = sum(len(one.failures) for one in summary.rows)
    if not failed:
        return []
    listed = "run has no result and is" if failed == 1 else "runs have no result and are"
    return [f"Warning: {failed} {listed} listed as failed."]


def _restarted(summary: Summary) -> list[str]:
    runs, worlds = (sum(getattr(one.row, name) for one in summary.rows) for name in ("run_restarts", "restarts"))
    parts = []
    if runs:
        parts.append(f"runs were restarted {_times(runs)} (stopped, or their worker died) and resumed from their checkpoints")
    if worlds:
        parts.append(f"environments died {_times(worlds)} and were replaced (evaluation episodes that were cut off were played again)")
    return [f"Restarts: {'; '.join(parts)}."] if parts else []


def _uneven(summary: Summary) -> list[str]:
    """Name the evaluations that stand in no learning curve, since not every seed of a row was evaluated there."""
    if summary.normalised:
        return []
    left_out = {}
    for one in summary.rows:
        drawn = {step for step, _ in one.curve}
        left_out[one.label] = sorted({point.step for run in one.row.runs for point in run.curve} - drawn)
    named = [f"{label} ({_steps(steps)})" for label, steps in left_out.items() if steps]
    return [f"Not in the learning curves, since not every seed was evaluated there: {_listed(named)}."] if named else []


def _steps(steps: list[int]) -> str:
    more = f" and {len(steps) - _LONG_LIST} more" if len(steps) > _LONG_LIST else ""
    return f"{', '.join(f'{step:,}' for step in steps[:_LONG_LIST])}{more} steps"


def _untimed(summary: Summary) -> list[str]:
    """Name the rows whose learning curves cannot be drawn against seconds."""
    without = [one for one in summary.rows if len(one.curve) > 1 and not one.timed_curve]
    known = {one.label: all(point.seconds is not None for run in one.row.runs for point in run.curve) for one in without}
    sentences = []
    if rows := [label for label, there in known.items() if not there]:
        sentences.append(f"No seconds are known for the points of the learning curves of {_listed(rows)}: that figure is without them.")
    if rows := [label for label, there in known.items() if there]:
        sentences.append(f"No seconds are shared by all seeds of {_listed(rows)}: the figure against seconds is without them.")
    return sentences


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


def _left_out(summary: Summary) -> list[str]:
    return [f"Not in these numbers: {_listed(summary.left_out)}."] if summary.left_out else []


def _scope(summary: Summary) -> list[str]:
    if summary.normalised:
        scales = "; ".join(_scale(task) for task in summary.tasks)
        return [
            f"Scores are normalised by task, 0 the random policy and 1 the target: {scales}. Both ends are treated as exact, without an "
            "interval of their own."
        ]
    task = summary.tasks[0]
    sentence = (
        f"All agents had {task.steps:,} steps of {task.step_length}; this does not show what they would score with more. "
        f"Intervals are over agent seeds, on the same {task.evaluation['final_episodes']} evaluation worlds for every row."
    )
    if task.target is None:
        return [sentence + " No target score is known for this task: there is no optimality gap and no normalised score."]
    return [f"{sentence} Normalised scores: {_scale(task)}."]


def _scale(task: TaskResults) -> str:
    assert task.target
    return f"{task.name}: 0 is {task.target.random:.2f} (random policy), 1 is {task.target.score:.2f} ({task.target.source})"


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
