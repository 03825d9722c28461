"""A report as one HTML page that needs no network: figures and films stand inside it."""

import base64
import html
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import yaml

from agents.run.pictures import FILM, STRIP
from comparison.encoder_facts import EncoderFacts, validation_line
from comparison.report.conclusions import conclusions
from comparison.report.estimates import Pair, RowSummary, Summary
from comparison.report.plots import on_page, row_colours
from comparison.report.probes import LEAST_ROWS, TITLE, probe_lines
from comparison.report.statistics import FEW_SEEDS, RESAMPLES, Estimate
from comparison.report.summary import settings_line
from comparison.report.tables import count_cell, failures, interval_cell, not_asked_line, restarts_cell, seeds_cell, value_cell
from comparison.results import RowResults, TaskResults
from foundation.outside import read_regular

MOST_FILM_BYTES = 6_000_000
"""Films of later rows are left out of the page above this; they lie beside the runs."""

_NOTES = ("All agents", "No seconds", "Scores are", "Not in", "Restarts", "Also in", "References", "Which share", "Too few")
STYLE = Path(__file__).with_name("report.css")
_CAPTIONS = {
    "intervals": "Interquartile mean and 95 % interval of each row",
    "curves": "Learning curves against agent steps",
    "curves_seconds": "Learning curves against seconds of training",
    "profiles": "Performance profiles: the share of agents that score above each threshold",
}


def page(
    summaries: list[Summary], tasks: list[TaskResults], drawings: dict[str, dict[str, str]], command: str, not_asked: Sequence[str] = ()
) -> str:
    """Return the page; `drawings` holds the SVG figures of each summary, by its name and the figure's."""
    title = "Encoders compared on " + " and ".join(dict.fromkeys(task.name for task in tasks))
    colours = row_colours(summaries)
    sections = [f"<h1>{_text(title)}</h1><p class=lead>{_text(_lead(tasks))}</p>", *map(_finding, not_asked_line(not_asked))]
    for number, summary in enumerate(summaries):
        sections += _summary_sections(summary, colours, drawings[summary.name], f"s{number}-", len(summaries) > 1)
    sections += [
        _encoders(tasks),
        _films(tasks),
        _failures(summaries),
        "<h2>Commands and versions</h2><pre>" + _text("\n".join([*_commands(tasks, command), "", _versions(tasks)])) + "</pre>",
        "".join(_settings(task) for task in tasks),
        f"<footer>{_text(_method())} Written {time.strftime('%Y-%m-%d %H:%M')}.</footer>",
    ]
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1"><title>{_text(title)}</title>'
    # else a browser asks a server for one
    head += f'<link rel="icon" href="data:,"><style>\n{STYLE.read_text()}</style>'
    body = "\n".join(section for section in sections if section)
    return f'<!doctype html>\n<html lang="en"><head>{head}</head><body><main>\n{body}\n</main></body></html>\n'


def _lead(tasks: list[TaskResults]) -> str:
    parts = ["Episode return of agents that see an encoder's latents, beside controls and players that do not learn."]
    for task in tasks:
        seeds = "1 seed" if task.seeds == 1 else f"{task.seeds} seeds"
        parts.append(
            f"{task.name}: {seeds} a row, {task.steps:,} agent steps of {task.step_length}, "
            f"{task.evaluation['final_episodes']} evaluation episodes on worlds that training never saw, the same for every row."
        )
    if any(task.name.startswith("Voxel") for task in tasks):
        parts.append("The voxel world is a stand-in for Minecraft, not Minecraft.")
    return " ".join(parts)


def _summary_sections(summary: Summary, colours: dict[str, str], drawings: dict[str, str], prefix: str, named: bool) -> list[str]:
    sections = [f"<h2 class=task>{_text(summary.name[:1].upper() + summary.name[1:])}</h2>"] if named else []
    sections += [_finding(sentence) for sentence in conclusions(summary)]
    sections.append("<h3>Results</h3>" + _results_table(summary, colours))
    for name, drawing in drawings.items():
        label = f'role="img" aria-label="{_text(f"{_CAPTIONS[name]}, {summary.name}")}"'
        figure = f"<figure><figcaption>{_text(_CAPTIONS[name])}</figcaption><div class=scroll><div class=figure {label}>"
        sections.append(figure + on_page(drawing, f"{prefix}{name}-") + "</div></div></figure>")
    sections.append(_costs_table(summary, colours))
    return [*sections, _improvement_matrix(summary, colours), _differences_table(summary), _probes_table(summary)]


