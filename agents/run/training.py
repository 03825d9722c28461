"""One agent run in this process: train, evaluate, checkpoint at rollout boundaries, resume."""

import json
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback

from agents.learning.replay import Segment
from agents.run.attempts import attempt, attempts, lock_patience
from agents.run.checkpoint import Position, read_checkpoint, restore_checkpoint, save_agent, save_checkpoint, save_zip
from agents.run.config import AgentRun, completed, plain
from agents.run.environment import resolved, training_environments
from agents.run.episodes import RESTARTS
from agents.run.evaluation import Evaluation, Played
from agents.run.metrics import MetricsFile
from agents.run.pictures import write_episode
from agents.run.representation import chosen_encoder, control_artifact, fingerprint
from encoders import EncoderArtifact
from foundation.env_options import RUNNING_OPTIONS
from foundation.errors import UserError
from foundation.files import exclusive_lock, write_atomically
from wrappers import FrozenEncoder

Report = Callable[[int, str], bool]
"""Called at every rollout boundary with the steps done and a note; returns whether to stop."""

_MAY_DIFFER = ("steps", "device", "policy_device", "run", "checkpoint_every", "checkpoint_minutes", "encoder", "store", "remote", "ray")
_MAY_DIFFER_IN_PLACE = {"environment.action_store", *(f"environment.options.{name}" for name in RUNNING_OPTIONS)}
"""Where recorded actions lie, whose hash is a setting too, and how games run."""
_LOGGED = ("train/", "rollout/exploration_rate")


class Stopped(Exception):
    """The run was asked to stop; its checkpoint is written."""


def train_agent(config: AgentRun, report: Report) -> dict[str, Any]:
    """Train, or go on training, the agent of `config` and return its result, as `result.json` holds it.

    Raises `Stopped` when `report` asks to stop, and `UserError` where the folder holds a run with other settings, another
    process works on it, the encoder is damaged or does not fit, or CUDA was asked for and is missing.
    """
    torch.set_num_threads(config.threads)
    refuse_encoders_folder(config.run)
    with exclusive_lock(config.run, "training an agent", lock_patience(config.run)):
        result = finished_result(config)
        if result is not None:
            return result
        artifact = _artifact(config)
        settings = identity(config, artifact)
        checkpoint = read_checkpoint(config.run)
        if checkpoint is not None:
            refuse_differences(completed(json.loads(checkpoint["settings"])), settings, config.run)
        with attempt(config.run, checkpoint["position"]["steps"] if checkpoint else 0):
            training = _Training(config, settings, artifact, checkpoint, report)
            write_atomically(config.run / "config.yaml", yaml.safe_dump(plain(config), sort_keys=False))
            return training.run()


def finished_result(config: AgentRun) -> dict[str, Any] | None:
    """Return the result when the run has all its steps, None while it has not; refuse a run with other settings."""
    result, checkpoint = read_result(config.run), read_checkpoint(config.run)
    if result is None or checkpoint is None or result["steps"] < config.steps:
        return None
    refuse_differences(completed(json.loads(checkpoint["settings"])), identity(config, _artifact(config)), config.run)
    return result


def refuse_encoders_folder(folder: Path) -> None:
    """Raise `UserError` where a run would write over an encoder's files of the same names."""
    if (folder / "encoder.json").is_file():
        raise UserError(f"{folder}: holds an encoder; choose another --run")


def read_result(folder: Path) -> dict[str, Any] | None:
    """Return a finished run's result, or None."""
    path = folder / "result.json"
    try:
        return json.loads(path.read_text()) if path.is_file() else None
    except ValueError as error:
        raise UserError(f"{path}: damaged ({error}); delete it and run the command again") from error


