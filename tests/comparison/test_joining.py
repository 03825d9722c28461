"""Reports of one task are joined into one, also where one of them was made before all of its settings could be said."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from agents.run.config import EvaluationConfig, plain
from agents.run.environment_config import EnvironmentConfig
from comparison.joining import join
from comparison.report.files import join_reports, write_files
from comparison.report.summary import summarise
from comparison.report.tables import seeds_cell
from comparison.results import TaskResults, read_results
from tests.comparison.rows import PLAYERS, row, task

SETTINGS = {"environment": EnvironmentConfig(name="VoxelTreechop-v0"), "evaluation": EvaluationConfig(every=50)}


def written(folder: Path, label: str, without: dict[str, tuple[str, ...]], **settings) -> Path:
    """Write a report of one row, whose settings lack what could not be said when it was made."""
    now = {key: plain(settings.get(key, own)) for key, own in SETTINGS.items()}
    kept = {key: {name: one for name, one in values.items() if name not in without.get(key, ())} for key, values in now.items()}
    write_files(folder, [task(row(label, 5), *PLAYERS, source=folder.name, **kept)], "the command")
    return folder


@pytest.mark.parametrize("first", ["old", "new"])
def test_a_setting_that_came_later_does_not_make_two_tasks_of_one(tmp_path: Path, no_figures, first: str) -> None:
    later = {"environment": ("history", "episode_steps", "continuous", "evaluated_at_once"), "evaluation": ("environment",)}
    reports = {"old": written(tmp_path / "old", "vae", later), "new": written(tmp_path / "new", "points", {})}
    folders = (reports[first], *(folder for name, folder in reports.items() if name != first))
    (summary,) = join_reports(folders, tmp_path / "both", "join")
    assert {one.label for one in summary.rows} == {"vae", "points", "random", "scripted"}
    # and once more
    again = written(tmp_path / "again", "slots", {"environment": ("history",)})
    (summary,) = join_reports((again, tmp_path / "both"), tmp_path / "all", "join")
    assert {one.label for one in summary.rows} == {"vae", "points", "slots", "random", "scripted"}
    assert len(json.loads((tmp_path / "all" / "comparison.json").read_text())["results"]) == 1


@pytest.mark.parametrize(
    "other",
    [
        {"environment": replace(SETTINGS["environment"], history=2)},
        {"environment": replace(SETTINGS["environment"], episode_steps=400)},
        {"evaluation": replace(SETTINGS["evaluation"], environment={"weather": "rain"})},
    ],
)
def test_another_value_than_the_one_that_held_before_is_another_task(tmp_path: Path, no_figures, other) -> None:
    later = {"environment": ("history", "episode_steps"), "evaluation": ("environment",)}
    folders = written(tmp_path / "old", "vae", later), written(tmp_path / "new", "points", {}, **other)
    summaries = join_reports(folders, tmp_path / "both", "join")
    assert [one.name for one in summaries] == ["VoxelTreechop-v0 (1)", "VoxelTreechop-v0 (2)"]


def test_how_a_game_runs_and_where_actions_lie_does_not_make_two_tasks_of_one(tmp_path: Path, no_figures) -> None:
    def environment(python: str, store: str) -> EnvironmentConfig:
        options = {"python": python, "timeout": 5.0}
        return replace(SETTINGS["environment"], options=options, action_store=Path(store), action_sha256="1" * 64)

    folders = [written(tmp_path / name, name, {}, environment=environment(f"/{name}/python", f"/{name}/store")) for name in ("one", "two")]
    (summary,) = join_reports(folders, tmp_path / "both", "join")
    assert {one.label for one in summary.rows} == {"one", "two", "random", "scripted"}
    other = replace(environment("/one/python", "/one/store"), action_sha256="2" * 64)
    summaries = join_reports((folders[0], written(tmp_path / "three", "three", {}, environment=other)), tmp_path / "apart", "join")
    assert len(summaries) == 2


@pytest.mark.parametrize("order", [("whole", "failed"), ("failed", "whole")])
def test_a_player_that_played_stands_for_one_that_failed(tmp_path: Path, no_figures, order) -> None:
    failed = replace(PLAYERS[0], runs=[], failures=["random/seed0: no memory"])
    made = {
        "whole": [task(row("vae", 5), *PLAYERS, source="whole")],
        "failed": [task(row("points", 5), failed, PLAYERS[1], source="failed")],
    }
    for name in order:
        write_files(tmp_path / name, made[name], "the command")
    (summary,) = join_reports([tmp_path / name for name in order], tmp_path / "both", "join")
    assert [len(one.scores[0]) for one in summary.rows if one.label == "random"] == [len(PLAYERS[0].scores)]
    assert {one.label for one in summary.rows} == {"vae", "points", "random", "scripted"}
    assert all(one.optimality_gap is not None for one in summary.rows if one.label in ("vae", "points"))


def test_joined_comparisons_keep_the_settings_and_versions_of_both(tmp_path: Path, no_figures) -> None:
    def report(name: str, label: str, rate: float, seeds: int, **controls) -> Path:
        kept = {key: plain(own) for key, own in SETTINGS.items()}
        made = task(row(label, 5, seeds=seeds), *PLAYERS, source=name, **kept, seeds=seeds)
        algorithms = {"PPO": {"learning_rate": rate, "ent_coef": 0.0, "pixels": {}, **controls}}
        write_files(tmp_path / name, [replace(made, algorithms=algorithms, versions={"torch": f"2.{seeds}", "ray": "3"})], "the command")
        return tmp_path / name

    first, other = report("one", "vae", 3e-4, 5), report("two", "points", 1e-3, 8)
    same = report("three", "slots", 3e-4, 6, pixels={"learning_rate": 2e-4})
    join_reports((first, other, same), tmp_path / "all", "join")
    (found,) = read_results(tmp_path / "all")
    assert {name: own["learning_rate"] for name, own in found.algorithms.items()} == {"PPO": 3e-4, "PPO (two)": 1e-3}
    assert found.algorithms["PPO"]["pixels"] == {"learning_rate": 2e-4}
    assert [(one.label, one.algorithm) for one in found.rows if one.kind == "encoder"] == [
        ("vae with PPO", "PPO"),
        ("points with PPO (two)", "PPO (two)"),
        ("slots with PPO", "PPO"),
    ]
    assert found.versions == {"torch": "2.5 and 2.8 and 2.6", "ray": "3"}
    # and once more
    (summary,) = join_reports((tmp_path / "all", same), tmp_path / "again", "join")
    (again,) = read_results(tmp_path / "again")
    assert (again.versions, again.algorithms) == (found.versions, found.algorithms)
    # nothing failed: no row has seeds of another's
    assert [seeds_cell(summary, one) for one in summary.rows if one.row.kind == "encoder"] == ["5", "8", "6", "6"]


def test_an_algorithm_of_other_settings_on_one_task_is_told_apart_on_all_of_its_comparison() -> None:
    def part(source: str, name: str, label: str, rate: float) -> TaskResults:
        return replace(task(row(label, 5), *PLAYERS, name=name, source=source), algorithms={"PPO": {"learning_rate": rate}})

    treechop, navigate = "VoxelTreechop-v0", "VoxelNavigate-v0"
    joined = join([part("one", treechop, "vae", 1e-3), part("two", treechop, "points", 2e-3), part("two", navigate, "points", 2e-3)])
    assert [sorted(one.algorithms) for one in joined] == [["PPO", "PPO (two)"], ["PPO (two)"]]
    # the row stays one over both tasks; tasks whose presets say other settings are no reason to tell apart
    assert "points with PPO (two)" in {one.label for one in summarise(joined)[0].rows}
    joined = join([part("one", treechop, "points", 1e-3), part("one", navigate, "points", 2e-3)])
    assert "points" in {one.label for one in summarise(joined)[0].rows}


def test_folders_of_one_name_are_told_apart(tmp_path: Path, no_figures) -> None:
    kept = {key: plain(own) for key, own in SETTINGS.items()}
    folders = []
    for place, rate in (("first", 1e-3), ("second", 2e-3), ("third", 3e-3)):
        made = replace(task(row("vae", 5), *PLAYERS, source="compare", **kept), algorithms={"PPO": {"learning_rate": rate}})
        folders.append(tmp_path / place / "compare")
        write_files(folders[-1], [made], "the command")
    join_reports(folders, tmp_path / "all", "join")
    (found,) = read_results(tmp_path / "all")
    rates = {name: own["learning_rate"] for name, own in found.algorithms.items()}
    assert rates == {"PPO": 1e-3, "PPO (compare 2)": 2e-3, "PPO (compare 3)": 3e-3}
    assert [one.label for one in found.rows if one.kind == "encoder"] == [f"vae with {name}" for name in rates]


def test_a_row_of_which_a_run_failed_says_of_how_many(tmp_path: Path, no_figures) -> None:
    failed = replace(row("vae", 5, seeds=4), failures=["vae/seed4: no memory"])
    tasks = [task(failed, row("points", 5, seeds=5), *PLAYERS), task(row("vae", 5), row("points", 5), *PLAYERS, name="VoxelNavigate-v0")]
    over_both, first, second = summarise(tasks)
    cells = [{one.label: seeds_cell(summary, one) for one in summary.rows} for summary in (over_both, first, second)]
    assert [one["vae"] for one in cells] == ["4 of 5", "4 of 5", "6"]
    assert [one["points"] for one in cells] == ["5", "5", "6"]
    # of two tasks with as few, the one where some failed
    tasks = [task(row("vae", 5, seeds=4), *PLAYERS), task(failed, *PLAYERS, name="VoxelNavigate-v0")]
    (cell,) = (seeds_cell(over_both, one) for over_both in summarise(tasks)[:1] for one in over_both.rows if one.label == "vae")
    assert cell == "4 of 5"
