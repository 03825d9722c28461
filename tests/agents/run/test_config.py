"""Presets and options become settings, or one line that says what is wrong."""

from itertools import product

import pytest

from agents.learning.algorithms import BUILT_IN
from agents.run.config import AgentRun
from agents.run.environment_config import environment_preset
from agents.run.options import read_command
from comparison.config import ComparisonConfig
from foundation.errors import UserError
from foundation.presets import preset_names


def run_settings(*argv: str) -> AgentRun:
    return read_command(AgentRun, "", [*argv, "--run", "somewhere"])


# an agent preset changes nothing of an environment but whether actions are continuous: one of each kind, with all environments
PAIRS = [*product(preset_names("env"), ("ppo", "sac")), *product(["debug"], preset_names("agent"))]


@pytest.mark.parametrize(("preset", "agent"), dict.fromkeys(PAIRS))
def test_every_shipped_preset_is_valid(preset: str, agent: str) -> None:
    config = run_settings(preset, "--agent", agent, "--control", "pixels")
    expected = environment_preset(preset)
    expected.continuous = agent in ("sac", "td3")
    assert config.environment == expected
    assert config.algorithm.kind == (agent if agent in BUILT_IN else "ppo")


def test_pixels_have_settings_of_their_own(tmp_path) -> None:
    preset = tmp_path / "mine.yaml"
    preset.write_text("n_epochs: 8\nlearning_rate: 1e-4\npixels: {n_epochs: 3}\n")
    on_pixels = run_settings("debug", "--agent", str(preset), "--control", "pixels").algorithm
    on_latents = run_settings("debug", "--agent", str(preset), "--encoder", "e").algorithm
    assert (on_pixels.n_epochs, on_latents.n_epochs) == (3, 8)
    assert on_pixels.learning_rate == on_latents.learning_rate == 1e-4


@pytest.mark.parametrize("control", ["pixels", "pixels_same"])
def test_a_control_that_a_preset_names_has_its_own_settings_too(tmp_path, control: str) -> None:
    preset = tmp_path / "mine.yaml"
    encoder = [] if control == "pixels" else ["--encoder", "e"]
    preset.write_text("environment: {name: VoxelTreechop-v0}\n")
    given = run_settings(str(preset), "--control", control, *encoder)
    on_latents = run_settings(str(preset), "--encoder", "e")
    preset.write_text(f"environment: {{name: VoxelTreechop-v0}}\ncontrol: {control}\n")
    named = run_settings(str(preset), *encoder)
    assert (named.control, named.algorithm) == (control, given.algorithm)
    assert named.algorithm != on_latents.algorithm
    # and an option stands over it
    assert run_settings(str(preset), "--control", "untrained", "--encoder", "e").algorithm == on_latents.algorithm


def test_options_of_the_evaluation_stand_over_those_of_the_environment(tmp_path) -> None:
    preset = tmp_path / "mine.yaml"
    preset.write_text(
        "environment: {name: VoxelForage-v0, options: {episode_ticks: 80, palette: varied}}\nevaluation: {environment: {palette: autumn}}\n"
    )
    config = run_settings(str(preset), "--control", "pixels", "--env.weather", "rain")
    assert config.environment.options == {"episode_ticks": 80, "palette": "varied", "weather": "rain"}
    assert config.evaluated.options == {"episode_ticks": 80, "palette": "autumn", "weather": "rain"}
    assert config.evaluated.name == config.environment.name
    given = ["--control", "pixels", "--evaluation.environment.palette", "dry", "--evaluation.environment.daylight=0.5"]
    assert run_settings(str(preset), *given).evaluation.environment == {"palette": "dry", "daylight": 0.5}
    assert run_settings("voxel_recall", *given).evaluated.options == {"palette": "dry", "daylight": 0.5}
    preset.write_text("environment: {name: VoxelForage-v0}\nevaluation: {environment: {python: /usr/bin/python}}\n")
    with pytest.raises(UserError, match=r"'evaluation.environment' holds the option python, .*: give it as --env.python VALUE"):
        run_settings(str(preset), "--control", "pixels")