def identity(config: AgentRun, artifact: EncoderArtifact | None) -> dict[str, Any]:
    """Return what makes a run this run: its settings, and the encoder's weights in place of its path."""
    settings = {key: value for key, value in plain(config).items() if key not in _MAY_DIFFER}
    settings["environment"] = plain(resolved(config.environment))
    mirrored = fingerprint(config.encoder) if config.control and config.encoder else None
    return {**settings, "encoder_sha256": None if artifact is None else artifact.info.weights_sha256, "mirrored_sha256": mirrored}


def refuse_differences(before: dict[str, Any], now: dict[str, Any], folder: Path) -> None:
    """Raise `UserError` that names the first setting in which a run differs from the one in its folder."""
    old, new = dict(_flat(before)), dict(_flat(now))
    for key in sorted({*old, *new} - _MAY_DIFFER_IN_PLACE):
        if old.get(key) != new.get(key):
            raise UserError(
                f"{folder}: holds a run with {key} = {old.get(key)}, but {new.get(key)} was asked for; "
                "only steps and device may change: choose another --run"
            )


class _Training:
    """A run under way: what a rollout boundary reads and writes."""

    def __init__(
        self,
        config: AgentRun,
        settings: dict[str, Any],
        artifact: EncoderArtifact | None,
        checkpoint: dict[str, Any] | None,
        report: Report,
    ) -> None:
        self.config, self.settings, self.report = config, settings, report
        self.device = available_device(config.device)
        self.frozen = None if artifact is None else FrozenEncoder(artifact, self.device)
        self.position = Position()
        self.saved_steps = 0
        self.venv = training_environments(config.environment, config.algorithm.n_envs, config.seed, self.frozen, config.remote)
        policy_device = "auto" if config.policy_device == "auto" else available_device(config.policy_device)
        self.algorithm: BaseAlgorithm = config.algorithm.make(self.venv, config.seed, self.device, policy_device)
        self.placed = placed_devices(self.frozen, self.algorithm)
        self.segments: list[Segment] = []
        if checkpoint is not None:
            self.position, self.segments = restore_checkpoint(checkpoint, self.algorithm, config.run)
            self.saved_steps = self.position.steps
        self.saved_at = time.monotonic()
        self.resumed = checkpoint is not None
        episodes = config.evaluation.episodes, config.evaluation.final_episodes
        self.evaluation = Evaluation(config.environment, self.frozen, max(episodes), config.remote)
        self.metrics = MetricsFile(config.run, self.position.metrics_bytes, self.position.steps)
        self.clock = time.perf_counter()
        self.seconds_before = self.position.seconds
        self.restarts_before = dict.fromkeys(RESTARTS, 0)

    def run(self) -> dict[str, Any]:
        try:
            missing = self.config.steps - self.position.steps
            if missing > 0:
                boundary = _Boundary(self)
                # no log_interval: the metrics are read and cleared at each boundary
                self.algorithm.learn(missing, boundary, log_interval=sys.maxsize, reset_num_timesteps=not self.resumed)
                boundary.reached()
            return self._finish()
        finally:
            self.metrics.close()
            self.evaluation.close()
            self.venv.close()

    def boundary(self, episodes: list[dict[str, Any]]) -> None:
        """Log the rollout that ended, evaluate and save where due, stop where asked."""
        position, steps, config = self.position, int(self.algorithm.num_timesteps), self.config
        position.seconds += self._lap()
        rate = (steps - position.steps) / max(position.seconds - self.seconds_before, 1e-9)
        self.seconds_before = position.seconds
        position.steps = steps
        self._count_restarts()
        if steps > position.logged_steps:
            position.episodes += len(episodes)
            self.metrics.write(steps, {**_rollout_metrics(episodes, position), "steps_per_second": rate, **self._losses()})
            position.logged_steps = steps
        stop = self.report(steps, f"return {np.mean([one['r'] for one in episodes]):.2f}" if episodes else _where(self.placed))
        every = config.evaluation.every
        if not stop and steps // every > position.evaluated_steps // every and steps < config.steps:
            self._evaluate(config.evaluation.episodes)
            position.evaluated_steps = steps
        if stop or self._checkpoint_is_due(steps):
            self._save()
        if stop:
            save_zip(config.run, self.algorithm)
            raise Stopped

    def _checkpoint_is_due(self, steps: int) -> bool:
        new, minutes = steps - self.saved_steps, (time.monotonic() - self.saved_at) / 60
        return new >= self.config.checkpoint_every or (new > 0 and minutes >= self.config.checkpoint_minutes)

    def _count_restarts(self) -> None:
        """Add what has died since the last time, of training's environments and of evaluation's."""
        for cause in RESTARTS:
            now = sum(one[cause] for venv in (self.venv, self.evaluation.venv) for one in venv.get_attr("restarts"))
            setattr(self.position, cause, getattr(self.position, cause) + now - self.restarts_before[cause])
            self.restarts_before[cause] = now

    def _lap(self) -> float:
        now = time.perf_counter()
        elapsed, self.clock = now - self.clock, now
        return elapsed

    def _losses(self) -> dict[str, float]:
        recorded = self.algorithm.logger.name_to_value
        losses = {name: float(value) for name, value in recorded.items() if name.startswith(_LOGGED)}
        recorded.clear()
        return losses

    def _evaluate(self, episodes: int, keep_pictures: bool = False) -> Played:
        self._lap()
        policy, config = self.algorithm.policy, self.config
        sampled = config.evaluation.deterministic, config.seed
        played = self.evaluation.play_policy(policy, episodes, *sampled, keep_pictures, config.algorithm.epsilon)
        self.position.evaluation_seconds += self._lap()
        self._count_restarts()
        numbers = {"evaluation/return": float(np.mean(played.returns)), "evaluation/episode_steps": float(np.mean(played.lengths))}
        self.metrics.write(self.position.steps, numbers, {"evaluation/returns": played.returns})
        return played

    def _save(self) -> None:
        self.position.metrics_bytes = self.metrics.flush()
        self.segments = save_checkpoint(self.config.run, self.settings, self.position, self.algorithm, self.segments)
        save_agent(self.config.run, self.settings, self.algorithm, self._about())
        self.saved_steps, self.saved_at = self.position.steps, time.monotonic()
        self._lap()

    def _finish(self) -> dict[str, Any]:
        # a run that lost its result after its last checkpoint has its final evaluation already
        if self.position.finished_steps < self.position.steps:
            self.report(self.position.steps, "final evaluation")
            played = self._evaluate(self.config.evaluation.final_episodes, keep_pictures=True)
            self.position.finished_steps = self.position.evaluated_steps = self.position.steps
            write_episode(self.config.run / "pictures", played.pictures, self.config.environment.frame_skip, self.frozen)
            self._save()
        save_zip(self.config.run, self.algorithm)
        curve = self.metrics.curve()
        returns = curve[-1]["returns"]
        result = {
            **self._about(),
            "attempts": attempts(self.config.run),
            "final_return": float(np.mean(returns)),
            "final_returns": returns,
            "curve": curve,
            "seconds": round(self.position.seconds, 1),
            "evaluation_seconds": round(self.position.evaluation_seconds, 1),
        }
        write_atomically(self.config.run / "result.json", json.dumps(result, indent=2) + "\n")
        return result

    def _about(self) -> dict[str, Any]:
        config, frozen = self.config, self.frozen
        return {
            "steps": self.position.steps,
            "episodes": self.position.episodes,
            "restarts": self.position.deaths + self.position.failed_resets,
            **{cause: getattr(self.position, cause) for cause in RESTARTS},
            "seed": config.seed,
            "control": config.control,
            "encoder": frozen and {"name": frozen.info.name, "reading": frozen.reading, "latents": list(frozen.latent_shape)},
            "encoder_folder": str(config.run / "encoder" if config.control else config.encoder) if frozen else None,
            "encoder_parameters": 0 if frozen is None else frozen.parameter_count,
            "policy_parameters": sum(parameter.numel() for parameter in self.algorithm.policy.parameters()),
            "device": self.placed,
            "remote": plain(config.remote) if config.remote.actors else None,
            "threads": config.threads,
            "versions": {name: version(name) for name in ("torch", "stable-baselines3", "gymnasium", "numpy", "ray")},
        }


