"""What a search is asked for, and the settings of one of its trials."""

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

from agents.learning.algorithms import Learner, build_algorithm
from agents.run.config import AgentRun, EnvironmentConfig, TrainingConfig, plain, read_command
from encoders.registry import encoder_class, preset_architecture
from encoders.training.config import TrainingConfig as EncoderTraining
from foundation.errors import UserError
from foundation.presets import build, read_preset, to_dict

FIRST_SEED = 1000
"""The agents of every trial have this seed and the following; comparisons count from 0, so that theirs are new."""
ACTING = ("frame_skip", "actions", "camera_degrees", "sticky_attack", "pitch_limit")
"""What may vary of an environment: how an agent acts in it."""

DESCRIPTION = """Search hyperparameters of agents, or of the encoders they look through. Running the command again goes on."""


@dataclass(kw_only=True)
class SearchConfig(AgentRun):
    """Trials of one agent with hyperparameters drawn from a space."""

    run: Path
    """The search's folder; running the same command again, or one with more trials, runs only what is missing."""
    space: str
    """What varies: a preset of configs/search/, or a YAML file."""
    trials: int = 20
    """Trials altogether; a folder takes more later."""
    seed: int = 0
    """What trials are drawn from."""
    seeds: int = 1
    """Agents a trial, one after the other; the trial's score is the mean of theirs."""
    scheduler: Literal["asha", "none"] = "asha"
    """asha: trials whose evaluations are behind those of others are stopped early; none: every trial does all steps."""
    first_rung: int | None = None
    """Steps after which ASHA first stops trials; default: steps / reduction^2, and no less than evaluation.every."""
    reduction: int = 3
    """ASHA keeps about one trial in so many at a rung, and the next rung is at so many times the steps."""
    workers: int | None = None
    """Trials at the same time; default: one a CPU core."""
    encoder_preset: str | None = None
    """Preset of configs/encoder/ or a YAML file, for spaces with keys under `encoder.`: each trial trains its own, on --store."""
    encoder_steps: int | None = None
    """Training steps of such an encoder; default: the preset's."""

    def check(self) -> None:
        """Raise `UserError` where options do not go together."""
        for name in ("trials", "seeds", "workers", "encoder_steps"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise UserError(f"'{name}' must be at least 1, got {getattr(self, name)}")
        if self.reduction < 2:
            raise UserError(f"'reduction' must be at least 2, got {self.reduction}")
        if self.first_rung is not None and self.first_rung < self.evaluation.every:
            raise UserError(f"'first_rung' must be at least evaluation.every = {self.evaluation.every}, got {self.first_rung}")
        if self.encoder_preset is None:
            super().check()
            return
        if self.encoder is not None or self.control is not None:
            raise UserError("--encoder-preset trains the encoders that agents see; leave out --encoder and --control")
        if self.store is None:
            raise UserError("--encoder-preset needs the frames to train on: add --store STORE")

    @property
    def rungs(self) -> list[int]:
        """Steps at which ASHA may stop trials."""
        if self.scheduler == "none":
            return []
        first = self.first_rung or max(self.evaluation.every, math.ceil(self.steps / self.reduction**2))
        counts = (first * self.reduction**power for power in range(64))
        return [count for count in counts if count < self.steps]


@dataclass(frozen=True)
class TrialSettings:
    """What a trial's hyperparameters come to."""

    algorithm: Learner
    environment: EnvironmentConfig
    encoder: dict[str, Any] | None
    """The whole encoder preset, where encoders vary."""


def read_search(argv: Sequence[str]) -> SearchConfig:
    """Parse the command line of `tune_agent.py`, whose presets and options are those of `train_agent.py`, and a search's own."""
    return cast(SearchConfig, read_command(SearchConfig, DESCRIPTION, argv))


def known_names(config: SearchConfig, wanted: Sequence[str]) -> list[str]:
    """Return what may vary; raise `UserError` where an encoder is to vary and none can, or one would be trained and none varies."""
    names = [f"algorithm.{one.name}" for one in dataclasses.fields(config.algorithm) if one.name != "kind"]
    names += [f"environment.{name}" for name in ACTING]
    of_encoder = [name for name in wanted if name.startswith("encoder.")]
    if config.encoder_preset is None:
        if of_encoder:
            raise UserError(f"'{of_encoder[0]}' is an encoder's: name the preset that varies with --encoder-preset, and --store STORE")
        return names
    if not of_encoder:
        raise UserError(f"{config.space}: no key under 'encoder.', so one encoder serves all trials: train it, and give --encoder RUN")
    kind = encoder_class(preset_architecture(read_preset("encoder", config.encoder_preset), config.encoder_preset))
    names += [f"encoder.model.{one.name}" for one in dataclasses.fields(kind.Hyperparameters)]
    return names + [f"encoder.training.{one.name}" for one in dataclasses.fields(EncoderTraining)]


def trial_settings(config: SearchConfig, values: dict[str, Any]) -> TrialSettings:
    """Put a trial's values over the settings that it shares with all; raise `UserError` for values that cannot be."""
    algorithm = build_algorithm({**plain(config.algorithm), **_below("algorithm", values)})
    environment = build(EnvironmentConfig, {**plain(config.environment), **_below("environment", values)}, "environment")
    return TrialSettings(algorithm, environment, _encoder_settings(config, values))


def settled(settings: TrialSettings, names: Sequence[str]) -> dict[str, Any]:
    """Return the values under `names` as the settings hold them: 3.0e-4 in a list of choices may have been read as a text."""
    found = {"algorithm": plain(settings.algorithm), "environment": plain(settings.environment), "encoder": settings.encoder}
    values = {}
    for name in names:
        value: Any = found
        for part in name.split("."):
            value = value[part]
        values[name] = value
    return values


def agent_run(config: SearchConfig, settings: TrialSettings, folder: Path, encoder: Path | None, seed: int) -> AgentRun:
    """Return one agent of a trial."""
    shared = {name: getattr(config, name) for name in TrainingConfig.__dataclass_fields__}
    shared |= {"algorithm": settings.algorithm, "environment": settings.environment}
    return AgentRun(run=folder, encoder=encoder, latents=config.latents, control=config.control, seed=seed, **shared)


def _encoder_settings(config: SearchConfig, values: dict[str, Any]) -> dict[str, Any] | None:
    if config.encoder_preset is None:
        return None
    preset = read_preset("encoder", config.encoder_preset)
    kind = encoder_class(preset_architecture(preset, config.encoder_preset))
    model = build(kind.Hyperparameters, {**(preset.get("model") or {}), **_below("encoder.model", values)}, "encoder.model")
    training = build(EncoderTraining, {**(preset.get("training") or {}), **_below("encoder.training", values)}, "encoder.training")
    steps = config.encoder_steps or preset.get("steps")
    if not steps:
        raise UserError(f"{config.encoder_preset}: says no number of steps: add --encoder-steps N")
    return {**preset, "steps": steps, "model": to_dict(model), "training": to_dict(training)}


def _below(where: str, values: dict[str, Any]) -> dict[str, Any]:
    return {name.removeprefix(f"{where}."): value for name, value in values.items() if name.startswith(f"{where}.")}
