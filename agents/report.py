"""A comparison's report: JSON, CSV, figures, and one HTML file that needs no network."""

import base64
import html
import json
import platform
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console
from rich.table import Table

from agents.comparison import Comparison
from agents.config import plain
from agents.plots import curves_figure, intervals_figure, row_colours
from agents.summary import RowSummary, conclusions, improvements, summarise, to_csv, to_json
from foundation.files import write_atomically

_PACKAGES = ("torch", "stable-baselines3", "gymnasium", "ray", "numpy")

_STYLE = Path(__file__).with_name("report.css")


def write_report(comparison: Comparison, command: str) -> list[RowSummary]:
    """Write `comparison.json`, `comparison.csv`, `intervals.png`, `curves.png` and `report.html`; return the summaries."""
    summaries = summarise(comparison)
    folder = comparison.config.run
    about = {
        "format": 1,
        "command": command,
        "settings": plain(comparison.config),
        "pixels_algorithm": plain(comparison.pixels),
        "versions": {"python": platform.python_version(), **{name: version(name) for name in _PACKAGES}},
    }
    figures = {"intervals": intervals_figure(comparison, summaries), "curves": curves_figure(comparison, summaries)}
    for name, content in figures.items():
        write_atomically(folder / f"{name}.png", content)
    write_atomically(folder / "comparison.csv", to_csv(summaries))
    write_atomically(folder / "comparison.json", json.dumps(to_json(comparison, summaries, about), indent=2) + "\n")
    write_atomically(folder / "report.html", _page(comparison, summaries, figures, about))
    return summaries


def print_table(comparison: Comparison, summaries: list[RowSummary]) -> None:
    """Print the comparison's table and its conclusions."""
    config = comparison.config
    title = (
        f"{config.environment.name}: return of {config.evaluation.final_episodes} evaluation episodes after {config.steps:,} agent steps"
    )
    table = Table(title=title, title_justify="left", title_style="bold")
    for position, heading in enumerate(_HEADINGS):
        table.add_column(heading, justify="left" if position == 0 else "right", no_wrap=position in (0, 3))
    for one in summaries:
        table.add_row(*_cells(comparison, one), style="red" if not one.scores else None)
    # not to a terminal, a table is as wide as it needs to be
    console = Console(markup=False)
    console.width = max(console.width, 118) if not console.is_terminal else console.width
    console.print(table)
    for sentence in conclusions(comparison, summaries):
        console.print(sentence, highlight=False)
    for one in summaries:
        for failure in one.failures:
            console.print(f"failed: {failure}", highlight=False, style="red", markup=False)


_HEADINGS = ("row", "seeds", "IQM", "95 % interval", "mean", "seconds a run", "latents", "encoder weights", "policy weights")


def _cells(comparison: Comparison, one: RowSummary) -> list[str]:
    asked = comparison.config.seeds
    seeds = f"{len(one.scores)}" if len(one.scores) == asked else f"{len(one.scores)} of {asked}"
    if one.iqm is None or one.interval is None or one.mean is None:
        return [one.label, seeds, "failed", *[""] * (len(_HEADINGS) - 3)]
    encoder = one.about("encoder")
    latents = "×".join(str(size) for size in encoder["latents"]) if encoder else "–"
    interval = f"{one.interval[0]:.2f} – {one.interval[1]:.2f}"
    sizes = [f"{one.about(key):,}" if one.about(key) else "–" for key in ("encoder_parameters", "policy_parameters")]
    seconds = "–" if one.seconds is None else f"{one.seconds:,.0f}"
    return [one.label, seeds, f"{one.iqm:.2f}", interval, f"{one.mean:.2f}", seconds, latents, *sizes]