class _Boundary(BaseCallback):
    """Stable-Baselines3's side of a rollout boundary: collects the episodes that ended, then calls the run."""

    def __init__(self, training: _Training) -> None:
        super().__init__()
        self.training = training
        self.interval = training.config.algorithm.boundary_steps(training.config.evaluation.every)
        self.episodes: list[dict[str, Any]] = []

    def _on_training_start(self) -> None:
        self.reached()

    def _on_rollout_start(self) -> None:
        if self.model.num_timesteps - self.training.position.steps >= self.interval:
            self.reached()

    def _on_step(self) -> bool:
        self.episodes.extend(info["episode"] for info in self.locals["infos"] if "episode" in info)
        return True

    def reached(self) -> None:
        episodes, self.episodes = self.episodes, []
        self.training.boundary(episodes)


def available_device(wanted: str) -> str:
    """Turn auto into cuda where there is one; raise `UserError` for cuda where there is none."""
    if wanted == "cuda" and not torch.cuda.is_available():
        raise UserError("device 'cuda' was asked for, but torch sees no CUDA device; use --device cpu or auto")
    return ("cuda" if torch.cuda.is_available() else "cpu") if wanted == "auto" else wanted


def placed_devices(frozen: FrozenEncoder | None, algorithm: BaseAlgorithm) -> dict[str, str | None]:
    """Return where the encoder and the policy are, by their weights; raise `RuntimeError` where that is not where they were to be."""
    asked: dict[str, tuple[torch.nn.Module, torch.device]] = {"policy": (algorithm.policy, algorithm.device)}
    if frozen is not None:
        asked["encoder"] = (frozen.model, torch.device(frozen.device))
    placed: dict[str, str | None] = {"encoder": None}
    for name, (model, device) in asked.items():
        found = {weight.device.type for weight in model.parameters()} or {device.type}
        if found != {device.type}:
            raise RuntimeError(f"the {name} is on {', '.join(sorted(found))}, and was to be on {device.type}")
        placed[name] = device.type
    return placed


