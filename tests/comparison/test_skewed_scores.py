"""Reports tell interquartile mean, median and mean apart: of scores so skewed that each is another number, in every form of a report."""

import csv
import json
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from matplotlib.lines import Line2D
from scipy.stats import trim_mean

from comparison.report.files import write_files
from comparison.report.plots import curves_figure, intervals_figure, profiles_figure, row_colours
from comparison.report.summary import summarise
from comparison.report.tables import print_table
from comparison.results import Point, RowResults, Run, TaskResults
from tests.comparison.rows import row, task

SCORES = (3.0, 44.0, 0.0, 10.0, 1.0, 2.0)
SECONDS = (10.0, 10.0, 40.0, 10.0, 10.0, 10.0)
RANDOM, SCRIPTED = (0.0, 0.0, 3.0, 0.0, 0.0, 3.0), (10.0, 10.0, 13.0, 10.0, 10.0, 13.0)
"""Means of 1 and 11, which are 0 and 1 of normalised scores; no other number of theirs is."""


def skewed(one: RowResults, scores: tuple[float, ...]) -> RowResults:
    """Return the row with these scores by seed; an agent's curve falls from its score's square, so that areas are skewed too."""
    runs = []
    for seed, (score, seconds) in enumerate(zip(scores, SECONDS, strict=True)):
        curve = [] if one.player else [Point(50, score * score, 5.0), Point(100, score, 10.0)]
        runs.append(Run(seed, 100, score, [score], curve, seconds, evaluation_seconds=seconds / 2))
    return replace(one, runs=runs)


PLAYERS = (skewed(row("random", 0, "player"), RANDOM), skewed(row("scripted", 0, "player"), SCRIPTED))


def areas(scores: np.ndarray) -> np.ndarray:
    return (scores * scores + scores) / 2


def numbers(scores: np.ndarray) -> dict[str, float]:
    """Return what scipy, numpy and the closed forms say of one task."""
    return {
        "iqm": float(trim_mean(scores, 0.25)),
        "median": float(np.median(scores)),
        "mean": float(np.mean(scores)),
        "optimality_gap": sum(max(0.0, 1 - (score - 1) / 10) for score in scores.tolist()) / len(scores),
        "area": float(trim_mean(areas(scores), 0.25)),
        "normalised_area": float(trim_mean(areas(scores), 0.25) - 1) / 10,
    }


EXPECTED = numbers(np.array(SCORES))


@pytest.fixture
def made() -> TaskResults:
    return task(skewed(row("vae", 0), SCORES), row("near", 1.5, "control", spread=4), row("far", 200, "control"), *PLAYERS)


@pytest.fixture
def report(made: TaskResults, tmp_path: Path, no_figures: None) -> Path:
    write_files(tmp_path, [made], "the command")
    return tmp_path


