"""A command's words become a grid; what cannot work is refused before anything runs; what runs is shown as it is."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from agents.cluster.board import Progress
from agents.cluster.worker import Outcome
from comparison import progress as progress_table
from comparison.checks import refuse_misfits
from comparison.command import compare
from comparison.config import PartConfig, read_grid
from comparison.grid import Part, refuse_other_layout
from comparison.progress import ProgressTable, grid_progress
from encoders import StoreReference, make_encoder, prepare
from encoders.artifact import read_info
from foundation import progress
from foundation.errors import UserError
from tests.fixtures.agents import BrightWorld

PLACE = "a node, 1 CPU"


def grid(*argv: str) -> list[PartConfig]:
    return read_grid("", [*argv, "--run", "somewhere"])


@pytest.fixture
def encoder(tmp_path):
    """Return a function that makes the folder of an untrained encoder of frames of any size."""

    def make(name: str, side: int = 64, rate: float = 20.0, preset: str = "debug") -> Path:
        frames = np.random.default_rng(side).integers(0, 256, (16, 4, side, side, 3), np.uint8)
        store = StoreReference(path=str(tmp_path / "gone"), fingerprint="0", frames_per_second=rate, resize="squash")
        model = make_encoder(preset, frame_shape=[side, side, 3])
        prepare(model, frames[:, 0] if preset == "debug" else frames, tmp_path / name, store=store, seed=side)
        return tmp_path / name

    return make


@pytest.fixture
def presets(tmp_path) -> tuple[str, str, str]:
    """Return a task of the tiny world, one with other steps, and an agent."""
    for name, steps in (("first", 100), ("second", 300)):
        text = f"environment: {{name: Bright}}\nevaluation: {{every: 50, episodes: 2, final_episodes: 2}}\nagent: debug\nsteps: {steps}\n"
        (tmp_path / f"{name}.yaml").write_text(text)
    (tmp_path / "mine.yaml").write_text("kind: dqn\nn_envs: 2\nbuffer_size: 100\nenvironment: {sticky_attack: 2}\n")
    return str(tmp_path / "first.yaml"), str(tmp_path / "second.yaml"), str(tmp_path / "mine.yaml")


def test_every_task_is_asked_for_with_every_agent_and_keeps_what_its_preset_says(presets) -> None:
    first, second, mine = presets
    parts = grid(first, second, "--agent", "ppo", mine, "--controls", "pixels", "--seeds", "3")
    assert [(one.task, one.agent) for one in parts] == [("first", "ppo"), ("first", "mine"), ("second", "ppo"), ("second", "mine")]
    assert [one.shared.steps for one in parts] == [100, 100, 300, 300]
    assert [one.shared.algorithm.kind for one in parts] == ["ppo", "dqn", "ppo", "dqn"]
    assert [one.shared.environment.sticky_attack for one in parts] == [0, 2, 0, 2]
    assert {one.shared.seeds for one in parts} == {3}
    # pixels have settings of their own
    assert (parts[0].shared.algorithm.n_epochs, parts[0].pixels.n_epochs) == (8, 4)


def test_seeds_follow_the_first(presets) -> None:
    (part,) = [Part(one) for one in grid(presets[0], "--controls", "pixels", "--seeds", "2", "--first-seed", "6")]
    assert [(cell.seed, cell.run.seed, cell.folder.name) for cell in part.cells_of(part.rows[0])] == [(6, 6, "seed6"), (7, 7, "seed7")]
    with pytest.raises(UserError, match=r"first.seed"):
        grid(presets[0], "--controls", "pixels", "--first-seed", "-1")


def test_an_option_holds_for_all_parts_and_a_task_without_agents_has_its_own(presets) -> None:
    parts = grid(*presets[:2], "--controls", "pixels", "--steps", "70", "--evaluation.final-episodes", "5")
    assert [(one.agent, one.shared.steps, one.shared.evaluation.final_episodes) for one in parts] == [("debug", 70, 5)] * 2


def test_a_mistake_names_the_task_and_the_algorithm(presets, tmp_path) -> None:
    first, _, mine = presets
    with pytest.raises(UserError, match=r"with .*mine\.yaml: .*n-epochs"):
        grid(first, "--agent", "ppo", mine, "--controls", "pixels", "--algorithm.n-epochs", "2")
    with pytest.raises(UserError, match="did you mean 'ppo'"):
        grid(first, "--agent", "pop", "--controls", "pixels")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "first.yaml").write_text(Path(first).read_text())
    with pytest.raises(UserError, match="two presets are called 'first'"):
        grid(first, str(tmp_path / "other" / "first.yaml"), "--controls", "pixels")
    (tmp_path / "other" / "third.yaml").write_text(Path(first).read_text() + "workers: 3\n")
    with pytest.raises(UserError, match="do not agree on 'workers'"):
        grid(first, str(tmp_path / "other" / "third.yaml"), "--controls", "pixels")
    with pytest.raises(UserError, match="one --agent trains here, got ppo, dqn"):
        from agents.run.config import AgentRun
        from agents.run.options import read_command

        read_command(AgentRun, "", ["debug", "--agent", "ppo", "dqn", "--control", "pixels", "--run", "r"])


def test_players_are_played_once_for_all_algorithms_that_act_alike(worlds, presets) -> None:
    first, _, mine = presets
    parts = [Part(one) for one in grid(first, "--agent", "ppo", "debug", mine, "--controls", "pixels", "--seeds", "1")]
    players = [cell.key for part in parts for cell in part.cells if cell.row.player]
    # the last acts in another way: it holds attacks
    assert players[0] == players[1] != players[2]
    assert all(key.startswith("players/first/random-") for key in players)


def test_an_algorithm_that_cannot_act_in_a_task_is_refused_with_both_names(worlds, presets, tmp_path) -> None:
    argv = [presets[0], "--agent", "ppo", "sac", "--environment.continuous", "False", "--controls", "pixels"]
    with pytest.raises(UserError, match="first with sac: agent 'sac' needs continuous actions"):
        compare([*argv, "--run", str(tmp_path / "grid"), "--device", "cpu"])
    assert not (tmp_path / "grid").exists()


@pytest.mark.parametrize(
    ("made", "options", "message"),
    [
        ({"side": 32}, [], r"first with ppo: .*mine was trained on frames of \(32, 32, 3\), and the pictures here are \(64, 64, 3\): add "),
        ({"preset": "cwvae_debug"}, [], r"first with ppo: .*mine: this encoder has memory and was trained at 20.0 frames/s"),
        ({}, ["--controls", "pca"], r"gone: the store that the encoder was trained on is gone; name one with --store"),
        ({}, ["--controls", "untrained", "--store", "nowhere"], r"nowhere: there is no such store; name one with --store"),
    ],
)
def test_an_encoder_or_a_store_that_does_not_fit_is_refused_before_anything_runs(
    worlds, encoder, presets, tmp_path, made, options, message
) -> None:
    argv = [presets[0], "--agent", "ppo", "--encoders", str(encoder("mine", **made)), *options]
    with pytest.raises(UserError, match=message):
        compare([*argv, "--run", str(tmp_path / "grid"), "--device", "cpu"])
    assert not (tmp_path / "grid").exists()


def test_a_retrained_encoder_is_another_row_and_one_named_twice_is_refused(worlds, encoder, presets) -> None:
    folder = encoder("mine")
    argv = [presets[0], "--agent", "ppo", "--encoders", str(folder), "--seeds", "1"]
    before = Part(grid(*argv)[0]).cells[0].key
    model = make_encoder("debug", frame_shape=[64, 64, 3])
    store = StoreReference(path="gone", fingerprint="0", frames_per_second=20.0, resize="squash")
    prepare(model, np.zeros((16, 64, 64, 3), np.uint8), folder, store=store, seed=1)
    after = Part(grid(*argv)[0]).cells[0].key
    assert before != after
    assert before.startswith("runs/first/ppo/mine-")
    with pytest.raises(UserError, match="named twice"):
        Part(grid(presets[0], "--agent", "ppo", "--encoders", str(folder), str(folder))[0])


def test_an_empty_folder_may_become_a_comparison(tmp_path) -> None:
    refuse_other_layout(tmp_path)
    refuse_other_layout(tmp_path / "new")


@pytest.fixture
def parts(worlds, presets, tmp_path) -> list[Part]:
    argv = [*presets[:2], "--agent", "ppo", presets[2], "--controls", "pixels", "--seeds", "2", "--run", str(tmp_path / "grid")]
    return [Part(one) for one in read_grid("", argv)]


def shown(table: ProgressTable, height: int = 40) -> list[str]:
    """Return the lines of the table in a terminal of 80 columns."""
    terminal = Console(width=80, height=height, force_terminal=True, color_system=None, _environ={})
    with terminal.capture() as captured:
        terminal.print(table)
    return captured.get().rstrip("\n").split("\n")


def test_the_table_says_of_every_row_how_far_its_runs_are(parts) -> None:
    now = [0.0]
    table = ProgressTable(parts, clock=lambda: now[0])
    first, second = (cell for cell in parts[0].cells if cell.row.control)
    (first.folder).mkdir(parents=True)
    lines = ['{"step": 50, "evaluation/return": 1.25}', '{"step": 60, "environments/deaths": 3}', '{"step": 6']
    (first.folder / "metrics.jsonl").write_text("\n".join(lines))
    table.watch(Progress(places={first.key: PLACE}))
    now[0] = 2.0
    table.watch(Progress(steps={first.key: 60}, places={first.key: PLACE}, restarts={first.key: 1}))
    line = next(line for line in shown(table) if line.startswith("  pixels"))
    assert line.split() == ["pixels", "1", "1", "60", "30", "1.25", "4"]
    table.ended(Outcome(first.key, "finished", {"final_return": 2.0, "restarts": 3}, restarts=1))
    table.ended(Outcome(second.key, "failed", message="no memory"))
    line = next(line for line in shown(table) if line.startswith("  pixels"))
    assert line.split() == ["pixels", "1", "1", "100", "2.00", "4"]
    assert any("100/1600" in line for line in shown(table))


def test_the_table_fits_a_small_terminal_and_hides_no_row_that_runs(parts) -> None:
    table = ProgressTable(parts)
    last = parts[-1].cells[0]
    table.watch(Progress(places={last.key: PLACE}))
    whole, small = shown(table), shown(table, height=10)
    assert len(small) <= 10
    assert max(len(line) for line in (*whole, *small)) <= 80
    assert "second with mine" in [line.strip() for line in small]
    assert any(line.strip().startswith("and 5 rows more: 10 runs waiting") for line in small)
    assert not any("rows more" in line for line in whole)
    everywhere = {cell.key: PLACE for part in parts for cell in part.cells if cell.seed == 0}
    table.watch(Progress(places=everywhere))
    assert any(line.strip().startswith("and 4 rows more: 4 runs running, 4 runs waiting") for line in shown(table, height=10))


def test_the_table_tells_tasks_and_encoders_with_long_names_apart_in_eighty_columns(parts) -> None:
    named = [("voxel_navigate_dense", "ppo"), ("voxel_navigate_dense", "maskable_ppo")]
    for part, (task, agent) in zip(parts, named, strict=False):
        part.task, part.agent = task, agent
        part.learners[0] = replace(part.learners[0], label="conv_vae (treechop-conv-1)")
        part.cells = [replace(cell, row=part.learners[0]) if cell.row.kind != "player" else cell for cell in part.cells]
    lines = shown(ProgressTable(parts))
    assert {"voxel_navigate_dense with ppo", "voxel_navigate_dense with maskable_ppo"} <= {line.strip() for line in lines}
    assert sum("conv_vae (treechop-conv-1) " in line for line in lines) == 2
    assert max(len(line) for line in lines) <= 80


def test_a_resumed_comparison_counts_what_its_checkpoints_hold(parts) -> None:
    finished, half = (cell for cell in parts[0].cells if cell.row.control)
    for cell, name, content in (
        (finished, "result.json", {"steps": 100, "final_return": 1.0, "final_returns": [1.0], "seed": 0}),
        (half, "agent.json", {"steps": 40}),
    ):
        cell.folder.mkdir(parents=True)
        (cell.folder / name).write_text(json.dumps(content))
    table = ProgressTable(parts)
    assert (table.steps, table.count("done"), table.count("wait")) == (140, 1, len(table.cells) - 1)


def test_without_a_terminal_lines_tell_of_ends_and_tenths(parts, capsys) -> None:
    # of 300 steps; all runs together have 1,600
    cell, other = parts[2].cells[:2]
    with grid_progress(parts) as table:
        for steps in (100, 150, 200, 250, 300):
            table.watch(Progress(steps={cell.key: steps}, places={cell.key: PLACE}))
        table.ended(Outcome(cell.key, "finished", {"final_return": 2.0}))
        table.ended(Outcome(other.key, "failed", message="no [memory]"))
    told = capsys.readouterr().err.splitlines()
    assert [line.partition(", ")[0] for line in told] == [
        "comparing: 200/1600 steps",
        "runs/second/ppo/pixels/seed0: mean return 2.00 (1 of 16 runs)",
        "failed: runs/second/ppo/pixels/seed1: no [memory]",
    ]


def test_the_table_appears_with_the_first_report_and_failures_stand_above_it(parts, monkeypatch) -> None:
    terminal = Console(width=80, height=40, force_terminal=True, color_system=None, record=True, _environ={})
    # lines and table share one console, and so stand above each other
    assert progress_table.console is progress.console
    for module in (progress_table, progress):
        monkeypatch.setattr(module, "console", terminal)
    cell = parts[0].cells[0]
    with terminal.capture() as captured, grid_progress(parts) as table:
        table.watch(Progress(places={cell.key: PLACE}))
        table.ended(Outcome(cell.key, "failed", message="no memory"))
        table.watch(Progress())
    assert f"failed: {cell.key}: no memory" in captured.get()
    assert captured.get().index("failed: ") < captured.get().rindex("first with ppo")


def test_a_row_is_an_encoder_in_a_scale_or_several_side_by_side(encoder) -> None:
    one, other = encoder("one"), encoder("other")
    words = [f"{one}", f"{one},scale=global", f"{one}+{other},scale=whiten"]
    [asked] = grid("debug", "--controls", "pixels", "--encoders", *words)
    part = Part(asked)
    assert [row.label for row in part.learners] == ["conv_vae", "conv_vae, global", "conv_vae + conv_vae, whiten", "pixels"]
    keys = [row.key for row in part.learners]
    assert len(set(keys)) == len(keys)
    digits = [read_info(folder).weights_sha256[:8] for folder in (one, other)]
    assert keys == [f"one-{digits[0]}", f"one_scale_global-{digits[0]}", f"one_other_scale_whiten-{digits[0]}-{digits[1]}", "pixels"]
    runs = {cell.row.key: cell.run for cell in part.cells if cell.seed == 0 and cell.row.kind == "encoder"}
    assert [str(run.encoder) for run in runs.values()] == words
    refuse_misfits([part])
    [mirroring] = grid("debug", "--controls", "pca", "--encoders", words[1], words[2])
    mirrored = next(row for row in Part(mirroring).learners if row.control == "pca")
    assert (mirrored.key, str(mirrored.encoder)) == (f"pca_scale_global-{digits[0]}", words[1])
    [first] = grid("debug", "--controls", "pca", "--encoders", words[2])
    with pytest.raises(UserError, match=r"control 'pca' mirrors the first encoder, and .* is several side by side: name one alone first"):
        Part(first)
    [twice] = grid("debug", "--encoders", words[1], words[1])
    with pytest.raises(UserError, match="the same encoder is named twice"):
        Part(twice)


def test_controls_mirror_the_reading_and_the_scale_that_are_said_with_the_first_encoder(worlds, encoder) -> None:
    folder = encoder("one")
    digits, controls = read_info(folder).weights_sha256[:8], ("pixels", "untrained", "finetuned", "pca")

    def rows(said: str) -> dict[str, tuple[str, str]]:
        [asked] = grid("debug", "--controls", *controls, "--seeds", "1", "--encoders", f"{folder}{said}")
        runs = {cell.row.control: cell.run for cell in Part(asked).cells if cell.row.kind == "control"}
        return {control: (run.run.parent.name, str(run.encoder)) for control, run in runs.items()}

    made = "somewhere/encoders/pca"
    # as in comparisons of before one could say it
    assert rows("") == {
        "pixels": ("pixels", "None"),
        **{one: (f"{one}-{digits}", str(folder)) for one in ("untrained", "finetuned")},
        "pca": (f"pca-{digits}", f"{made}-{digits}"),
    }
    said, name = ",latents=mean,scale=whiten", "latents_mean_scale_whiten"
    assert rows(said) == {
        "pixels": ("pixels", "None"),
        **{one: (f"{one}_{name}-{digits}", f"{folder}{said}") for one in ("untrained", "finetuned")},
        "pca": (f"pca_{name}-{digits}", f"{made}_latents_mean-{digits},scale=whiten"),
    }


def test_a_wrong_option_of_evaluations_worlds_is_refused_before_anything_runs(presets, monkeypatch) -> None:
    def make(name, **options):
        if options:
            raise UserError(f"no option '{next(iter(options))}'")
        return BrightWorld()

    monkeypatch.setattr("envs.make_env", make, raising=False)
    argv = [presets[0], "--agent", "ppo", "--controls", "pixels"]
    refuse_misfits([Part(grid(*argv)[0])])
    with pytest.raises(UserError, match="first with ppo: no option 'palette'"):
        refuse_misfits([Part(grid(*argv, "--evaluation.environment.palette", "dry")[0])])


def test_what_takes_one_picture_has_no_history(worlds, encoder, presets, tmp_path) -> None:
    argv = [presets[0], "--agent", "ppo", "--encoders", str(encoder("mine")), "--environment.history"]
    with pytest.raises(UserError, match=r"with ppo: control 'finetuned' learns an encoder, .*: use --environment\.history 1"):
        grid(*argv, "2", "--controls", "untrained", "finetuned")
    with pytest.raises(UserError, match=r"first with ppo: a history of 22 pictures \(64, 64, 3\) has 66 channels.*history to 21"):
        compare([*argv, "22", "--controls", "pixels", "--run", str(tmp_path / "grid"), "--device", "cpu"])


def test_a_set_has_no_history_in_a_comparison(worlds, presets, tmp_path) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (8, 2, 64, 64, 3), np.uint8)
    store = StoreReference(path="gone", fingerprint="0", frames_per_second=20.0, resize="squash")
    prepare(make_encoder("efficientmorl_debug", frame_shape=[64, 64, 3]), frames[:, 0], tmp_path / "slots", store=store)
    argv = [presets[0], "--agent", "ppo", "--encoders", str(tmp_path / "slots"), "--environment.history"]
    refuse_misfits([Part(grid(*argv, "1")[0])])
    with pytest.raises(UserError, match=r"first with ppo: .*slots: .*these are a set: use --environment\.history 1"):
        refuse_misfits([Part(grid(*argv, "2")[0])])


def test_settings_of_a_control_may_change_until_it_has_a_run(worlds, encoder, presets, tmp_path) -> None:
    own = tmp_path / "own.yaml"
    own.write_text("kind: ppo\nn_epochs: 3\n")
    argv = [presets[0], "--agent", "ppo", "--encoders", str(encoder("mine")), "--run", str(tmp_path / "grid")]

    def part(*more: str) -> Part:
        return Part(read_grid("", [*argv, *more])[0])

    def begin(made: Part, *controls: str | None) -> None:
        made.remember_settings()
        for cell in made.cells:
            if cell.seed == 0 and cell.row.kind != "player" and cell.row.control in controls:
                cell.folder.mkdir(parents=True)
                (cell.folder / "resume.pt").touch()

    begin(part(), None)
    asked = part("--controls", "pixels", "finetuned", "--pixel-agent", str(own))
    asked.refuse_other_settings()
    begin(asked, "pixels")
    # what has run yet are the rows on latents and on pixels
    with pytest.raises(UserError, match=r"holds a run with pixels_algorithm\."):
        part().refuse_other_settings()
    begin(asked, "finetuned")
    own.write_text("kind: ppo\npixels: {n_epochs: 3}\nfinetuned: {n_epochs: 5}\n")
    with pytest.raises(UserError, match=r"finetuned_algorithm\.n_epochs = 3, but you asked for 5"):
        part("--pixel-agent", str(own)).refuse_other_settings()


def test_a_history_does_not_change_what_players_play(presets) -> None:
    parts = [Part(grid(presets[0], "--controls", "pixels", *more)[0]) for more in ([], ["--environment.history", "2"])]
    assert [row.key for row in parts[0].players] == [row.key for row in parts[1].players]