def _where(placed: dict[str, str | None]) -> str:
    return ", ".join(f"{name} on {device}" for name, device in placed.items() if device)


def _artifact(config: AgentRun) -> EncoderArtifact | None:
    if config.control == "pixels":
        return None
    assert config.encoder is not None
    if config.control is None:
        return chosen_encoder(config.encoder, config.latents)
    folder = config.run / "encoder"
    if not (config.run / "resume.pt").is_file():
        # left by an attempt that ended before its first checkpoint: perhaps of another encoder or seed
        (folder / "encoder.json").unlink(missing_ok=True)
    return control_artifact(config.control, config.encoder, folder, config.seed, config.store, config.latents)


def _rollout_metrics(episodes: list[dict[str, Any]], position: Position) -> dict[str, float]:
    numbers: dict[str, float] = {"episodes": position.episodes, "seconds": round(position.seconds, 2)}
    if episodes:
        numbers["rollout/return"] = float(np.mean([one["r"] for one in episodes]))
        numbers["rollout/episode_steps"] = float(np.mean([one["l"] for one in episodes]))
    if position.deaths or position.failed_resets:
        numbers |= {f"environments/{cause}": getattr(position, cause) for cause in RESTARTS}
    return numbers


def _flat(settings: Any, where: str = "") -> list[tuple[str, Any]]:
    if not isinstance(settings, dict):
        return [(where, settings)]
    return [pair for key, value in settings.items() for pair in _flat(value, f"{where}.{key}" if where else key)]