def _finding(sentence: str) -> str:
    kind = "warning" if sentence.startswith("Warning") else "note" if sentence.startswith(_NOTES) else ""
    return f'<p class="finding {kind}">{_text(sentence)}</p>'


def _results_table(summary: Summary, colours: dict[str, str]) -> str:
    scaled = summary.normalised or summary.tasks[0].target is not None
    heads = ["row", "seeds", "IQM", "median", "mean", *(["optimality gap"] if scaled else [])]
    heads += ["area under curve"] if not summary.normalised else []
    heads += ["normalised area"] if scaled else []
    shared = any(one.gap_closed for one in summary.rows)
    heads += ["untrained to oracle"] if shared else []
    lines = []
    for one in summary.rows:
        found = [one.iqm, one.median, one.mean, *([one.optimality_gap] if scaled else [])]
        found += [one.area] if not summary.normalised else []
        found += [one.normalised_area] if scaled else []
        nothing = ["<td class=bad>failed</td>", *["<td></td>"] * (len(found) - 1)]
        cells = [_estimate_cell(number) for number in found] if one.iqm else nothing
        cells += [_share_cell(one.gap_closed)] if shared else []
        lines.append(f"<tr>{_name_cell(one, colours)}<td>{_text(seeds_cell(summary, one))}</td>{''.join(cells)}</tr>")
    return _table(heads, lines, "results")


def _costs_table(summary: Summary, colours: dict[str, str]) -> str:
    """Say what a run of each row took; over several tasks, look at each."""
    rows = [one for one in summary.rows if one.row.steps is not None]
    if summary.normalised or not rows:
        return ""
    heads = ["row", "agent steps", "game ticks", "seconds a run", "steps/s", "weights that learn", "frozen weights", "settings of its own"]
    lines = []
    for one in rows:
        row, steps = one.row, one.row.steps or 0.0
        rate = None if not one.seconds else steps / one.seconds
        counts = [steps, steps * summary.tasks[0].frame_skip, one.seconds, rate, row.learning_parameters, row.frozen_parameters]
        own = f"<td class=left>{_text(settings_line(row) or '–')}<small>{_text(_origin(row))}</small></td>"
        lines.append(f"<tr>{_name_cell(one, colours)}{''.join(f'<td>{count_cell(count)}</td>' for count in counts)}{own}</tr>")
    return f"<h3>What a run takes</h3><p>{_text(_costs_note(rows))}</p>" + _table(heads, lines, "costs")


def _origin(row: RowResults) -> str:
    return "; ".join([*([f"preset {row.preset}"] if row.preset else []), *([f"tuned: {row.tuning}"] if row.tuning else [])])


def _costs_note(rows: Sequence[RowSummary]) -> str:
    machines = list(dict.fromkeys(name for one in rows for name in one.row.machines))
    where = f"on {', '.join(machines)}" if machines else "on a machine that was not recorded"
    return (
        f"Means over finished seeds. Seconds are of training, without evaluation, {where}, beside whatever else it did. Weights that learn "
        "are those that the optimizers change, without target networks; frozen ones are those that a frame passes through and that stay as "
        "they are, without a decoder and without what is computed in place of learned (PCA: 0). A dash: not recorded, or not known. "
        "Settings are those in which a row differs from rows on latents."
    )


def _name_cell(one: RowSummary, colours: dict[str, str]) -> str:
    collapsed = " (collapsed)" if one.row.encoder and one.row.encoder.collapsed else ""
    told = f"<small>{_text(one.row.told)}</small>" if one.row.told else ""
    return f'<th scope=row><span class=dot style="background:{colours[one.label]}"></span>{_text(one.label)}{collapsed}{told}</th>'


def _estimate_cell(found: Estimate | None) -> str:
    if found is None:
        return "<td>–</td>"
    return f"<td>{value_cell(found)}<small>{interval_cell(found)}</small></td>"


def _share_cell(share: Estimate | None) -> str:
    if share is None:
        return "<td>–</td>"
    return f"<td>{100 * share.value:z.0f} %<small>{100 * share.low:z.0f} to {100 * share.high:z.0f}</small></td>"


