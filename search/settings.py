"""The settings of a search's trials: what may vary, and what a trial's values make of it."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agents.learning.algorithms import build_algorithm
from agents.learning.learner import Learner
from agents.run.config import AgentRun, TrainingConfig, plain
from agents.run.environment_config import EnvironmentConfig
from encoders.registry import hyperparameters_class, preset_architecture
from encoders.training.config import TrainingConfig as EncoderTraining
from foundation.errors import UserError
from foundation.places import AnyPlace
from foundation.presets import build, read_preset, to_dict
from search.config import SearchConfig

ACTING = ("frame_skip", "actions", "camera_degrees", "sticky_attack", "pitch_limit")
"""What may vary of an environment: how an agent acts in it."""


@dataclass(frozen=True)
class TrialSettings:
    """What a trial's hyperparameters come to."""

    algorithm: Learner
    environment: EnvironmentConfig
    encoder: dict[str, Any] | None
    """The whole encoder preset, where encoders vary."""


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
    kind = hyperparameters_class(preset_architecture(read_preset("encoder", config.encoder_preset), config.encoder_preset))
    names += [f"encoder.model.{one.name}" for one in dataclasses.fields(kind)]
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


def agent_run(config: SearchConfig, settings: TrialSettings, folder: Path, encoder: AnyPlace | None, seed: int) -> AgentRun:
    """Return one agent of a trial."""
    shared = {name: getattr(config, name) for name in TrainingConfig.__dataclass_fields__}
    shared |= {"algorithm": settings.algorithm, "environment": settings.environment}
    return AgentRun(run=folder, encoder=encoder, latents=config.latents, control=config.control, seed=seed, **shared)


def _encoder_settings(config: SearchConfig, values: dict[str, Any]) -> dict[str, Any] | None:
    if config.encoder_preset is None:
        return None
    preset = read_preset("encoder", config.encoder_preset)
    kind = hyperparameters_class(preset_architecture(preset, config.encoder_preset))
    model = build(kind, {**(preset.get("model") or {}), **_below("encoder.model", values)}, "encoder.model")
    training = build(EncoderTraining, {**(preset.get("training") or {}), **_below("encoder.training", values)}, "encoder.training")
    steps = config.encoder_steps or preset.get("steps")
    if not steps:
        raise UserError(f"{config.encoder_preset}: has no 'steps': add --encoder-steps N")
    return {**preset, "steps": steps, "model": to_dict(model), "training": to_dict(training)}


def _below(where: str, values: dict[str, Any]) -> dict[str, Any]:
    return {name.removeprefix(f"{where}."): value for name, value in values.items() if name.startswith(f"{where}.")}
