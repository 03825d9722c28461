"""A summary says of the rows of a task, and of several tasks together, what their seeds can carry, and no more."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from comparison.report.conclusions import conclusions
from comparison.report.files import join_reports, write_files
from comparison.report.statistics import area_under_curve, interquartile_mean, paired_difference
from comparison.report.summary import summarise
from comparison.results import RowResults, TaskResults
from tests.comparison.rows import PLAYERS, SEEDS, row, task


def test_a_step_of_one_tick_is_of_one_tick() -> None:
    lengths = [task(environment={"name": "Any-v0", "frame_skip": skip}).step_length for skip in (1, 4)]
    assert lengths == ["1 game tick", "4 game ticks"]


def test_overlapping_intervals_conclude_nothing() -> None:
    found = summarise([task(row("vae", 5), row("pca", 5.2, "control"), row("pixels", 2, "control"), *PLAYERS)])[0]
    said = conclusions(found)
    assert "scores higher than pixels and random;" in said[0]
    assert "scores lower than scripted;" in said[0]
    assert "overlaps with pca, against which nothing can be concluded" in said[0]
    assert not any("Warning" in sentence for sentence in said)


def test_few_seeds_conclude_nothing_however_far_apart() -> None:
    found = summarise([task(row("vae", 50, seeds=4), row("pixels", 2, "control"), *PLAYERS)])[0]
    said = conclusions(found)
    assert said[0] == "vae has too few seeds to conclude anything against pixels, random and scripted."
    assert any("Warning: 4 finished seeds in the smallest row" in sentence for sentence in said)


def test_a_collapsed_encoder_is_named() -> None:
    ours = row("vae", 5)
    assert ours.encoder
    found = summarise([task(replace(ours, encoder=replace(ours.encoder, collapsed=True)), *PLAYERS)])[0]
    assert any(sentence.startswith("Warning: vae collapsed") for sentence in conclusions(found))


def test_numbers_of_a_task_are_those_of_its_runs() -> None:
    ours, theirs = row("vae", 5), row("pixels", 3, "control", spread=4)
    found = summarise([task(ours, theirs, *PLAYERS)])[0].rows[0]
    assert found.iqm
    assert found.iqm.value == pytest.approx(interquartile_mean([np.array(ours.scores)]))
    assert found.optimality_gap
    assert found.optimality_gap.value == pytest.approx(1 - (5 - 1) / (11 - 1))
    assert found.area
    assert found.area.value == pytest.approx(area_under_curve([50, 100], [2.5, 5]))
    assert found.row.restarts == SEEDS


def test_paired_differences_take_the_seeds_that_both_rows_have() -> None:
    ours = row("vae", 5, spread=10)
    theirs = replace(row("pca", 3, "control", spread=10), runs=row("pca", 3, "control", spread=10).runs[2:])
    pair = summarise([task(ours, theirs, *PLAYERS)])[0].differences[0]
    assert (pair.row, pair.over, pair.pairs) == ("vae", "pca", SEEDS - 2)
    assert pair.found == paired_difference([np.array(ours.scores[2:])], [np.array(theirs.scores)])
    assert (pair.found.low, pair.found.high) == pytest.approx((2, 2))


def test_the_two_directions_of_an_improvement_add_up() -> None:
    found = summarise([task(row("vae", 5), row("pca", 5.4, "control"), *PLAYERS)])[0]
    chances = {(pair.row, pair.over): pair.found for pair in found.improvements}
    one, other = chances["vae", "pca"], chances["pca", "vae"]
    assert one.value + other.value == pytest.approx(1)
    assert one.low + other.high == pytest.approx(1)


def test_scores_over_tasks_are_normalised_between_random_policy_and_target() -> None:
    navigate = task(row("vae", 60), row("random", 20, "player", spread=0), name="VoxelNavigate-v0", source="two")
    summaries = summarise([task(row("vae", 6), row("pca", 2, "control"), *PLAYERS), navigate])
    assert [one.name for one in summaries] == ["all tasks", "VoxelTreechop-v0", "VoxelNavigate-v0"]
    together = {one.label: one for one in summaries[0].rows}
    # 6 of 1 to 11 is 0.5; 60 of 20 to the documented 100 is 0.5
    assert together["vae"].mean
    assert together["vae"].mean.value == pytest.approx(0.5)
    assert together["random"].mean
    assert together["random"].mean.value == pytest.approx(0)
    assert any("pca (no finished run on every task)" in sentence for sentence in conclusions(summaries[0]))
    assert any("100.00 (the reward of the goal)" in sentence for sentence in conclusions(summaries[0]))


def test_tasks_on_which_no_row_learned_alike_are_not_put_together() -> None:
    continuous = task(replace(row("vae with SAC", 60), algorithm="SAC"), *PLAYERS, name="VoxelNavigate-v0", source="two")
    summaries = summarise([task(row("vae with PPO", 6), *PLAYERS), continuous])
    assert [one.name for one in summaries] == ["VoxelTreechop-v0", "VoxelNavigate-v0"]


def without(one: RowResults, *seeds: int) -> RowResults:
    """Return the row as it is where these seeds failed."""
    lost = [f"{one.key}/seed{seed}: no memory" for seed in seeds]
    return replace(one, runs=[run for run in one.runs if run.seed not in seeds], failures=lost)


def two_tasks(*navigate: RowResults, treechop: int = 15, **settings) -> list[TaskResults]:
    """Return Treechop, where `full` and `fewer` have the normalised score 0.9, and Navigate with these rows (0.1 is a return of 28)."""
    rows = [row(label, 10, spread=0, seeds=treechop) for label in ("full", "fewer")]
    random = row("random", 20, "player", spread=0)
    return [
        task(*rows, *PLAYERS, seeds=treechop),
        task(*navigate, random, name="VoxelNavigate-v0", source="two", **{"seeds": 15, **settings}),
    ]


def aggregates(folder: Path) -> tuple[dict[str, dict], list[str]]:
    """Return the lines of the rows over all tasks by label, and the sentences, as the report in the folder has them."""
    content = json.loads((folder / "comparison.json").read_text())
    lines = {line["row"]: line for line in content["rows"] if line["task"] == "all tasks"}
    return lines, content["conclusions"][0]["sentences"]


NUMBERS = ("iqm", "median", "mean", "optimality_gap", "normalised_area")


def test_failed_seeds_of_one_task_give_no_row_a_lead(tmp_path: Path, no_figures) -> None:
    full, fewer = (row(label, 28, spread=0, seeds=15) for label in ("full", "fewer"))
    write_files(tmp_path, two_tasks(full, without(fewer, *range(10))), "the command")
    lines, sentences = aggregates(tmp_path)
    assert (lines["fewer"]["seeds"], lines["fewer"]["failed"]) == (5, 10)
    for name in ("iqm", "iqm_low", "iqm_high", "median", "mean", "optimality_gap"):
        assert lines["fewer"][name] == pytest.approx(0.5)
    for name in NUMBERS:
        assert [lines["fewer"][f"{name}{end}"] for end in ("", "_low", "_high")] == pytest.approx([lines["full"][name]] * 3)
    assert sentences[0] == "full scores higher than random; it overlaps with fewer, against which nothing can be concluded."
    assert sentences[1] == "fewer scores higher than random; it overlaps with full, against which nothing can be concluded."
    content = json.loads((tmp_path / "comparison.json").read_text())
    chances = [pair["value"] for pair in content["improvements"] if pair["task"] == "all tasks" and "random" not in pair["over"]]
    assert chances == pytest.approx([0.5, 0.5])
    profiles = {one["row"]: one["share_above"] for one in content["profiles"] if one["task"] == "all tasks"}
    assert profiles["fewer"] == profiles["full"]
    assert set(profiles["full"]) == {0, 0.5, 1}


def test_one_failed_seed_leaves_rows_cut_alike(tmp_path: Path, no_figures) -> None:
    """With five seeds on each of two tasks, 2 of 10 runs would be cut off one row, and a quarter of the weight off the other."""
    spread = [row(label, 60, spread=80, seeds=5) for label in ("full", "fewer")]
    treechop, navigate = two_tasks(*spread, treechop=5, seeds=5)
    # all runs of this row on Treechop have one score
    lost = [without(one, 2) if one.label == "fewer" else one for one in treechop.rows]
    write_files(tmp_path, [replace(treechop, rows=lost), navigate], "the command")
    lines, _ = aggregates(tmp_path)
    assert [lines["fewer"][name] for name in NUMBERS] == pytest.approx([lines["full"][name] for name in NUMBERS])


def test_joined_comparisons_of_other_numbers_of_seeds_weigh_their_tasks_alike(tmp_path: Path, no_figures) -> None:
    """Twenty seeds that say what five say, of the same row: a joined report says the same of it."""
    navigate = row("full", 28, spread=4, seeds=5)
    longer = replace(navigate, runs=[replace(run, seed=5 * turn + run.seed) for turn in range(4) for run in navigate.runs])
    found = {}
    for name, ours, seeds in (("five", navigate, 5), ("twenty", longer, 20)):
        first, second = two_tasks(ours, treechop=6, seeds=seeds)
        write_files(tmp_path / f"{name}-one", [first], "first")
        write_files(tmp_path / f"{name}-two", [second], "second")
        join_reports((tmp_path / f"{name}-one", tmp_path / f"{name}-two"), tmp_path / name, "join")
        found[name] = aggregates(tmp_path / name)[0]["full"]
    assert found["twenty"]["seeds"] == 6
    assert [found["twenty"][name] for name in NUMBERS] == pytest.approx([found["five"][name] for name in NUMBERS])
    # the middle half: of 0.075, 0.0875, 0.1, 0.1125, 0.125 the upper half, and 0.9 with as much weight
    assert found["twenty"]["iqm"] == pytest.approx(((0.1 / 2 + 0.1125 + 0.125) / 2.5 + 0.9) / 2)


def test_the_time_of_a_run_over_tasks_is_the_mean_of_the_tasks_times(tmp_path: Path, no_figures) -> None:
    full = row("full", 28, spread=0, seeds=15)
    slow = replace(full, runs=[replace(run, seconds=9.0) for run in full.runs])
    write_files(tmp_path, two_tasks(without(slow, *range(10))), "the command")
    assert aggregates(tmp_path)[0]["full"]["seconds"] == pytest.approx((3 + 9) / 2)


@pytest.mark.parametrize(
    ("name", "target", "unit"),
    [
        ("MineRLTreechop-v0", 64.0, "logs"),
        ("MineRLTreechopVectorObf-v0", 64.0, "logs"),
        ("MineRLNavigateDense-v0", 100.0, ""),
        ("VoxelNavigateDense-v0", 100.0, ""),
        ("VoxelForage-v0", None, ""),
        ("my_package:GridNavigate-v0", None, ""),
        ("other:TreechopLite-v0", None, ""),
    ],
)
def test_documented_goals_are_those_of_minerls_tasks_and_ours_alone(name, target, unit) -> None:
    found = task(row("vae", 6), PLAYERS[0], name=name)
    assert (found.target and found.target.score, found.unit) == (target, unit)


def test_a_task_without_a_target_has_no_normalised_score() -> None:
    summaries = summarise([task(row("vae", 6), PLAYERS[0], name="CarRacing-v3")])
    assert summaries[0].rows[0].optimality_gap is None
    assert "No target score is known" in conclusions(summaries[0])[-1]