class Tables(HTMLParser):
    """Every table's lines by its class; a cell is its class, its text, and what stands small below it."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tables: dict[str, list[list[list[str]]]] = {}
        self._lines: list[list[list[str]]] = []
        self._part = 0
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        kind = dict(attrs).get("class") or ""
        if tag == "table":
            self._lines = self.tables[kind] = []
        elif tag == "tr":
            self._lines.append([])
        elif tag in ("td", "th"):
            self._lines[-1].append([kind, "", ""])
            self._part = 1
        elif tag == "small":
            self._part = 2

    def handle_endtag(self, tag: str) -> None:
        self._part = 0 if tag in ("td", "th") else self._part

    def handle_data(self, data: str) -> None:
        if self._part:
            self._lines[-1][-1][self._part] += data


def lines_of(report: Path, kind: str) -> dict[str, dict[str, list[str]]]:
    """Return a table of the page: cells by the row's name and the column's heading."""
    head, *lines = Tables((report / "report.html").read_text()).tables[kind]
    return {line[0][1]: {heading[1]: cell for heading, cell in zip(head, line, strict=True)} for line in lines}


def test_each_of_these_numbers_is_another() -> None:
    assert len({round(value, 2) for value in EXPECTED.values()}) == len(EXPECTED)
    for scores in (RANDOM, SCRIPTED):
        assert len({float(trim_mean(scores, 0.25)), float(np.median(scores)), float(np.mean(scores)), max(scores)}) == 4


@pytest.mark.parametrize("form", ["comparison.json", "rows.csv"])
def test_each_number_stands_under_its_name(report: Path, form: str) -> None:
    text = (report / form).read_text()
    lines = json.loads(text)["rows"] if form.endswith("json") else list(csv.DictReader(text.splitlines()))
    assert {name: float(lines[0][name]) for name in EXPECTED} == pytest.approx(EXPECTED)
    assert all(float(lines[0][f"{name}_low"]) < EXPECTED[name] < float(lines[0][f"{name}_high"]) for name in EXPECTED)
    assert [float(lines[0][name]) for name in ("seconds", "evaluation_seconds")] == [15, 7.5]
    assert [float(lines[-2][name]) for name in ("iqm", "median", "mean")] == [0.75, 0, 1]


def test_each_number_stands_in_its_column_of_the_page(report: Path) -> None:
    cells = lines_of(report, "results")["vae"]
    told = json.loads((report / "comparison.json").read_text())["rows"][0]
    named = {"IQM": "iqm", "optimality gap": "optimality_gap", "area under curve": "area", "normalised area": "normalised_area"}
    for heading, name in {**named, "median": "median", "mean": "mean"}.items():
        _, value, interval = cells[heading]
        assert float(value) == pytest.approx(EXPECTED[name], abs=0.0051), heading
        assert interval == f"{told[f'{name}_low']:.2f} to {told[f'{name}_high']:.2f}", heading
    assert lines_of(report, "costs")["vae"]["seconds a run"][1] == "15"


def test_each_number_stands_in_its_column_of_the_terminals_table(made: TaskResults, capsys: pytest.CaptureFixture[str]) -> None:
    (summary,) = summarise([made])
    print_table([summary])
    printed = capsys.readouterr().out.splitlines()
    heads = next(line for line in printed if "IQM" in line).strip("┃").split("┃")
    cells = next(line for line in printed if line.startswith("│ vae")).strip("│").split("│")
    shown = {head.strip(): cell.strip() for head, cell in zip(heads, cells, strict=True)}
    assert {head: float(shown[head]) for head in ("IQM", "median", "gap", "a run")} == pytest.approx(
        {"IQM": EXPECTED["iqm"], "median": EXPECTED["median"], "gap": EXPECTED["optimality_gap"], "a run": 15}, abs=0.0051
    )


def test_a_chance_whose_interval_holds_a_half_has_no_colour(report: Path) -> None:
    found = lines_of(report, "matrix")
    wins = np.subtract.outer(SCORES, 1.5 + 4 * np.linspace(-0.5, 0.5, 6))
    assert found["vae"]["near"][:2] == ["", f"{100 * np.mean((wins > 0) + 0.5 * (wins == 0)):.0f} %"]
    assert found["near"]["vae"][:2] == ["", f"{100 * np.mean((wins < 0) + 0.5 * (wins == 0)):.0f} %"]
    assert [found[name][over][0] for name, over in (("far", "vae"), ("vae", "far"), ("near", "scripted"))] == ["higher", "lower", "lower"]


def test_a_learning_curve_is_the_interquartile_mean_of_all_seeds_at_each_point(report: Path) -> None:
    squares, ends = (float(trim_mean(heights, 0.25)) for heights in (np.square(SCORES), SCORES))
    curves = [line for line in csv.DictReader((report / "curves.csv").read_text().splitlines()) if line["row"] == "vae"]
    steps = {float(line["at"]): float(line["iqm"]) for line in curves if line["against"] == "steps"}
    assert steps == pytest.approx({50: squares, 100: ends})
    seconds = {float(line["at"]): float(line["iqm"]) for line in curves if line["against"] == "seconds"}
    halfway = float(trim_mean(areas(np.array(SCORES)), 0.25))
    assert [seconds[at] for at in (5, 7.5, 10)] == pytest.approx([squares, halfway, ends])


def labelled(lines: list[Line2D], label: str) -> np.ndarray:
    return np.asarray(next(line for line in lines if str(line.get_label()).startswith(label)).get_ydata(), float)


def test_figures_draw_interquartile_means(made: TaskResults) -> None:
    summaries = summarise([made])
    colours = row_colours(summaries)
    squares, ends = (float(trim_mean(heights, 0.25)) for heights in (np.square(SCORES), SCORES))
    for against_seconds in (False, True):
        (axes,) = curves_figure(summaries[0], colours, against_seconds).axes
        assert labelled(axes.lines, "vae")[[0, -1]] == pytest.approx([squares, ends])
        assert labelled(axes.lines, "random") == pytest.approx([trim_mean(RANDOM, 0.25)] * 2)
    (axes,) = intervals_figure(summaries[0], colours).axes
    band, bar, dots = (np.asarray(line.get_xdata(), float) for line in axes.lines[-3:])
    assert axes.get_yticklabels()[-1].get_text().startswith("vae")
    assert bar == pytest.approx([ends] * 2)
    assert band[0] < ends < band[1]
    assert dots == pytest.approx(SCORES)


def test_a_profile_is_drawn_as_the_share_of_seeds_above_each_threshold(made: TaskResults) -> None:
    (summary,) = summarise([made])
    (axes,) = profiles_figure(summary, row_colours([summary])).axes
    expected = [sum(score > threshold for score in SCORES) / len(SCORES) for threshold in summary.thresholds]
    assert labelled(axes.lines, "vae") == pytest.approx(expected)
    assert len(set(expected)) > 4


def test_numbers_over_tasks_are_those_of_all_runs_and_of_the_tasks_means() -> None:
    names, factors = ("VoxelTreechop-v0", "VoxelNavigate-v0", "VoxelForage-v0"), (1, 2, 4)
    tasks = [
        task(skewed(row("vae", 0), tuple(factor * score for score in SCORES)), *PLAYERS, name=name, source=name)
        for name, factor in zip(names, factors, strict=True)
    ]
    ours = summarise(tasks)[0].rows[0]
    scores = np.outer(factors, SCORES)
    normalised, heights = (scores - 1) / 10, (areas(scores) - 1) / 10
    found = {name: getattr(ours, name).value for name in EXPECTED if name != "area"}
    assert found == pytest.approx(
        {
            "iqm": trim_mean(normalised, 0.25, axis=None),
            "median": np.median(normalised.mean(axis=1)),
            "mean": normalised.mean(),
            "optimality_gap": 1 - np.minimum(normalised, 1).mean(),
            "normalised_area": trim_mean(heights, 0.25, axis=None),
        }
    )
    assert len({round(value, 6) for value in found.values()}) == len(found)
