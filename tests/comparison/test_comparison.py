"""A comparison runs what is missing, hides no failure, and concludes no more than its intervals allow."""

import csv
import json
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import comparison.comparison as module
from agents.cluster.worker import Outcome
from agents.learning.off_policy import DQNSettings
from agents.learning.on_policy import PPOSettings
from agents.run.config import EvaluationConfig
from agents.run.environment_config import EnvironmentConfig
from comparison.collect import collect
from comparison.comparison import Comparison
from comparison.config import ComparisonConfig, PartConfig
from comparison.report.files import write_report
from comparison.report.tables import print_table
from encoders import StoreReference, make_encoder, prepare
from foundation.errors import UserError
from foundation.places import Address, View, Views
from pretraining import supervised
from tests.fixtures.clips import write_states

PPO = PPOSettings(n_envs=2, n_steps=16, batch_size=32, n_epochs=1, net_arch=(16,))
DQN = DQNSettings(n_envs=2, buffer_size=200, learning_starts=8, batch_size=8, net_arch=(8,))
TASKS = {"short": EnvironmentConfig(name="Bright", options={"episode_ticks": 24}), "long": EnvironmentConfig(name="Bright")}


@pytest.fixture
def compare(worlds, tmp_path, monkeypatch):
    """Return a function that runs a comparison in this process and returns it with the keys of what was run."""
    monkeypatch.setattr(module, "ray_cluster", lambda config, cpus: nullcontext())
    failing: set[str] = set()

    def in_process(jobs, workers, ended, watch, *rest, **more) -> None:
        for job in jobs:
            if job.key in failing:
                ended(Outcome(job.key, "failed", message="the world fell apart"))
            else:
                ended(Outcome(job.key, "finished", job.function(job.argument, lambda steps, note: False)))

    monkeypatch.setattr(module, "run_jobs", in_process)

    def run(tasks=("short",), agents=("ppo",), fail: tuple[str, ...] = (), **changes) -> tuple[Comparison, list[str]]:
        failing.clear()
        failing.update(fail)
        settings = {
            "evaluation": EvaluationConfig(every=32, episodes=2, final_episodes=3),
            "steps": 32,
            "controls": ("pixels",),
            "seeds": 2,
            "device": "cpu",
            "run": tmp_path / "comparison",
        }
        algorithms = {"ppo": PPO, "dqn": DQN}
        parts = []
        for task in tasks:
            for agent in agents:
                given = {"environment": TASKS[task], "algorithm": algorithms[agent], **settings, **changes}
                parts.append(PartConfig(task, agent, ComparisonConfig(**given), given["algorithm"]))
        made = Comparison(parts)
        done: list[str] = []
        made.check()
        made.run(lambda outcome: done.append(outcome.key), lambda progress: None)
        return made, done

    return run


def returns_of(result: dict) -> tuple:
    return result["final_returns"], [(point["step"], point["returns"]) for point in result.get("curve", [])]


def rows_of(keys: list[str]) -> list[str]:
    """Leave out the hash in a player's key."""
    return sorted("/".join(part.split("-")[0] for part in key.split("/")) for key in keys)


def test_rerunning_runs_nothing_and_another_seed_only_that_seed(compare) -> None:
    _, first = compare()
    assert first[0].endswith("seed0")
    assert rows_of(first) == [
        "players/short/random/seed0",
        "players/short/random/seed1",
        "runs/short/ppo/pixels/seed0",
        "runs/short/ppo/pixels/seed1",
    ]
    assert compare()[1] == []
    assert rows_of(compare(seeds=3)[1]) == ["players/short/random/seed2", "runs/short/ppo/pixels/seed2"]


def test_another_task_or_algorithm_runs_only_what_it_adds(compare) -> None:
    compare(seeds=1)
    assert rows_of(compare(agents=("ppo", "dqn"), seeds=1)[1]) == ["runs/short/dqn/pixels/seed0"]
    added = compare(tasks=("short", "long"), agents=("ppo", "dqn"), seeds=1)[1]
    assert rows_of(added) == ["players/long/random/seed0", "runs/long/dqn/pixels/seed0", "runs/long/ppo/pixels/seed0"]
    made, nothing = compare(tasks=("long",), agents=("dqn",), seeds=1)
    assert nothing == []
    assert [one.partition(" ")[0].partition("-")[0] for one in made.not_asked()] == [
        "players/short/random",
        "runs/long/ppo/pixels",
        "runs/short/dqn/pixels",
        "runs/short/ppo/pixels",
    ]


