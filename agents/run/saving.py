"""When a run is saved, and what then lies in its folder."""

import time
from typing import Any

from agents.learning.replay import Segment
from agents.run.agent import Agent
from agents.run.agent_files import save_agent, save_zip
from agents.run.checkpoint import save_checkpoint
from agents.run.config import AgentRun
from agents.run.position import Position
from agents.run.record import Record
from agents.run.result import facts


class Checkpoints:
    """Saves a run: its checkpoint, and the agent for sharing. `settings` are its identity, `segments` those of its replay buffer."""

    def __init__(self, config: AgentRun, settings: dict[str, Any], agent: Agent, record: Record, segments: list[Segment]) -> None:
        self.config, self.settings, self.agent, self.record, self.segments = config, settings, agent, record, segments
        self._steps, self._time = self.position.steps, time.monotonic()

    @property
    def position(self) -> Position:
        return self.record.position

    def due(self) -> bool:
        """Say whether enough steps were made, or enough minutes have passed, since the run was last saved."""
        new, minutes = self.position.steps - self._steps, (time.monotonic() - self._time) / 60
        return new >= self.config.checkpoint_every or (new > 0 and minutes >= self.config.checkpoint_minutes)

    def save(self) -> None:
        """Write everything that a run goes on from, then the agent."""
        folder, algorithm = self.config.run, self.agent.algorithm
        self.record.flush()
        self.segments = save_checkpoint(folder, self.settings, self.position, algorithm, self.segments)
        save_agent(folder, self.settings, algorithm, facts(self.config, self.agent, self.position))
        self._steps, self._time = self.position.steps, time.monotonic()
        self.record.leave_out()

    def save_zip(self) -> None:
        """Write Stable-Baselines3's own file beside the others."""
        save_zip(self.config.run, self.agent.algorithm)
