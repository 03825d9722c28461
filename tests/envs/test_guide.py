"""The commands of docs/environments.md have options that exist, and its preset is one."""

import re
import shlex
from pathlib import Path

import pytest
import yaml

from agents.play_config import PlayConfig
from agents.run.config import AgentRun
from agents.run.environment_config import EnvironmentConfig
from agents.run.options import read_command
from collecting.command import Build
from comparison.config import read_grid
from envs.registry import is_environment_id
from foundation.presets import build, command_line, parse
from pretraining.options import options_of

GUIDE = (Path(__file__).resolve().parents[2] / "docs" / "environments.md").read_text()
COMMANDS = [line.partition("  #")[0] for line in re.findall(r"^python (\w+\.py .*)$", GUIDE, re.M) if "RUN" not in line]


@pytest.mark.parametrize("line", COMMANDS)
def test_a_command_of_the_guide_is_understood(line: str) -> None:
    command, *words = shlex.split(line)
    if command == "make_frames.py":
        assert is_environment_id(parse(Build, "", words[1:]).source)
    elif command == "train_encoder.py":
        command_line("encoder", options_of, "", words)
    elif command == "train_agent.py":
        assert read_command(AgentRun, "", words).environment.name in GUIDE
    elif command == "play_agent.py":
        parse(PlayConfig, "", words[1:])
    else:
        assert command == "compare_encoders.py"
        assert read_grid("", words)


def test_the_preset_of_the_guide_is_one() -> None:
    (preset,) = re.findall(r"```yaml\n(.*?)```", GUIDE, re.DOTALL)
    assert build(EnvironmentConfig, yaml.safe_load(preset)["environment"], "environment").episode_steps == 2000


def test_there_are_commands_for_three_packages() -> None:
    assert len(COMMANDS) == 3 * 5 + 4
