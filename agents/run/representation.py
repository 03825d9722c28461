"""What an agent sees: an encoder's latents, those of a control that mirrors the encoder, or neither."""

from pathlib import Path

import numpy as np

from agents.run.config import SEEING_NO_ENCODER, AgentRun
from encoders import EncoderArtifact, load_encoder
from foundation.places import Address
from pretraining.controls import chosen_encoder, control_artifact
from pretraining.supervised import supervised_artifact, supervised_options
from wrappers import RemoteEncoder, open_encoder
from wrappers.learning_encoder import refuse_not_learning
from wrappers.opening import info_of, original


def reading_line(place: Path | Address, latents: str | None = None, learns: bool = False) -> str:
    """Say which latents of an encoder an agent sees, and how to choose others; raise `UserError` for one that cannot learn but is to."""
    frozen = open_encoder(place, latents=latents)
    if learns:
        refuse_not_learning(frozen)
    size, others = int(np.prod(frozen.latent_shape)), [name for name in frozen.info.latents if name != frozen.reading]
    chosen = "as asked for" if latents else "its default"
    what = f"{place}: latents '{frozen.reading}', {size:,} numbers a frame, {chosen}"
    return what + (f"; it also has {', '.join(others)}" if others else "")


def seen_artifact(config: AgentRun) -> EncoderArtifact | RemoteEncoder | None:
    """Return what the agent of `config` sees through, made in the run's folder where it is a control; None without an encoder."""
    if config.control in SEEING_NO_ENCODER:
        return None
    assert config.encoder is not None
    if config.control in (None, "finetuned"):
        if isinstance(config.encoder, Address):
            return RemoteEncoder(config.encoder, config.latents)
        return chosen_encoder(config.encoder, config.latents)
    folder = config.run / "encoder"
    mirrored = original(config.encoder), folder, config.seed, config.store, config.latents
    begun = (config.run / "resume.pt").is_file()
    if config.control == "supervised":
        kept = begun and (folder / "encoder.json").is_file()
        return load_encoder(folder) if kept else supervised_artifact(supervised_options(*mirrored, config.device, config.threads))
    if not begun:
        # left by an attempt that ended before its first checkpoint: perhaps of another encoder or seed
        (folder / "encoder.json").unlink(missing_ok=True)
    return control_artifact("untrained" if config.control == "pixels_same" else config.control, *mirrored)


def fingerprint(encoder: Path | Address) -> str:
    """Return what identifies an encoder's weights, wherever it lies."""
    return info_of(encoder).weights_sha256
