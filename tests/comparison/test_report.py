"""A report's files: tables and JSON have the numbers, reports can be joined, and nothing of an earlier report stays."""

import csv
import io
import json
from dataclasses import replace
from pathlib import Path

import pytest
from matplotlib.figure import Figure

from comparison.command import compare
from comparison.joining import join
from comparison.report.conclusions import conclusions
from comparison.report.files import join_reports, write_files
from comparison.report.plots import curves_figure, row_colours
from comparison.report.summary import summarise
from comparison.report.tables import print_table
from comparison.results import Point, read_results
from foundation.errors import UserError
from tests.comparison.rows import PLAYERS, SEEDS, row, task


def test_rows_of_one_task_are_joined_and_told_apart() -> None:
    other = replace(row("vae", 3), algorithm="DQN")
    joined = join([task(row("vae", 5), *PLAYERS), task(other, *PLAYERS, source="two")])
    assert [one.label for one in joined[0].rows] == ["vae with PPO", "vae with DQN", "random", "scripted"]
    # joined once more
    assert [one.label for one in join([*joined, task(row("pca", 1), name="VoxelNavigate-v0")])[0].rows] == [
        one.label for one in joined[0].rows
    ]
    assert len({one.key for one in joined[0].rows}) == 4
    joined = join([task(row("vae", 5), *PLAYERS), task(row("vae", 3), *PLAYERS, source="two")])
    assert [one.label for one in joined[0].rows][:2] == ["vae", "vae (two)"]
    assert len(join([task(row("vae", 5)), task(row("vae", 5), steps=200)])) == 2


def test_joined_reports_read_what_comparisons_wrote_and_can_be_joined_again(tmp_path: Path, capsys, no_figures) -> None:
    treechop, navigate = task(row("vae", 6), *PLAYERS), task(row("vae", 60), *PLAYERS, name="VoxelNavigate-v0", source="two")
    write_files(tmp_path / "one", [treechop], "first")
    write_files(tmp_path / "two", [navigate], "second")
    assert read_results(tmp_path / "one") == [treechop]
    assert compare(["join", str(tmp_path / "one"), str(tmp_path / "two"), "--run", str(tmp_path / "both")]) == 0
    assert "report.html" in capsys.readouterr().out
    assert read_results(tmp_path / "both") == [treechop, navigate]
    page = (tmp_path / "both" / "report.html").read_text()
    assert "python compare_encoders.py one" in page
    assert "python compare_encoders.py two" in page


def test_figures_of_an_earlier_report_do_not_stay_beside_a_new_one(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("comparison.report.files.figures", lambda summary, colours: {"intervals": Figure(figsize=(1, 1))})
    treechop, navigate = task(row("vae", 6), *PLAYERS), task(row("vae", 60), *PLAYERS, name="VoxelNavigate-v0", source="two")
    write_files(tmp_path, [treechop, navigate], "both")
    (tmp_path / "curves_mine.png").touch()
    assert {path.name for path in tmp_path.glob("*.svg")} == {
        f"intervals_{name}.svg" for name in ("all_tasks", "VoxelTreechop_v0", "VoxelNavigate_v0")
    }
    write_files(tmp_path, [treechop], "one")
    assert {path.name for path in tmp_path.iterdir() if path.suffix in (".png", ".svg")} == {
        "intervals.png",
        "intervals.svg",
        "curves_mine.png",
    }


def test_what_cannot_be_joined_says_why(tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "comparison.json").write_text('{"format": 1}')
    with pytest.raises(UserError, match="format 1, this version reads 2 and 3; write it again"):
        join_reports((tmp_path / "old", tmp_path / "none"), tmp_path / "out", "")
    with pytest.raises(UserError, match="name the folder of a finished comparison"):
        read_results(tmp_path / "none")
    with pytest.raises(UserError, match="named twice"):
        join_reports((tmp_path / "old", tmp_path / "old"), tmp_path / "out", "")
    with pytest.raises(UserError, match="two folders or more"):
        compare(["join", str(tmp_path / "old"), "--run", str(tmp_path / "out")])
    for name, what in (("runs", "a comparison's runs"), ("trials", "a search's trials")):
        (tmp_path / f"with_{name}" / name).mkdir(parents=True)
        with pytest.raises(UserError, match=f"with_{name}: holds {what}; choose another --run"):
            join_reports((tmp_path / "old", tmp_path / "none"), tmp_path / f"with_{name}", "")


def test_brackets_in_a_label_are_printed_as_they_are(capsys) -> None:
    print_table(summarise([task(row("vae (run[red])", 5), *PLAYERS)]))
    assert capsys.readouterr().out.count("run[red]") == 2


def test_tables_as_csv_have_a_line_a_run_and_a_line_a_row(tmp_path: Path, no_figures) -> None:
    write_files(tmp_path, [task(row("vae", 5), *PLAYERS)], "the command")
    runs = list(csv.DictReader(io.StringIO((tmp_path / "comparison.csv").read_text())))
    assert len(runs) == 3 * SEEDS
    assert float(runs[0]["normalised"]) == pytest.approx((float(runs[0]["mean_return"]) - 1) / 10)
    rows = list(csv.DictReader(io.StringIO((tmp_path / "rows.csv").read_text())))
    assert [line["row"] for line in rows] == ["vae", "random", "scripted"]
    assert (float(rows[0]["encode_milliseconds"]), rows[0]["encode_batch"]) == (0.5, "8")


def test_json_has_the_numbers_and_no_nan(tmp_path: Path, no_figures) -> None:
    broken = replace(row("vae", 5), runs=[], failures=["vae/seed0: no memory"])
    write_files(tmp_path, [task(broken, row("pca", 2, "control"), *PLAYERS)], "the command")
    content = json.loads((tmp_path / "comparison.json").read_text(), parse_constant=lambda name: pytest.fail(name))
    assert [line["iqm"] for line in content["rows"]] == [None, pytest.approx(2), pytest.approx(1), pytest.approx(11)]
    assert "vae/seed0: no memory" in (tmp_path / "report.html").read_text()


def test_evaluations_that_not_every_seed_has_are_named(tmp_path: Path) -> None:
    ours = row("vae", 5, seeds=5)
    first = replace(ours.runs[0], curve=[Point(40, 1.0, 1.0), *ours.runs[0].curve])
    (summary,) = summarise([task(replace(ours, runs=[first, *ours.runs[1:]]), row("points", 5), *PLAYERS)])
    assert "Not in the learning curves, since not every seed was evaluated there: vae (40 steps)." in conclusions(summary)
    (summary,) = summarise([task(ours, row("points", 5), *PLAYERS)])
    assert not any("learning curves" in sentence for sentence in conclusions(summary))


@pytest.mark.parametrize("against_seconds", [False, True])
def test_a_learning_curve_that_begins_below_zero_is_drawn_whole(against_seconds: bool) -> None:
    ours = row("vae", 5)
    low = [replace(run, curve=[replace(run.curve[0], score=-15.0), *run.curve[1:]]) for run in ours.runs]
    (summary,) = summarise([task(replace(ours, runs=low), *PLAYERS)])
    (axes,) = curves_figure(summary, row_colours([summary]), against_seconds).axes
    assert axes.get_ylim()[0] < -15
    (summary,) = summarise([task(ours, *PLAYERS)])
    (axes,) = curves_figure(summary, row_colours([summary]), against_seconds).axes
    assert -1 < axes.get_ylim()[0] < 0