def test_one_report_holds_all_tasks_and_algorithms_and_names_what_was_not_asked(compare, no_figures) -> None:
    compare(seeds=2)
    made, _ = compare(tasks=("short", "long"), agents=("ppo", "dqn"), seeds=1)
    write_report(made, "the command")
    content = json.loads((made.config.run / "comparison.json").read_text())
    assert [task["name"] for task in content["results"]] == ["Bright (short)", "Bright (long)"]
    assert [row["label"] for row in content["results"][0]["rows"]] == ["pixels with PPO", "pixels with DQN", "random policy"]
    assert set(content["results"][0]["algorithms"]) == {"PPO", "DQN"}
    assert "runs/short/ppo/pixels (seed 1)" in content["not_asked"]
    page = (made.config.run / "report.html").read_text()
    assert "but not part of this command" in page
    # settings of both algorithms
    assert "n_epochs: 1" in page
    assert "buffer_size: 200" in page


def test_two_presets_of_one_algorithm_are_told_apart(compare) -> None:
    made, _ = compare(agents=("ppo", "dqn"), seeds=1)
    twin = replace_part(made, "dqn", PPO)
    assert [row.label for row in collect(twin, "", {})[0].rows] == ["pixels with PPO (ppo)", "pixels with PPO (dqn)", "random policy"]


def replace_part(made: Comparison, agent: str, settings: PPOSettings) -> Comparison:
    """Return the comparison with another algorithm under an agent preset's name."""
    parts = [PartConfig(part.task, part.agent, part.config, part.asked.pixels) for part in made.parts]
    changed = [replace(part, shared=replace(part.shared, algorithm=settings)) if part.agent == agent else part for part in parts]
    return Comparison(changed)


def test_a_failed_run_is_shown_and_stops_no_other(compare, capsys, no_figures) -> None:
    made, done = compare(fail=("runs/short/ppo/pixels/seed0",))
    assert len(done) == 4
    summaries = write_report(made, "the command")
    assert [one.fewest_seeds for one in summaries[0].rows] == [1, 2]
    print_table(summaries)
    assert "the world fell apart" in capsys.readouterr().out
    assert "the world fell apart" in (made.config.run / "report.html").read_text()
    assert compare()[1] == ["runs/short/ppo/pixels/seed0"]
    assert collect(made, "the command", {})[0].rows[0].failures == []


def test_a_row_without_any_result_still_has_its_line(compare, no_figures) -> None:
    made, _ = compare(fail=("runs/short/ppo/pixels/seed0", "runs/short/ppo/pixels/seed1"))
    write_report(made, "the command")
    rows = json.loads((made.config.run / "comparison.json").read_text())["rows"]
    assert rows[0]["row"] == "pixels"
    assert rows[0]["iqm"] is None
    assert rows[0]["failed"] == 2


def test_what_was_started_again_is_counted_in_every_form_of_the_report(compare, capsys, no_figures) -> None:
    made, _ = compare()
    cell = made.parts[0].cells[0]
    result = {**cell.result(), "attempts": 3, "restarts": 2}
    (cell.folder / "result.json").write_text(json.dumps(result))
    print_table(write_report(made, "the command"))
    shown = capsys.readouterr().out
    assert "runs 2, environments 2" in shown
    assert "Restarts: runs were restarted 2 times" in shown
    folder = made.config.run
    assert "runs 2, environments 2" in (folder / "report.html").read_text()
    row = json.loads((folder / "comparison.json").read_text())["rows"][0]
    assert (row["run_restarts"], row["restarts"]) == (2, 2)
    first = next(csv.DictReader((folder / "comparison.csv").open(newline="")))
    assert (first["restarts"], first["attempts"]) == ("2", "3")


def test_a_point_of_a_learning_curve_is_the_mean_return_of_its_evaluation(compare) -> None:
    made, _ = compare(seeds=1, evaluation=EvaluationConfig(every=32, episodes=3, final_episodes=3))
    told = json.loads((made.parts[0].cells[0].folder / "result.json").read_text())["curve"]
    assert [(point["step"], len(set(point["returns"])) > 1) for point in told] == [(32, True)]
    (run,) = collect(made, "the command", {})[0].rows[0].runs
    assert [(point.step, point.seconds) for point in run.curve] == [(point["step"], point["seconds"]) for point in told]
    assert [point.score for point in run.curve] == pytest.approx([sum(point["returns"]) / 3 for point in told])


