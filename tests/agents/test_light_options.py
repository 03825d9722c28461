"""Options are read and refused before anything heavy is imported: a mistake is told at once."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HEAVY = ("cv2", "gymnasium", "matplotlib", "numba", "ray", "sb3_contrib", "stable_baselines3", "torch")
READ_EVERY_COMMAND = f"""
import sys
import agents.command, agents.playing, comparison.command, search.command
from agents.run.config import AgentRun
from agents.run.options import read_command
from comparison.config import read_grid
from foundation.errors import UserError
from foundation.presets import preset_names
from search.config import read_search

run = ["--run", "somewhere", "--control", "pixels"]
for agent in preset_names("agent"):
    read_command(AgentRun, "", ["debug", "--agent", agent, *run])
read_grid("", ["debug", "voxel_treechop", "--agent", "ppo", "dqn", "--controls", "pixels", "--run", "somewhere"])
read_search(["debug", "--space", "debug", *run])
for command in (agents.command.train, search.command.tune, comparison.command.compare, agents.playing.play):
    try:
        command(["debug", "--no-such-option", "1"])
    except UserError as error:
        assert "no-such-option" in str(error), error
    else:
        raise AssertionError(command)
print([name for name in {HEAVY} if name in sys.modules])
"""


def test_no_command_reads_its_options_with_torch_or_ray_or_gymnasium() -> None:
    said = subprocess.run([sys.executable, "-c", READ_EVERY_COMMAND], cwd=ROOT, capture_output=True, text=True, check=False)
    assert said.stdout.splitlines()[-1:] == ["[]"], said.stderr
