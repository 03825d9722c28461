"""Encoders that claims about another one are measured against: the same architecture untrained, and principal components."""

from pathlib import Path

import numpy as np
import torch

import frames
from encoders import EncoderArtifact, load_encoder, prepare
from encoders.actions import stored_actions
from encoders.artifact import FIT_FRAMES, EncoderInfo, StoreReference, Taking, check_meaning, check_source
from encoders.encoder import Encoder
from encoders.registry import make_architecture
from foundation.errors import UserError
from pretraining.recorded import tasks_of

# Statistics need fewer frames than components do
_FRAMES = {"untrained": 4096, "pca": FIT_FRAMES}


def chosen_encoder(folder: str | Path, latents: str | None = None) -> EncoderArtifact:
    """Load an encoder, with `latents` as its default reading (None: the artifact's own); raise `UserError` for one it does not have."""
    return load_encoder(folder).seen(latents, None, str(folder))


def mirrored_encoder(mirrored: str | Path | EncoderInfo, latents: str | None = None) -> EncoderArtifact:
    """Return the encoder that a control mirrors, as `chosen_encoder` does; of a description alone, with new weights and no statistics.

    A control takes neither from it. A service gives such a description in place of a folder.
    """
    if not isinstance(mirrored, EncoderInfo):
        return chosen_encoder(mirrored, latents)
    model = make_architecture(mirrored.name, mirrored.hyperparameters)
    return EncoderArtifact(model, mirrored, {}).seen(latents or next(iter(mirrored.latents)), None, mirrored.name)


def control_artifact(
    control: str, mirrored: str | Path | EncoderInfo, folder: str | Path, seed: int, store: Path | None = None, latents: str | None = None
) -> EncoderArtifact:
    """Load, or make and save in `folder`, the artifact of a control that mirrors the encoder in the folder `mirrored`, or described.

    `untrained` has the encoder's architecture with new weights from `seed`; `pca` has as many components as the encoder has
    latents in the reading that it is mirrored in. Both take their statistics from training frames of `store`, or of the store that the
    encoder names.
    """
    folder = Path(folder)
    if (folder / "encoder.json").is_file():
        return load_encoder(folder)
    mirror = mirrored_encoder(mirrored, latents)
    model = _control_model(control, mirror, seed)
    seen, reference = _training_frames(mirror, model, store, _FRAMES[control], seed)
    return prepare(model, seen.frames, folder, store=reference, seed=seed, actions=seen.actions)


def training_store(info: EncoderInfo, store: Path | None = None) -> Path:
    """Return where the frames are from which a control of an encoder is made: `store`, else the one that the encoder names.

    Raises `UserError` where it is gone.
    """
    path = store or Path(info.store.path)
    if not path.exists():
        what = "there is no such store" if store else "the store that the encoder was trained on is gone"
        raise UserError(f"{path}: {what}; name one with --store STORE")
    return path


def opened_store(info: EncoderInfo, model: Taking, store: Path | None = None) -> frames.FrameStore:
    """Open the store that a control of an encoder is made from; raise `UserError` where its frames or actions mean something else."""
    opened = frames.FrameStore(training_store(info, store))
    remedy = "name a store built like the one that the encoder was trained on with --store STORE"
    check_source(model, opened.path, opened.frame_shape, opened.action_size, remedy)
    check_meaning(info.store, model.action_size, opened, "the encoder that it is to mirror")
    return opened


def _control_model(control: str, mirror: EncoderArtifact, seed: int) -> Encoder:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        if control == "pca":
            size = int(np.prod(next(iter(mirror.model.latents.values()))))
            return make_architecture("pca", {"latent_dim": size, "frame_shape": list(mirror.model.frame_shape)})
        model = make_architecture(mirror.info.name, mirror.info.hyperparameters)
        model.prefer(mirror.model.reading(None))
        return model


def _training_frames(
    mirror: EncoderArtifact, model: Encoder, store: Path | None, count: int, seed: int
) -> tuple[frames.FrameBatch, StoreReference]:
    """Return training frames for `model`, in sequences where it has memory, and the store they come from."""
    opened = opened_store(mirror.info, model, store)
    rate = mirror.info.frames_per_second
    actions = stored_actions(opened) if model.action_size else None
    learned_from = () if type(model).fit is Encoder.fit else tasks_of(opened)
    path, identity = str(opened.path), opened.identity
    reference = StoreReference(path, opened.fingerprint, rate, mirror.info.resize, actions, learned_from, identity=identity)
    if model.initial_state(1):
        return frames.sample_sequences(opened, "train", count, seed, opened.nearest_strides(rate)), reference
    return frames.FrameBatch(frames.sample_frames(opened, "train", count, seed)[:, None]), reference