def test_a_report_holds_a_film_of_every_row_and_a_line_of_every_run(compare) -> None:
    made, _ = compare()
    write_report(made, "python compare_encoders.py <debug>")
    page = (made.config.run / "report.html").read_text()
    assert page.count("data:image/webp;base64,") == 2
    assert "&lt;debug&gt;" in page
    assert len((made.config.run / "comparison.csv").read_text().splitlines()) == 1 + 4
    for name in ("intervals", "curves", "profiles"):
        assert (made.config.run / f"{name}.png").is_file()
        assert (made.config.run / f"{name}.svg").is_file()


def test_other_settings_in_the_same_folder_are_refused_and_other_tasks_are_not(compare) -> None:
    compare(seeds=1)
    with pytest.raises(UserError, match=r"runs/short/ppo: holds a run with evaluation\.final_episodes = 3, but you asked for 4"):
        compare(seeds=1, evaluation=EvaluationConfig(every=32, episodes=2, final_episodes=4))
    with pytest.raises(UserError, match=r"algorithm\.n_epochs = 1, but you asked for 2"):
        compare(seeds=1, algorithm=replace(PPO, n_epochs=2))
    with pytest.raises(UserError, match="have 32 steps, but you asked for 16; choose another --run"):
        compare(seeds=1, steps=16)
    assert compare(tasks=("long",), seeds=1, algorithm=replace(PPO, n_epochs=2))[1]


def test_settings_with_which_nothing_was_trained_bind_nobody(compare) -> None:
    _, done = compare(seeds=1, fail=("runs/short/ppo/pixels/seed0",))
    assert len(done) == 2
    assert compare(seeds=1, algorithm=replace(PPO, n_epochs=2))[1] == ["runs/short/ppo/pixels/seed0"]


def test_a_folder_of_another_version_is_refused_with_what_to_do(compare, tmp_path: Path) -> None:
    folder = tmp_path / "comparison"
    (folder / "runs" / "pixels" / "seed0").mkdir(parents=True)
    with pytest.raises(UserError, match=r"holds runs, but no grid\.yaml.*choose another --run"):
        compare()
    (folder / "grid.yaml").write_text("format: 7\n")
    with pytest.raises(UserError, match=r"grid\.yaml: has format 7.*choose another --run"):
        compare()
    assert sorted(path.name for path in folder.iterdir()) == ["grid.yaml", "runs"]


def test_a_mistake_does_not_spoil_the_folder_for_the_right_command(compare, monkeypatch, tmp_path) -> None:
    def unknown(name, **options):
        raise UserError("unknown environment")

    with monkeypatch.context() as patched:
        patched.setattr("envs.make_env", unknown)
        with pytest.raises(UserError, match="short with ppo: unknown environment"):
            compare()
    assert not (tmp_path / "comparison").exists()


@pytest.fixture
def mirrored(tmp_path, state_store) -> Path:
    """Return the folder of an untrained encoder that names a store with states."""
    frames = np.random.default_rng(0).integers(0, 256, (32, 64, 64, 3), np.uint8)
    store = StoreReference(path=str(state_store), fingerprint="f", frames_per_second=20.0, resize="squash")
    prepare(make_encoder("debug", frame_shape=[64, 64, 3]), frames, tmp_path / "mirrored", store=store)
    return tmp_path / "mirrored"


@pytest.fixture
def telling(monkeypatch) -> None:
    """Let the short task tell its state, and the supervised encoder train shortly."""
    monkeypatch.setitem(TASKS, "short", EnvironmentConfig(name="Telling", options={"episode_ticks": 24}))
    monkeypatch.setattr(supervised, "STEPS", 10)
    monkeypatch.setattr(supervised, "FRAMES_A_STEP", 8)


def test_references_are_added_to_a_comparison_and_made_once_for_all_seeds(compare, mirrored, telling, no_figures) -> None:
    rows = {"encoders": (mirrored,), "seeds": 2}
    assert rows_of(compare(controls=("untrained",), **rows)[1])[0].startswith("players/")
    made, done = compare(controls=("untrained", "oracle", "supervised"), **rows)
    assert rows_of(done) == [f"runs/short/ppo/{row}/seed{seed}" for row in ("oracle", "supervised") for seed in (0, 1)]
    folders = sorted(path.name.split("-")[0] for path in (made.config.run / "encoders").iterdir() if path.is_dir())
    assert folders == ["supervised"]
    results = {cell.row.label: cell.result() for cell in made.cells}
    assert results["oracle"]["encoder"] is None
    assert results["supervised"]["encoder"]["name"] == "conv_vae"
    write_report(made, "the command")
    content = json.loads((made.config.run / "comparison.json").read_text())
    lines = {line["row"]: line for line in content["rows"]}
    assert (lines["supervised"]["told"], lines["untrained"]["told"]) == ("trained on the answers", None)
    assert content["gaps"][0]["bottom"] == "untrained"
    assert content["gaps"][0]["top"] == "oracle"


