"""The command `train_agent.py`, behind its door."""

from collections.abc import Sequence

from agents.run.config import AgentRun
from agents.run.options import read_command

TRAIN = """Train an agent with a frozen encoder's latents, or a control, as its observation. Running the command again resumes.

Beside the options below: --agent PRESET, algorithm and settings, of configs/agent/ or a YAML file (default: the environment preset's), and
--env.NAME VALUE, an option of the environment, such as --env.palette autumn."""


def train(argv: Sequence[str]) -> int:
    """Train one agent in one Ray worker; return the exit status."""
    config = read_command(AgentRun, TRAIN, argv)
    # brings torch and Stable-Baselines3: not before the options are known to be right
    from agents.running import run_agent

    return run_agent(config)
