"""What makes a run this run: only one with the same settings goes on in its folder."""

from pathlib import Path
from typing import Any

from agents.run.checkpoint import read_checkpoint
from agents.run.config import AgentRun, completed, plain
from agents.run.environment import resolved
from agents.run.representation import fingerprint, seen_artifact
from agents.run.result import read_result
from foundation.env_options import RUNNING_OPTIONS, shareable
from foundation.errors import UserError
from foundation.places import said_latents, views_of
from wrappers.opening import Through, described

_MAY_DIFFER = ("steps", "device", "policy_device", "run", "checkpoint_every", "checkpoint_minutes", "encoder", "store", "remote", "ray")
_MAY_DIFFER_IN_PLACE = {"environment.action_store", *(f"environment.options.{name}" for name in RUNNING_OPTIONS)}
"""Where recorded actions lie, whose hash is a setting too, and how games run."""


def identity(config: AgentRun, artifact: Through | None) -> dict[str, Any]:
    """Return what makes a run this run: its settings, and the encoders' weights, readings and scales in place of their paths."""
    settings = {key: value for key, value in plain(config).items() if key not in _MAY_DIFFER}
    settings["environment"] = shareable(plain(resolved(config.environment)))
    mirrored = fingerprint(config.encoder) if config.control and config.encoder else None
    seen = None if artifact is None else described(artifact)
    digests = {"encoder_sha256": seen and seen.weights_sha256, "mirrored_sha256": mirrored}
    asked = config.encoder and said_latents(views_of(config.encoder, config.latents))
    return {**settings, **digests, "latents": asked, "scale": seen and seen.scale}


def refuse_differences(before: dict[str, Any], now: dict[str, Any], folder: Path) -> None:
    """Raise `UserError` that names the first setting in which a run differs from the one in its folder."""
    old, new = dict(_flat(before)), dict(_flat(now))
    for key in sorted({*old, *new} - _MAY_DIFFER_IN_PLACE):
        if old.get(key) != new.get(key):
            raise UserError(
                f"{folder}: holds a run with {key} = {old.get(key)}, but you asked for {new.get(key)}; "
                "only steps and device may change: choose another --run"
            )


def finished_result(config: AgentRun) -> dict[str, Any] | None:
    """Return the result when the run has all its steps, None while it has not; refuse a run with other settings."""
    result, checkpoint = read_result(config.run), read_checkpoint(config.run)
    if result is None or checkpoint is None or result["steps"] < config.steps:
        return None
    refuse_differences(completed(checkpoint["settings"]), identity(config, seen_artifact(config)), config.run)
    return result


def _flat(settings: Any, where: str = "") -> list[tuple[str, Any]]:
    if not isinstance(settings, dict):
        return [(where, settings)]
    return [pair for key, value in settings.items() for pair in _flat(value, f"{where}.{key}" if where else key)]