def test_a_control_made_once_is_not_taken_for_one_of_other_frames(compare, mirrored, telling, no_figures, state_store, tmp_path) -> None:
    rows = {"encoders": (mirrored,), "controls": ("pca", "supervised")}
    compare(**rows, seeds=1, store=state_store)
    other = write_states(tmp_path / "other", first=9)
    with pytest.raises(UserError, match=rf"short with ppo: control 'pca' .* was made from other frames .*--store {other} has"):
        compare(**rows, seeds=2, store=other)
    _, done = compare(**rows, seeds=2, store=state_store)
    assert [row.rpartition("/")[2] for row in rows_of(done)] == ["seed1"] * 4


def test_rows_through_a_service_are_those_of_the_folder_and_a_folder_of_runs_connects_to_none(
    compare, mirrored, telling, no_figures, serve, state_store, tmp_path
) -> None:
    served = serve(mirrored)
    address = Address(served.address())
    controls = {"controls": ("untrained", "pca", "supervised"), "seeds": 1, "store": state_store}
    made, _ = compare(encoders=(address,), **controls, run=tmp_path / "there")
    expected, _ = compare(encoders=(mirrored,), **controls, run=tmp_path / "here")
    found, wanted = ({cell.key: cell.result() for cell in one.cells} for one in (made, expected))
    assert found.keys() == wanted.keys()
    for key, result in wanted.items():
        assert returns_of(found[key]) == returns_of(result), key
    assert found[made.parts[0].cells[0].key]["encoder_folder"] == address
    task = collect(made, "the command", {})[0]
    about = {row.label: row.encoder for row in task.rows}
    assert (about["conv_vae"].speed.device, about["untrained"].speed.device) == ("service", "cpu")
    assert about["conv_vae"].parameters == about["untrained"].parameters
    assert about["conv_vae"].generates
    # what is there is not done again, nor asked of the service that its results name
    asked = served.count()
    again, done = compare(encoders=(mirrored,), **controls, run=tmp_path / "there")
    row = {row.label: row for row in collect(again, "the command", {})[0].rows}["conv_vae"]
    assert (done, served.count(), row.encoder.speed) == ([], asked, None)
    assert row.encoder.weights_sha256 == about["conv_vae"].weights_sha256


def test_controls_see_what_was_said_with_the_first_encoder(compare, state_store, tmp_path) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (16, 64, 64, 3), np.uint8)
    store = StoreReference(path=str(state_store), fingerprint="f", frames_per_second=20.0, resize="squash")
    prepare(make_encoder("nvae_debug"), frames, tmp_path / "nvae", store=store)
    view = Views((View(tmp_path / "nvae", "top_down", "whiten"),))
    made, _ = compare(encoders=(view,), controls=("untrained", "pca", "finetuned"), seeds=1)
    seen = {cell.row.label: cell.result()["encoder"] for cell in made.cells if cell.row.kind == "control"}
    # the encoder's own reading has 12
    assert {label: (about["latents"], about["scale"]) for label, about in seen.items()} == dict.fromkeys(seen, ([32], "whiten"))
    assert seen["untrained"]["reading"] == "top_down"


def test_an_oracle_of_a_world_that_tells_nothing_and_one_without_recorded_state_are_refused(compare, mirrored, tmp_path) -> None:
    with pytest.raises(UserError, match=r"short with ppo: Bright tells nothing of its state .*leave it out"):
        compare(controls=("oracle",))
    without = write_states(tmp_path / "without", state=False)
    with pytest.raises(UserError, match=r"short with ppo: .*without: holds no state.*--record state"):
        compare(controls=("supervised",), encoders=(mirrored,), store=without)
    with pytest.raises(UserError, match="control 'supervised' mirrors an encoder"):
        PartConfig("short", "ppo", ComparisonConfig(environment=TASKS["short"], controls=("supervised",), run=tmp_path), PPO).shared.check()
    assert not (tmp_path / "comparison").exists()
