"""One agent run in this process: train, evaluate, checkpoint at rollout boundaries, resume."""

import sys
from contextlib import ExitStack
from typing import Any

import numpy as np
import torch
import yaml
from stable_baselines3.common.callbacks import BaseCallback

from agents.jobs import Report, Stopped
from agents.run.agent import Agent, make_agent
from agents.run.attempts import attempt, lock_patience
from agents.run.checkpoint import read_checkpoint, restore_checkpoint
from agents.run.config import AgentRun, completed, plain
from agents.run.evaluation import Evaluation, Played
from agents.run.identity import finished_result, identity, refuse_differences
from agents.run.metrics import MetricsFile
from agents.run.pictures import write_episode
from agents.run.position import Position
from agents.run.record import Record, Restarts
from agents.run.representation import seen_artifact
from agents.run.result import facts, write_result
from agents.run.saving import Checkpoints
from envs.failures import log_of_failures
from envs.reward_size import tell_of_large_values
from foundation.env_options import shareable
from foundation.files import exclusive_lock, write_atomically
from foundation.folders import AGENT, refuse_others
from foundation.minerl import GAME_ERROR


def train_agent(config: AgentRun, report: Report) -> dict[str, Any]:
    """Train, or go on training, the agent of `config` and return its result, as `result.json` holds it.

    Raises `Stopped` when `report` asks to stop, and `UserError` where the folder holds a run with other settings, another
    process works on it, the encoder is damaged or does not fit, CUDA was asked for and is missing, or an environment failed.
    """
    torch.set_num_threads(config.threads)
    refuse_others(config.run, AGENT)
    with exclusive_lock(config.run, "training an agent", lock_patience(config.run)), log_of_failures(config.run):
        result = finished_result(config)
        if result is not None:
            return result
        artifact = seen_artifact(config)
        settings = identity(config, artifact)
        checkpoint = read_checkpoint(config.run)
        if checkpoint is not None:
            refuse_differences(completed(checkpoint["settings"]), settings, config.run)
        with attempt(config.run, checkpoint["position"]["steps"] if checkpoint else 0), ExitStack() as opened:
            agent = make_agent(config, artifact)
            opened.callback(agent.venv.close)
            position, segments = restore_checkpoint(checkpoint, agent.algorithm, config.run) if checkpoint else (Position(), [])
            evaluation = Evaluation(config.evaluated, agent.seen, config.evaluation.most_episodes, config.remote)
            opened.callback(evaluation.close)
            metrics = MetricsFile(config.run, position.metrics_bytes, position.steps)
            opened.callback(metrics.close)
            shared = {**plain(config), "environment": shareable(plain(config.environment))}
            write_atomically(config.run / "config.yaml", yaml.safe_dump(shared, sort_keys=False))
            record = Record(metrics, position, Restarts((agent.venv, evaluation.venv)))
            run = _Run(config, agent, evaluation, record, Checkpoints(config, settings, agent, record, segments), report)
            if config.steps > position.steps:
                run.learn(resumed=checkpoint is not None)
            return run.finish()


class _Run:
    """A run under way: what is done at a rollout boundary, and at the end."""

    def __init__(
        self, config: AgentRun, agent: Agent, evaluation: Evaluation, record: Record, checkpoints: Checkpoints, report: Report
    ) -> None:
        self.config, self.agent, self.evaluation = config, agent, evaluation
        self.record, self.checkpoints, self.report = record, checkpoints, report
        self.position = record.position

    def learn(self, resumed: bool) -> None:
        """Make the steps that are missing."""
        boundary = _Boundary(self)
        missing = self.config.steps - self.position.steps
        # no log_interval: the metrics are read and cleared at each boundary
        self.agent.algorithm.learn(missing, boundary, log_interval=sys.maxsize, reset_num_timesteps=not resumed)
        boundary.reached()

    def boundary(self, episodes: list[dict[str, Any]]) -> None:
        """Log the rollout that ended, evaluate and save where due, stop where asked."""
        self.record.add_rollout(self.agent.steps, episodes, self.agent.take_losses())
        tell_of_large_values(self.config.environment.name, episodes, self.config.environment.reward_scale)
        position, evaluation = self.position, self.config.evaluation
        note = f"return {np.mean([one['r'] for one in episodes]):.2f}" if episodes else self.agent.whereabouts()
        stop = self.report(position.steps, note)
        if not stop and evaluation.due(position.steps, position.evaluated_steps) and position.steps < self.config.steps:
            self._evaluate(evaluation.episodes)
            position.evaluated_steps = position.steps
        if stop or self.checkpoints.due():
            self.checkpoints.save()
        if stop:
            self.checkpoints.save_zip()
            raise Stopped

    def finish(self) -> dict[str, Any]:
        """Make the final evaluation, save, and return the result."""
        config, position = self.config, self.position
        # a run that lost its result after its last checkpoint has its final evaluation already
        if position.finished_steps < position.steps:
            self.report(position.steps, "final evaluation")
            played = self._evaluate(config.evaluation.final_episodes, keep_pictures=True)
            position.finished_steps = position.evaluated_steps = position.steps
            write_episode(config.run / "pictures", played.pictures, played.frames_per_second, self.agent.frozen)
            self.checkpoints.save()
        self.checkpoints.save_zip()
        return write_result(config.run, facts(config, self.agent, position), position, self.record.metrics.curve())

    def _evaluate(self, episodes: int, keep_pictures: bool = False) -> Played:
        self.record.leave_out()
        config = self.config
        sampled = config.evaluation.deterministic, config.seed
        played = self.evaluation.play_policy(self.agent.algorithm.policy, episodes, *sampled, keep_pictures, config.algorithm.epsilon)
        self.record.add_evaluation(played)
        return played


class _Boundary(BaseCallback):
    """Stable-Baselines3's side of a rollout boundary: collects the episodes that ended, then calls the run."""

    def __init__(self, run: _Run) -> None:
        super().__init__()
        self.run = run
        self.interval = run.config.algorithm.boundary_steps(run.config.evaluation.every)
        self.episodes: list[dict[str, Any]] = []

    def _on_training_start(self) -> None:
        self.reached()

    def _on_rollout_start(self) -> None:
        # counted from 0: a finished run that goes on looks where an unbroken one does
        if self.model.num_timesteps // self.interval > self.run.position.steps // self.interval:
            self.reached()

    def _on_step(self) -> bool:
        # what a dying game cuts off is no episode's return
        self.episodes.extend(info["episode"] for info in self.locals["infos"] if "episode" in info and GAME_ERROR not in info)
        return True

    def reached(self) -> None:
        """End a rollout."""
        episodes, self.episodes = self.episodes, []
        self.run.boundary(episodes)