def test_an_option_overrides_the_presets(tmp_path) -> None:
    argv = ["debug", "--encoders", "e", "--algorithm.n-epochs", "7", "--agent=ppo", "--run", "r"]
    for control in ("", "pixels"):
        assert read_command(ComparisonConfig, "", argv, control=control).algorithm.n_epochs == 7


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["debug"], "no encoder given"),
        (["debug", "--control", "pca"], "needs the encoder it mirrors"),
        (["debug", "--control", "pixels", "--encoder", "e"], "leave out --encoder"),
        (["debgu", "--control", "pixels"], "did you mean 'debug'"),
        (["debug", "--control", "pixels", "--agent", "pop"], "did you mean 'ppo'"),
        (["debug", "--control", "pixels", "--steps", "0"], "'steps' must be at least 1"),
        (["debug", "--control", "pixels", "--algorithm.batch-size", "33"], "must divide a rollout"),
        (["debug", "--control", "pixels", "--algorithm.batch-size", "1"], "must be at least 2"),
        (["debug", "--control", "pixels", "--checkpoint-minutes", "-1"], "'checkpoint_minutes' must be at least 0"),
        (["debug", "--control", "pixels", "--agent", "dqn", "--algorithm.buffer-size", "100001"], "must be a multiple of n_envs"),
        (["debug", "--control", "pixels", "--agent", "dqn", "--algorithm.exploration-steps", "0"], "at least 1, got 0"),
        (["debug", "--control", "pixels", "--seed", "-1"], "'seed' must be from 0"),
    ],
)
def test_a_mistake_is_named(argv: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        run_settings(*argv)


def test_an_unknown_key_of_a_preset_names_the_nearest(tmp_path) -> None:
    preset = tmp_path / "mine.yaml"
    preset.write_text("lerning_rate: 1e-4\n")
    with pytest.raises(UserError, match=r"algorithm\.lerning_rate.*learning_rate"):
        run_settings("debug", "--agent", str(preset), "--control", "pixels")


def test_a_preset_has_the_settings_of_its_own_algorithm_and_no_other(tmp_path) -> None:
    preset = tmp_path / "mine.yaml"
    preset.write_text("kind: dqn\nn_epochs: 3\n")
    with pytest.raises(UserError, match=r"unknown key 'algorithm\.n_epochs'"):
        run_settings("debug", "--agent", str(preset), "--control", "pixels")
    preset.write_text("kind: dqnn\n")
    with pytest.raises(UserError, match=r"algorithm\.kind 'dqnn': did you mean"):
        run_settings("debug", "--agent", str(preset), "--control", "pixels")


def test_help_shows_the_options_of_the_chosen_algorithm(capsys) -> None:
    with pytest.raises(SystemExit):
        run_settings("debug", "--agent", "dqn", "--help")
    shown = capsys.readouterr().out
    assert "--algorithm.buffer-size" in shown
    assert "--algorithm.n-epochs" not in shown
    assert "Agent steps in which epsilon falls" in shown
    assert "running the same command again resumes" in " ".join(shown.replace("│", " ").split())


def test_pictures_take_a_smaller_replay_buffer_than_latents() -> None:
    for kind in ("dqn", "qrdqn", "sac", "td3"):
        on_pixels = run_settings("voxel_treechop", "--agent", kind, "--control", "pixels").algorithm
        on_latents = run_settings("voxel_treechop", "--agent", kind, "--encoder", "e").algorithm
        assert (on_pixels.buffer_size, on_latents.buffer_size) == (50_000, 100_000)


def test_an_agent_preset_may_say_what_it_needs_of_the_environment_and_an_option_overrides_it() -> None:
    argv = ["debug", "--agent", "sac", "--control", "pixels"]
    assert run_settings(*argv).environment.continuous
    assert not run_settings(*argv, "--environment.continuous", "False").environment.continuous


def test_an_environment_presets_own_algorithm_overrides_the_agent_preset(tmp_path) -> None:
    preset = tmp_path / "mine.yaml"
    preset.write_text("environment: {name: VoxelTreechop-v0}\nagent: debug\nalgorithm: {n_epochs: 7}\n")
    algorithm = run_settings(str(preset), "--control", "pixels").algorithm
    assert (algorithm.n_epochs, algorithm.n_envs) == (7, 2)


@pytest.mark.parametrize(("line", "message"), [("agent: 3", "'agent' must name a preset"), ("algorithm: 3", "'algorithm' must hold")])
def test_an_environment_preset_of_wrong_types_is_named(tmp_path, line, message) -> None:
    preset = tmp_path / "mine.yaml"
    preset.write_text(f"environment: {{name: VoxelTreechop-v0}}\n{line}\n")
    with pytest.raises(UserError, match=message):
        run_settings(str(preset), "--control", "pixels")


def test_an_option_without_its_value_is_named() -> None:
    with pytest.raises(UserError, match="--agent needs a value"):
        read_command(AgentRun, "", ["debug", "--control", "pixels", "--run", "r", "--agent"])


def test_controls_that_mirror_need_an_encoder() -> None:
    with pytest.raises(UserError, match="'pca' mirrors an encoder"):
        read_command(ComparisonConfig, "", ["debug", "--controls", "pca", "--run", "r"], control="")


@pytest.mark.parametrize(
    ("named", "options", "said"),
    [
        ("ale_py:ALE/Pong-v5", {}, "ale_py:ALE/Pong-v5 in place of VoxelTreechop-v0: the preset's options for that are left out"),
        ("VoxelNavigate-v0", {"episode_ticks": 80}, "the preset's options hold for it too (episode_ticks 80)"),
        ("VoxelTreechop-v0", {"episode_ticks": 80}, ""),
    ],
)
def test_options_of_a_preset_go_with_its_environment(monkeypatch, named, options, said) -> None:
    told: list[str] = []
    monkeypatch.setattr("agents.run.options.tell", told.append)
    config = run_settings("debug", "--control", "pixels", "--environment.name", named)
    assert config.environment.options == options
    assert said in "".join(told)
    assert bool(told) == bool(said)


def test_options_from_the_command_line_go_with_the_name_beside_them(monkeypatch) -> None:
    monkeypatch.setattr("agents.run.options.tell", lambda line: None)
    words = ["debug", "--control", "pixels", "--environment.name", "ale_py:ALE/Pong-v5", "--env.frameskip", "2"]
    assert run_settings(*words).environment.options == {"frameskip": 2}
    assert run_settings(*words, "--env.episode_ticks", "80").environment.options == {"frameskip": 2, "episode_ticks": 80}


def test_options_of_a_presets_evaluation_go_with_its_environment_too(monkeypatch, tmp_path) -> None:
    told: list[str] = []
    monkeypatch.setattr("agents.run.options.tell", told.append)
    preset = tmp_path / "mine.yaml"
    preset.write_text("environment: {name: VoxelTreechop-v0}\nevaluation: {environment: {palette: autumn}}\nagent: ppo\n")
    words = [str(preset), "--control", "pixels", "--environment.name"]
    assert run_settings(*words, "VoxelForage-v0").evaluation.environment == {"palette": "autumn"}
    other = run_settings(*words, "ale_py:ALE/Pong-v5", "--evaluation.environment.mode", "1")
    assert other.evaluation.environment == {"mode": 1}
    assert "left out (palette autumn)" in told[-1]
    # the same option given for training is another one
    assert run_settings(*words, "ale_py:ALE/Pong-v5", "--env.palette", "grey").evaluation.environment == {}
    assert run_settings(str(preset), "--control", "pixels").evaluation.environment == {"palette": "autumn"}
    assert len(told) == 3