def _page(comparison: Comparison, summaries: list[RowSummary], figures: dict[str, bytes], about: dict[str, Any]) -> str:
    config = comparison.config
    title = f"Encoders compared on {config.environment.name}"
    lead = (
        "Episode return of agents that see an encoder's latents, beside controls and players that do not learn. "
        f"{config.seeds} seeds a row, {config.steps:,} agent steps of {config.environment.frame_skip} game ticks, "
        f"{config.evaluation.final_episodes} evaluation episodes on worlds that training never saw, the same for every row."
    )
    if config.environment.name.startswith("Voxel"):
        lead += " The voxel world is a stand-in for Minecraft, not Minecraft."
    sections = [
        f"<h1>{_text(title)}</h1><p class=lead>{_text(lead)}</p>",
        *[_finding(sentence) for sentence in conclusions(comparison, summaries)],
        "<h2>Results</h2>" + _results_table(comparison, summaries),
        _figure(figures["intervals"], "Interquartile mean and 95 % interval of each row"),
        "<h2>Learning curves</h2>" + _figure(figures["curves"], "Learning curves of each row"),
        _improvement_table(summaries),
        _strips(comparison, summaries),
        _failures(summaries),
        "<h2>Settings</h2><pre>" + _text(yaml.safe_dump(_settings(about), sort_keys=False)) + "</pre>",
        "<h2>Command and versions</h2><pre>" + _text(about["command"] + "\n\n" + _versions(about)) + "</pre>",
        f"<footer>{_method()} Written {time.strftime('%Y-%m-%d %H:%M')}.</footer>",
    ]
    style = f"<title>{_text(title)}</title><style>\n{_STYLE.read_text()}</style>"
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width">{style}'
    return f'<!doctype html>\n<html lang="en"><head>{head}</head><body><main>\n' + "\n".join(sections) + "\n</main></body></html>\n"


def _finding(sentence: str) -> str:
    kind = (
        "warning"
        if sentence.startswith("Warning") or "listed as failed" in sentence
        else "note"
        if sentence.startswith("All agents")
        else ""
    )
    return f'<p class="finding {kind}">{_text(sentence)}</p>'


def _results_table(comparison: Comparison, summaries: list[RowSummary]) -> str:
    colours = row_colours(summaries)
    lines = []
    for one in summaries:
        label, *rest = _cells(comparison, one)
        cells = "".join(f"<td{' class=bad' if cell == 'failed' else ''}>{_text(cell)}</td>" for cell in rest)
        lines.append(f'<tr><td><span class=dot style="background:{colours[one.row.key]}"></span>{_text(label)}</td>{cells}</tr>')
    return _table(_HEADINGS, lines)


def _improvement_table(summaries: list[RowSummary]) -> str:
    found = improvements(summaries)
    if not found:
        return ""
    lines = [
        f"<tr><td>{_text(one['row'])}</td><td>{_text(one['over'])}</td><td>{100 * one['probability']:.0f} %</td>"
        f"<td>{100 * one['interval'][0]:.0f} to {100 * one['interval'][1]:.0f} %</td></tr>"
        for one in found
    ]
    intro = "<p>How often a randomly chosen agent of the first row scores above one of the second; ties count half.</p>"
    return "<h2>Probability of improvement</h2>" + intro + _table(("row", "over", "probability", "95 % interval"), lines, "pairs")


def _strips(comparison: Comparison, summaries: list[RowSummary]) -> str:
    """The first evaluation episode of each row's first seed, as PNGs that the runs wrote."""
    figures = []
    for one in summaries:
        path = comparison.config.run / "runs" / one.row.key / "seed0" / "pictures" / "episode.png"
        if one.results and path.is_file():
            seen = "frames above, what the encoder reconstructs below" if one.row.encoder else "frames"
            caption = f"<figcaption>{_text(one.label)}, seed 0, first evaluation world: {seen}</figcaption>"
            figures.append(f"<figure>{caption}{_image(path.read_bytes(), f'Frames of {one.label}', 'strip')}</figure>")
    return "<h2>What the agents saw</h2>" + "".join(figures) if figures else ""


def _failures(summaries: list[RowSummary]) -> str:
    failures = [failure for one in summaries for failure in one.failures]
    return "<h2>Failed runs</h2><pre>" + _text("\n".join(failures)) + "</pre>" if failures else ""


def _settings(about: dict[str, Any]) -> dict[str, Any]:
    return {**about["settings"], "algorithm on pixels": about["pixels_algorithm"]}


def _versions(about: dict[str, Any]) -> str:
    return ", ".join(f"{name} {number}" for name, number in about["versions"].items())


def _method() -> str:
    return (
        "A seed's score is its mean return over the final evaluation episodes. IQM: interquartile mean over seeds (a quarter, "
        "rounded down, cut off at either end); intervals: percentile bootstrap over seeds, 10,000 resamples (Agarwal et al. 2021)."
    )


def _table(headings: tuple[str, ...], lines: list[str], kind: str = "rows") -> str:
    head = "".join(f"<th>{_text(heading)}</th>" for heading in headings)
    return f"<div class=scroll><table class={kind}><thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table></div>"


def _figure(content: bytes, description: str) -> str:
    return f"<figure>{_image(content, description, 'figure')}</figure>"


def _image(content: bytes, description: str, kind: str) -> str:
    return f'<img class="{kind}" alt="{_text(description)}" src="data:image/png;base64,{base64.b64encode(content).decode()}">'


def _text(text: str) -> str:
    return html.escape(str(text))
