"""What was told the answers is a reference: rows say which share of the way there they make, and are compared with each other alone."""

import csv
import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from comparison.report.conclusions import conclusions
from comparison.report.files import write_files
from comparison.report.statistics import gap_between, interquartile_mean, share_of_gap
from comparison.report.summary import summarise
from comparison.report.tables import print_table
from tests.comparison.rows import PLAYERS, row, task

UNTRAINED, ORACLE = row("untrained", 3, "control"), row("oracle", 11, "control")
SUPERVISED = row("supervised-1a2b3c4d", 9, "control", spread=0)


def shares(*rows, **settings) -> dict[str, float | None]:
    """Return the share of the gap by row."""
    found = summarise([task(*rows, *PLAYERS, **settings)])[0]
    return {one.label: one.gap_closed and one.gap_closed.value for one in found.rows}


def test_a_share_is_how_far_a_row_is_from_one_end_to_the_other() -> None:
    found = shares(row("vae", 5), row("worse", 1), row("better", 15), UNTRAINED, ORACLE, SUPERVISED)
    expected = {"vae": 0.25, "worse": -0.25, "better": 1.5, "untrained": 0, "oracle": 1, "supervised-1a2b3c4d": 0.75}
    assert {label: share for label, share in found.items() if share is not None} == pytest.approx(expected)
    # players learn nothing
    assert (found["random"], found["scripted"]) == (None, None)


def test_its_interval_is_what_other_draws_of_all_three_rows_give() -> None:
    ours, bottom, top = (np.array(one.scores) for one in (row("vae", 5, spread=4), row("a", 3, spread=3), row("b", 11, spread=5)))
    random, drawn = np.random.default_rng(1), []
    for _ in range(10_000):
        low, high, middle = (interquartile_mean([random.choice(scores, len(scores))]) for scores in (bottom, top, ours))
        drawn.append((middle - low) / (high - low))
    found = share_of_gap([ours], [bottom], [top], interquartile_mean)
    assert found.value == pytest.approx(0.25)
    assert found.interval == pytest.approx(np.quantile(drawn, [0.025, 0.975]), abs=0.01)
    assert gap_between([bottom], [top], interquartile_mean).value == pytest.approx(8)


def test_over_tasks_a_share_is_of_normalised_scores() -> None:
    # 2 of 1 to 11 is 0.1, 28 of 20 to 100 is 0.1; 6 and 60 are 0.5; 10 and 92 are 0.9
    labels = {"untrained": (2, 28), "vae": (6, 60), "oracle": (10, 92)}
    made = [
        [row(label, scores[index], "encoder" if label == "vae" else "control", spread=0) for label, scores in labels.items()]
        for index in (0, 1)
    ]
    tasks = [task(*made[0], *PLAYERS), task(*made[1], row("random", 20, "player", spread=0), name="VoxelNavigate-v0", source="two")]
    found = {one.label: one.gap_closed and one.gap_closed.value for one in summarise(tasks)[0].rows}
    assert found["vae"] == pytest.approx(0.5)


def test_each_algorithm_has_a_gap_of_its_own() -> None:
    dqn = [replace(row(f"{name} with DQN", middle, kind), algorithm="DQN", key=name) for name, middle, kind in DQN_ROWS]
    summary = summarise([task(row("vae", 5), UNTRAINED, ORACLE, *dqn, *PLAYERS)])[0]
    found = {one.label: one.gap_closed and round(one.gap_closed.value, 6) for one in summary.rows}
    assert (found["vae"], found["vae with DQN"], found["oracle with DQN"]) == (0.25, 0.5, 1)
    assert any("vae with DQN closes 50 % (" in sentence and "vae closes" not in sentence for sentence in conclusions(summary))


DQN_ROWS = (("untrained", 0, "control"), ("vae", 10, "encoder"), ("oracle", 20, "control"))


@pytest.mark.parametrize(
    ("rows", "why"),
    [
        ((row("vae", 5), UNTRAINED), "not known: there is no row 'oracle': add it with --controls."),
        ((row("vae", 5), ORACLE), "not known: there is no row 'untrained': add it with --controls."),
        ((row("vae", 5), UNTRAINED, replace(ORACLE, runs=[], failures=["oracle/seed0: no memory"])), "oracle has no finished run."),
        ((row("vae", 5), UNTRAINED, row("oracle", 3.1, "control", spread=4)), r"it may be none, 0.10 with an interval of -"),
        ((row("vae", 5), UNTRAINED, row("oracle", 1, "control")), r"it may be none, -2.00 with an interval of -"),
    ],
)
def test_where_there_is_no_gap_no_share_is_given_and_it_says_why(rows, why) -> None:
    assert set(shares(*rows).values()) == {None}
    said = [sentence for sentence in conclusions(summarise([task(*rows, *PLAYERS)])[0]) if sentence.startswith("Which share of the gap")]
    assert len(said) == 1
    assert why in said[0]


def test_without_either_row_nothing_is_said_of_a_gap() -> None:
    assert not any("gap from" in sentence for sentence in conclusions(summarise([task(row("vae", 5), *PLAYERS)])[0]))


def test_references_are_named_and_no_encoder_is_compared_with_them() -> None:
    summary = summarise([task(row("vae", 5), row("pca", 2, "control"), UNTRAINED, ORACLE, SUPERVISED, *PLAYERS)])[0]
    said = conclusions(summary)
    assert said[0] == "vae scores higher than pca, untrained and random; it scores lower than scripted."
    assert said[1].startswith("Of the gap from untrained to oracle, 8.00 (")
    assert "vae closes 25 % (" in said[1]
    assert "References, no rivals: oracle (told the answers) and supervised-1a2b3c4d (trained on the answers)." in said


def test_few_seeds_conclude_no_share() -> None:
    few = summarise([task(row("vae", 5), UNTRAINED, row("oracle", 11, "control", seeds=4), *PLAYERS)])[0]
    assert "Too few seeds to conclude which share of the gap from untrained to oracle a row closes." in conclusions(few)


def test_every_form_of_the_report_has_the_shares(tmp_path: Path, capsys, no_figures) -> None:
    summaries = write_files(tmp_path, [task(row("vae", 5), UNTRAINED, ORACLE, SUPERVISED, *PLAYERS)], "the command")
    content = json.loads((tmp_path / "comparison.json").read_text())
    lines = {line["row"]: line for line in content["rows"]}
    assert lines["vae"]["gap_closed"] == pytest.approx(0.25)
    assert lines["vae"]["gap_closed_low"] < 0.25 < lines["vae"]["gap_closed_high"]
    assert (lines["oracle"]["told"], lines["vae"]["told"]) == ("told the answers", None)
    assert content["gaps"][0]["found"]["value"] == pytest.approx(8)
    table = {line["row"]: line for line in csv.DictReader(io.StringIO((tmp_path / "rows.csv").read_text()))}
    assert float(table["supervised-1a2b3c4d"]["gap_closed"]) == pytest.approx(0.75)
    page = (tmp_path / "report.html").read_text()
    assert "<th scope=col>untrained to oracle</th>" in page
    assert "<td>25 %<small>" in page
    assert "oracle<small>told the answers</small>" in page
    print_table(summaries)
    shown = capsys.readouterr().out
    assert "oracle (told the answers)" in shown
    assert "25 % (" in shown