def _improvement_matrix(summary: Summary, colours: dict[str, str]) -> str:
    if not summary.improvements:
        return ""
    found = {(pair.row, pair.over): pair.found for pair in summary.improvements}
    columns = [one for one in summary.rows if one.iqm]
    lines = []
    for ours in columns:
        if ours.row.kind != "player":
            cells = "".join(_improvement_cell(found.get((ours.label, theirs.label))) for theirs in columns)
            lines.append(f"<tr>{_name_cell(ours, colours)}{cells}</tr>")
    intro = (
        "How often a randomly chosen agent of the row on the left scores above one of the column; ties count half. "
        f"Below, the 95 % interval; coloured where it leaves out 50 %, if every row has {FEW_SEEDS} seeds or more."
    )
    few = [one.label for one in columns if one.fewest_seeds < FEW_SEEDS]
    kind = "matrix few" if few else "matrix"
    return f"<h3>Probability of improvement</h3><p>{_text(intro)}</p>" + _table(["", *(one.label for one in columns)], lines, kind)


def _improvement_cell(found: Estimate | None) -> str:
    if found is None:
        return "<td class=self></td>"
    kind = "higher" if found.low > 0.5 else "lower" if found.high < 0.5 else ""
    return f'<td class="{kind}">{100 * found.value:.0f} %<small>{100 * found.low:.0f} to {100 * found.high:.0f}</small></td>'


def _differences_table(summary: Summary) -> str:
    if not summary.differences:
        return ""
    unit = "normalised score" if summary.normalised else summary.tasks[0].unit or "return"
    intro = (
        f"Agents of the same seed trained on the same worlds: the mean difference between them ({unit}), pairs resampled whole. An "
        "interval that holds 0 decides nothing. One that does not, between rows whose own intervals overlap, is a reason for more seeds."
    )
    lines = [_difference_line(pair) for pair in summary.differences]
    heads = ["row", "minus", "pairs", "difference", "95 % interval"]
    return f"<h3>Paired differences</h3><p>{_text(intro)}</p>" + _table(heads, lines, "pairs")


def _difference_line(pair: Pair) -> str:
    cells = [pair.over, str(pair.pairs), f"{pair.found.value:+.2f}", f"{pair.found.low:+.2f} to {pair.found.high:+.2f}"]
    return f"<tr><th scope=row>{_text(pair.row)}</th>{''.join(f'<td>{_text(cell)}</td>' for cell in cells)}</tr>"


def _probes_table(summary: Summary) -> str:
    headings, cells = probe_lines(summary)
    if not cells:
        return ""
    intro = (
        "Scores of probes on held-out recordings, as evaluate_encoder.py found them; pca and untrained as the first encoder's judge found "
        f"them. Rank correlation (Spearman) with the IQM over the rows that have both, from {LEAST_ROWS} rows on: with so few rows, a hint "
        "at what matters to agents, not evidence."
    )
    lines = [f"<tr><th scope=row>{_text(line[0])}</th>{''.join(f'<td>{_text(cell)}</td>' for cell in line[1:])}</tr>" for line in cells]
    return f"<h3>{_text(TITLE)}</h3><p>{_text(intro)}</p>" + _table(headings, lines, "probes")


def _encoders(tasks: list[TaskResults]) -> str:
    heads = ["row", "latents", "encoder weights", "policy weights", "ms a frame", "frames/s"]
    heads += ["started again", "learned from", "validation"]
    heads = ["task", *heads] if len(tasks) > 1 else heads
    lines, speeds = [], []
    for task in tasks:
        for row in task.rows:
            if row.player or not row.runs:
                continue
            latents, weights, milliseconds, rate, seen, validation = _encoder_cells(row.encoder)
            policy = f"{row.policy_parameters:,}" if row.policy_parameters else "–"
            cells = [latents, weights, policy, milliseconds, rate, restarts_cell(row), seen, validation]
            lines.append(
                f"<tr>{f'<td class=left>{_text(task.name)}</td>' if len(tasks) > 1 else ''}<th scope=row>{_text(row.label)}</th>"
                + "".join(f"<td>{_text(cell)}</td>" for cell in cells)
                + "</tr>"
            )
            if row.encoder and row.encoder.speed:
                speed = row.encoder.speed
                threads = f"{speed.threads} {'thread' if speed.threads == 1 else 'threads'}"
                speeds.append(f"a batch of {speed.batch} frames on {speed.device} ({speed.machine}, {threads})")
    if not lines:
        return ""
    measured = f" Times are medians of {' and of '.join(dict.fromkeys(speeds))}, while the machine may have been busy." if speeds else ""
    note = (
        "Encoder weights are the whole model's, decoder and heads included. Validation is on held-out recordings, before any agent."
        + measured
    )
    return f"<h2>What the agents look through</h2><p>{_text(note)}</p>" + _table(heads, lines, "encoders")


