"""Files that are shared start no program: an agent, a run's settings, a comparison's, a search's trials, a checkpoint."""

import json

import pytest
import torch
import yaml

import envs
from agents.playing import play
from agents.run.config import AgentRun
from agents.run.options import read_command
from agents.run.training import train_agent
from comparison.config import read_grid
from foundation.env_options import RUNNING_OPTIONS
from foundation.errors import UserError


@pytest.fixture
def program(tmp_path):
    """Return a script that leaves a file behind when it is started, and that file."""
    script, trace = tmp_path / "x.sh", tmp_path / "started"
    script.write_text(f"#!/bin/sh\ntouch {trace}\n")
    script.chmod(0o755)
    return script, trace


@pytest.fixture
def trained(small_run):
    """Return the settings of a finished run in a world of ours."""
    config = small_run(steps=32)
    train_agent(config, lambda steps, note: False)
    return config


def in_minerl(settings, **options):
    settings["environment"] |= {"name": "MineRLTreechop-v0", "options": {"server": "voxel", **options}}


def change(path, options):
    content = json.loads(path.read_text())
    in_minerl(content["settings"], **options)
    path.write_text(json.dumps(content))


def test_a_shared_agent_starts_no_program_of_its_own(trained, program):
    script, trace = program
    change(trained.run / "agent.json", {"python": str(script)})
    with pytest.raises(UserError, match=r"agent\.json: .*option python = .*x\.sh.*add --env\.python") as refused:
        play([str(trained.run)])
    assert "\n" not in str(refused.value)
    assert not trace.exists()


def test_a_shared_agent_does_not_say_how_a_game_runs(trained):
    for name in RUNNING_OPTIONS:
        change(trained.run / "agent.json", {name: 1})
        with pytest.raises(UserError, match=rf"agent\.json: .*option {name} = 1.*add --env\.{name.replace('_', '-')} VALUE"):
            play([str(trained.run)])


def test_a_shared_agent_names_no_path_to_an_environment_of_another_package(trained):
    for value in ("/home/somebody/world.wad", "~/world", "..\\world", "a/b"):
        change(trained.run / "agent.json", {"level": value})
        with pytest.raises(UserError, match=r"option level = .*add --env\.level VALUE"):
            play([str(trained.run)])


def test_what_the_command_line_says_takes_the_place_of_what_a_file_says(trained, program, monkeypatch):
    made, make_env = [], envs.make_env
    monkeypatch.setattr("envs.make_env", lambda name, **options: made.append(options) or make_env(name))
    change(trained.run / "agent.json", {"python": str(program[0])})
    play([str(trained.run), "--env.python", "/opt/python"])
    assert made[-1] == {"server": "voxel", "python": "/opt/python"}


@pytest.mark.parametrize("place", ["config.yaml", "link.yaml"])
def test_a_runs_settings_as_a_preset_say_nothing_of_it_either(trained, program, tmp_path, place):
    script, _ = program
    settings = yaml.safe_load((trained.run / "config.yaml").read_text())
    in_minerl(settings, python=str(script))
    (trained.run / "config.yaml").write_text(yaml.safe_dump(settings))
    (tmp_path / "link.yaml").symlink_to(trained.run / "config.yaml")
    preset = str(trained.run / place if place == "config.yaml" else tmp_path / place)
    words = [preset, "--run", str(tmp_path / "again")]
    with pytest.raises(UserError, match=r"\.yaml: .*option python = "):
        read_command(AgentRun, "", words)
    with pytest.raises(UserError, match=r"\.yaml: .*option python = "):
        play([preset, "--player", "random"])
    with pytest.raises(UserError, match=r"\.yaml: .*option python = "):
        read_command(AgentRun, "", ["minerl_treechop", "--agent", agent_preset(trained, script), *words[1:], "--control", "pixels"])
    assert read_command(AgentRun, "", [*words, "--env.python", "mine"]).environment.options["python"] == "mine"


def agent_preset(trained, script):
    path = trained.run / "agent.yaml"
    path.write_text(yaml.safe_dump({"kind": "ppo", "environment": {"options": {"python": str(script)}}}))
    return str(path)


@pytest.mark.parametrize(
    ("key", "value", "option"), [("ray", {"address": "10.0.0.1:6379"}, "--ray.address"), ("run", "elsewhere", "--run")]
)
def test_nor_do_they_name_a_cluster_or_a_folder_to_write_into(trained, tmp_path, key, value, option):
    settings = yaml.safe_load((trained.run / "config.yaml").read_text())
    (trained.run / "config.yaml").write_text(yaml.safe_dump({**settings, key: value}))
    words = [] if key == "run" else ["--run", str(tmp_path / "again")]
    with pytest.raises(UserError, match=rf"config\.yaml: says {option} .*add {option} yourself"):
        read_command(AgentRun, "", [str(trained.run / "config.yaml"), *words])


def test_settings_below_a_comparisons_folder_are_shared_too(tmp_path, program):
    script, _ = program
    place = tmp_path / "comparison" / "runs" / "task" / "ppo" / "settings.yaml"
    place.parent.mkdir(parents=True)
    (tmp_path / "comparison" / "grid.yaml").write_text("format: 2\n")
    place.write_text(yaml.safe_dump({"environment": {"name": "MineRLTreechop-v0", "options": {"python": str(script)}}}))
    with pytest.raises(UserError, match=r"settings\.yaml: .*option python = "):
        read_grid("", [str(place), "--controls", "pixels", "--run", str(tmp_path / "again")])


def test_a_preset_of_the_users_own_says_how_a_game_runs(tmp_path):
    own = tmp_path / "mine.yaml"
    own.write_text(yaml.safe_dump({"environment": {"name": "MineRLTreechop-v0", "options": {"python": "/opt/python"}}}))
    words = [str(own), "--control", "pixels", "--run", str(tmp_path / "run")]
    assert read_command(AgentRun, "", words).environment.options == {"python": "/opt/python"}


def test_a_runs_own_files_hold_nothing_of_how_its_game_ran(small_run, monkeypatch):
    make_env = envs.make_env
    monkeypatch.setattr("envs.make_env", lambda name, **_: make_env(name))
    config = small_run(steps=32)
    config.environment.options = {"python": "/opt/python", "timeout": 3.0}
    train_agent(config, lambda steps, note: False)
    assert json.loads((config.run / "agent.json").read_text())["settings"]["environment"]["options"] == {}
    assert yaml.safe_load((config.run / "config.yaml").read_text())["environment"]["options"] == {}
    assert "python" not in json.loads(torch.load(config.run / "resume.pt", weights_only=True)["settings"])["environment"]["options"]


def test_a_run_begun_elsewhere_goes_on_without_what_its_checkpoint_says(trained, program, small_run):
    script, trace = program
    content = torch.load(trained.run / "resume.pt", weights_only=True)
    settings = json.loads(content["settings"])
    settings["environment"]["options"]["python"] = str(script)
    torch.save({**content, "settings": json.dumps(settings)}, trained.run / "resume.pt")
    assert train_agent(small_run(steps=64), lambda steps, note: False)["steps"] == 64
    assert not trace.exists()
