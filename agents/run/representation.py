"""What an agent sees: an encoder's latents, those of a control that mirrors the encoder, or neither."""

from pathlib import Path

import numpy as np

from agents.run.config import SEEING_NO_ENCODER, AgentRun
from encoders import EncoderArtifact, load_encoder
from encoders.artifact import read_info
from pretraining.controls import chosen_encoder, control_artifact
from pretraining.supervised import supervised_artifact, supervised_options


def reading_line(folder: str | Path, latents: str | None = None) -> str:
    """Say which latents of an encoder an agent sees, and how to choose others."""
    model = chosen_encoder(folder, latents).model
    first, *others = model.latents
    size = int(np.prod(model.latents[first]))
    chosen = "as asked for" if latents else "its default"
    return f"{folder}: latents '{first}', {size:,} numbers a frame, {chosen}" + (f"; it also has {', '.join(others)}" if others else "")


def seen_artifact(config: AgentRun) -> EncoderArtifact | None:
    """Return what the agent of `config` sees through, made in the run's folder where it is a control; None without an encoder."""
    if config.control in SEEING_NO_ENCODER:
        return None
    assert config.encoder is not None
    if config.control is None:
        return chosen_encoder(config.encoder, config.latents)
    folder, mirrored = config.run / "encoder", (config.encoder, config.run / "encoder", config.seed, config.store, config.latents)
    begun = (config.run / "resume.pt").is_file()
    if config.control == "supervised":
        kept = begun and (folder / "encoder.json").is_file()
        return load_encoder(folder) if kept else supervised_artifact(supervised_options(*mirrored, config.device, config.threads))
    if not begun:
        # left by an attempt that ended before its first checkpoint: perhaps of another encoder or seed
        (folder / "encoder.json").unlink(missing_ok=True)
    return control_artifact(config.control, *mirrored)


def fingerprint(encoder: str | Path) -> str:
    """Return what identifies an encoder's weights, wherever its folder lies."""
    return read_info(encoder).weights_sha256