def _encoder_cells(facts: EncoderFacts | None) -> list[str]:
    """Return latents, weights, ms a frame, frames/s, what it learned from, validation."""
    if facts is None:
        return ["–"] * 6
    speed = [f"{facts.speed.milliseconds:.3f}", f"{facts.speed.frames_per_second:,.0f}"] if facts.speed else ["not measured"] * 2
    found = ("COLLAPSED: " if facts.collapsed else "") + validation_line(facts) or "–"
    return [f"{int(np.prod(facts.latents))}", f"{facts.parameters:,}", *speed, facts.learned_from or "–", found]


def _films(tasks: list[TaskResults]) -> str:
    """The first evaluation episode of each row's first seed, as the runs wrote it."""
    figures, used = [], 0
    for task in tasks:
        for row in task.rows:
            content = _film(row.pictures, MOST_FILM_BYTES - used)
            if content is not None:
                kind, data = content
                used += len(data)
                where = f"{row.label}, {task.name}" if len(tasks) > 1 else row.label
                shown = row.encoder is not None and row.encoder.generates
                seen = "what the agent saw, and what its encoder reconstructs" if shown else _seen_by(row)
                caption = f"<figcaption><b>{_text(where)}</b>: {seen}; return {row.runs[0].returns[0]:.2f}</figcaption>"
                figures.append(f'<figure class="{kind}">{_image(data, kind, f"Frames of {where}")}{caption}</figure>')
    if not figures:
        return ""
    intro = "First evaluation world, first finished seed; films run at four times the game's speed. One episode says little about a row."
    return f"<h2>What the agents saw</h2><p>{intro}</p><div class=films>{''.join(figures)}</div>"


def _seen_by(row: RowResults) -> str:
    return "what stood before it, which it was told of in numbers" if row.control == "oracle" else "what it saw"


def _film(folder: str | None, room: int) -> tuple[str, bytes] | None:
    for kind, name, signature in (("film", FILM, b"RIFF"), ("strip", STRIP, b"\x89PNG")):
        path = Path(folder or "", name)
        if folder and path.is_file() and not path.is_symlink() and path.stat().st_size <= room:
            content = read_regular(path)
            # somebody else's folder may name any file, and the page is passed on
            if content.startswith(signature):
                return kind, content
    return None


def _failures(summaries: list[Summary]) -> str:
    listed = failures(summaries)
    return "<h2>Failed runs</h2><pre>" + _text("\n".join(listed)) + "</pre>" if listed else ""


def _commands(tasks: list[TaskResults], command: str) -> list[str]:
    return list(dict.fromkeys([*(line for task in tasks for line in task.commands), command]))


def _versions(tasks: list[TaskResults]) -> str:
    return "\n".join(dict.fromkeys(", ".join(f"{name} {number}" for name, number in task.versions.items()) for task in tasks))


def _settings(task: TaskResults) -> str:
    content = yaml.safe_dump({**task.settings, "algorithms": task.algorithms}, sort_keys=False)
    return f"<details><summary>Settings: {_text(task.name)}</summary><pre>{_text(content)}</pre></details>"


def _method() -> str:
    return (
        "A seed's score is its mean return over the final evaluation episodes. Over several tasks each weighs the same, however many of "
        "its seeds finished. IQM: interquartile mean (a quarter of the scores, rounded down, cut off at either end; over several tasks "
        "with different numbers of seeds, exactly a quarter of the weight). Median: of the runs of one task, or of the means of "
        "several tasks. Optimality gap: mean shortfall from the target in normalised scores. Area: mean height of the learning curve "
        f"between its first and its last evaluation. Intervals: 95 % percentile bootstrap over seeds, stratified by task, {RESAMPLES:,} "
        "resamples (Agarwal et al. 2021)."
    )


def _table(headings: list[str], lines: list[str], kind: str) -> str:
    head = "".join(f"<th scope=col>{_text(heading)}</th>" for heading in headings)
    return f'<div class=scroll><table class="{kind}"><thead><tr>{head}</tr></thead><tbody>{"".join(lines)}</tbody></table></div>'


def _image(content: bytes, kind: str, description: str) -> str:
    form = "webp" if kind == "film" else "png"
    return f'<img alt="{_text(description)}" src="data:image/{form};base64,{base64.b64encode(content).decode()}">'


def _text(text: str) -> str:
    return html.escape(str(text))
