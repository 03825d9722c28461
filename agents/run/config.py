"""What a run is: an encoder or a control, an environment, an algorithm, a seed."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, get_args

from agents.cluster.config import RayConfig
from agents.learning.algorithms import PPOSettings, build_algorithm
from agents.learning.learner import Learner
from agents.remote.config import RemoteConfig
from agents.run.environment_config import EnvironmentConfig
from foundation.env_options import refuse_running_options
from foundation.errors import UserError
from foundation.limits import MOST_RUNS, MOST_THREADS
from foundation.places import Address, AnyPlace, Places, Scale, views_of
from foundation.presets import build, to_dict
from foundation.ranges import at_least, within

Control = Literal["pixels", "pixels_same", "finetuned", "untrained", "pca", "oracle", "supervised"]
CONTROLS: tuple[Control, ...] = get_args(Control)
SEEING_NO_ENCODER: tuple[Control, ...] = ("pixels", "oracle")
LEARNING: tuple[Control, ...] = ("pixels_same", "finetuned")
"""Agents that see pictures, and learn the encoder's architecture end to end: from random weights, and from the trained ones."""
PIXEL_ROWS: tuple[Control, ...] = ("pixels", *LEARNING)
"""Controls that learn from pictures, each with settings of its own in an agent preset."""


@dataclass
class EvaluationConfig:
    """Episodes on worlds that training never sees; the same ones for every run and row."""

    every: int = 10_000
    """Training steps between two points of the learning curve."""
    episodes: int = 8
    """Episodes a point of the learning curve."""
    final_episodes: int = 24
    """Episodes after the last step; their mean return is the run's score."""
    deterministic: bool = False
    """Take the likeliest action instead of sampling, which is what PPO trains. DQN and QR-DQN sample with their last epsilon."""
    environment: dict[str, int | float | str | bool] = field(default_factory=dict)
    """Options of the environment in evaluation alone, each given as --evaluation.environment.NAME VALUE."""

    def __post_init__(self) -> None:
        at_least(1, every=self.every)
        refuse_running_options("evaluation.environment", self.environment)
        within(1, MOST_RUNS, episodes=self.episodes, final_episodes=self.final_episodes)

    @property
    def most_episodes(self) -> int:
        return max(self.episodes, self.final_episodes)

    def due(self, steps: int, evaluated_steps: int) -> bool:
        """Say whether a point of the learning curve lies between the last one, at `evaluated_steps`, and `steps`."""
        return steps // self.every > evaluated_steps // self.every

    def worlds_of(self, environment: EnvironmentConfig) -> list[EnvironmentConfig]:
        """Return the environment that agents train in, and the one that they are evaluated in where it is another."""
        evaluated = replace(environment, options={**environment.options, **self.environment})
        return [environment, *([evaluated] if evaluated != environment else [])]


@dataclass(kw_only=True)
class TrainingConfig:
    """What every run of a comparison shares."""

    environment: EnvironmentConfig
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    algorithm: Learner = field(default_factory=PPOSettings)
    remote: RemoteConfig = field(default_factory=RemoteConfig)
    ray: RayConfig = field(default_factory=RayConfig)
    steps: int = 100_000
    """Agent steps to train for, over all parallel environments; only decides when to stop."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where frames are encoded and picture policies run."""
    policy_device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where the policy runs; auto: on pixels with the frames, on latents on the CPU, where small networks are faster."""
    threads: int = 1
    """Torch threads per run; another number changes the last bits of results."""
    checkpoint_every: int = 10_000
    """Agent steps between two checkpoints at most."""
    checkpoint_minutes: float = 10.0
    """Minutes between two checkpoints at most."""
    scale: Scale | None = None
    """How latents are scaled, of controls too: unit, global or whiten; default: as the encoder's folder says."""
    store: Path | None = None
    """Frames for the controls untrained, pixels_same, pca and supervised, when the store that the encoder names is gone or has no state."""

    def __post_init__(self) -> None:
        at_least(1, steps=self.steps, checkpoint_every=self.checkpoint_every)
        within(1, MOST_THREADS, threads=self.threads)
        at_least(0, checkpoint_minutes=self.checkpoint_minutes)
        if self.remote.actors > self.algorithm.n_envs:
            raise UserError(f"'remote.actors' must be at most algorithm.n_envs = {self.algorithm.n_envs}, got {self.remote.actors}")

    @property
    def evaluated(self) -> EnvironmentConfig:
        """The environment as agents are evaluated in it."""
        return self.evaluation.worlds_of(self.environment)[-1]

    def check(self) -> None:
        """Raise `UserError` where options do not go together that a command line must give, and a preset cannot."""

    def refuse_learning(self, control: Control, encoder: AnyPlace) -> None:
        """Raise `UserError` where a control cannot learn an encoder: one of a service, or from several pictures at a time."""
        if any(isinstance(one.place, Address) for one in views_of(encoder)):
            raise UserError(f"control '{control}' needs the folder of the encoder that it learns: a service keeps its weights")
        if self.environment.history > 1:
            raise UserError(f"control '{control}' learns an encoder, which takes one picture at a time: use --environment.history 1")


@dataclass(kw_only=True)
class AgentRun(TrainingConfig):
    """One agent: trained on the latents of `encoder`, on those of a control that mirrors it, on pixels, or on the environment's state."""

    run: Path
    """The run's folder; running the same command again resumes."""
    encoder: Places | None = None
    """An encoder's folder, or the address of one that a service has: http://HOST:PORT/RUN; several stand side by side."""
    latents: str | None = None
    """A reading of the encoder, such as `pooled`; default: the encoder's own."""
    control: Control | None = None
    """pixels; oracle (given the state); or mirrors of the encoder: untrained, pca, supervised, and, learning, finetuned and pixels_same."""
    seed: int = 0
    """Of the networks, exploration and training worlds."""

    def check(self) -> None:
        """Raise `UserError` where the encoder and the control do not go together, or the seed is none."""
        if not 0 <= self.seed < 2**32:
            raise UserError(f"'seed' must be from 0 to 2^32 - 1, got {self.seed}")
        alone = self.control in SEEING_NO_ENCODER
        if alone and self.encoder is not None:
            raise UserError(f"--control {self.control} uses no encoder; leave out --encoder")
        if not alone and self.encoder is None:
            what = f"--control {self.control} needs the encoder it mirrors" if self.control else "no encoder given"
            raise UserError(f"{what}: add --encoder FOLDER, or train on --control pixels")
        if self.control in LEARNING and self.encoder:
            self.refuse_learning(self.control, self.encoder)
        if alone and (self.latents or self.scale):
            raise UserError(f"--control {self.control} has no latents; leave out --latents and --scale")


def plain(config: Any) -> dict[str, Any]:
    """Return settings as mappings, lists and scalars."""
    return to_dict(config)


def completed(settings: dict[str, Any]) -> dict[str, Any]:
    """Return a run's settings with defaults for what was not there yet when it was started."""
    environment = build(EnvironmentConfig, settings["environment"], "environment")
    scale = "unit" if settings.get("encoder_sha256") else None
    return {"scale": scale, **settings, "environment": plain(environment), "algorithm": plain(build_algorithm(settings["algorithm"]))}
