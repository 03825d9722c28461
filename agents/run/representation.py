"""What an agent sees: an encoder's latents, those of a control that mirrors the encoder, or neither."""

import numpy as np

from agents.run.config import SEEING_NO_ENCODER, AgentRun, Control
from encoders import EncoderArtifact, load_encoder
from foundation.places import AnyPlace, Scale, said_latents, views_of
from pretraining.controls import control_artifact
from pretraining.supervised import supervised_artifact, supervised_options
from wrappers import open_encoder
from wrappers.learning_encoder import refuse_not_learning
from wrappers.opening import Through, info_of, original, seen_through
from wrappers.vec_history import refuse_history


def reading_line(
    place: AnyPlace, latents: str | None = None, scale: Scale | None = None, flat: bool = False, learns: bool = False, history: int = 1
) -> str:
    """Say which latents of an encoder an agent sees, and how to choose others; raise `UserError` where they cannot be had, or learned."""
    frozen = open_encoder(place, latents=latents, scale=scale, flat=flat)
    refuse_history(frozen, history)
    if learns:
        refuse_not_learning(frozen)
    size, others = int(np.prod(frozen.latent_shape)), [name for name in frozen.info.latents if name != frozen.reading]
    chosen = "as asked for" if said_latents(views_of(place, latents)) else "its default"
    scaled = "" if frozen.scale == "unit" else f", scale '{frozen.scale}'"
    what = f"{place}: latents '{frozen.reading}', {size:,} numbers a frame, {chosen}{scaled}"
    return what + (f"; it also has {', '.join(others)}" if others else "")


def seen_artifact(config: AgentRun) -> Through | None:
    """Return what the agent of `config` sees through, made in the run's folder where it is a control; None without an encoder."""
    if config.control in SEEING_NO_ENCODER:
        return None
    assert config.encoder is not None
    if config.control in (None, "finetuned"):
        return seen_through(config.encoder, config.latents, config.scale)
    made = _control_artifact(config, "untrained" if config.control == "pixels_same" else config.control)
    return made.seen(None, views_of(config.encoder, None, config.scale)[0].scale, config.control)


def _control_artifact(config: AgentRun, control: Control) -> EncoderArtifact:
    folder = config.run / "encoder"
    assert config.encoder is not None
    mirrored = original(config.encoder), folder, config.seed, config.store, views_of(config.encoder, config.latents)[0].latents
    begun = (config.run / "resume.pt").is_file()
    if not begun and control != "supervised":
        # left by an attempt that ended before its first checkpoint: perhaps of another encoder or seed
        (folder / "encoder.json").unlink(missing_ok=True)
    if begun and (folder / "encoder.json").is_file():
        return load_encoder(folder)
    if control == "supervised":
        return supervised_artifact(supervised_options(*mirrored, config.device, config.threads))
    return control_artifact(control, *mirrored)


def fingerprint(encoder: AnyPlace) -> str:
    """Return what identifies an encoder's weights, wherever it lies."""
    return info_of(encoder).weights_sha256
