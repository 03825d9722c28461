"""An encoder that is told the answers: another one's architecture, trained on the state that recordings hold and on nothing else.

How much an agent gets from it is how much that architecture could give at all.
"""

from pathlib import Path

from encoders import EncoderArtifact, load_encoder, save_encoder
from encoders.artifact import INFO_FILE, WEIGHTS_FILE, EncoderInfo, read_info
from encoders.heads.config import HeadsConfig, StateConfig
from encoders.parts import parts_of
from encoders.registry import make_architecture
from encoders.training.config import TrainingConfig
from encoders.training.run_record import recorded
from foundation.errors import UserError
from foundation.presets import to_dict
from foundation.progress import say
from frames import FrameStore
from frames.labels import state_names
from pretraining.controls import mirrored_encoder, opened_store
from pretraining.options import TrainOptions
from pretraining.training import make_encoder_of, placement_of

STEPS = 4000
FRAMES_A_STEP = 128


def supervised_artifact(options: TrainOptions) -> EncoderArtifact:
    """Load, or train and save in the run's folder, the encoder of `supervised_options`; what was begun there goes on.

    Raises `UserError` where the folder holds one of other settings, and `SystemExit` (128 + n) after saving when signal n asked to stop.
    """
    folder, reading = options.run, options.heads.state.reading
    if not _is_whole(options):
        say(f"training the control 'supervised' in {folder}")
        make_encoder_of(options, placement_of(options))
    artifact = load_encoder(folder)
    if artifact.model.reading(None) == reading:
        return artifact
    # agents see the reading that was trained, whichever the model likes best
    artifact.model.prefer(reading or "")
    info = artifact.info
    return save_encoder(
        folder, artifact.model, artifact.statistics, info.store, steps=info.steps, validation=info.validation, scale=info.scale
    )


def supervised_options(
    mirrored: str | Path | EncoderInfo,
    folder: Path,
    seed: int,
    store: Path | None = None,
    latents: str | None = None,
    device: str = "auto",
    threads: int = 1,
) -> TrainOptions:
    """Return how to train, in `folder`, the architecture of the encoder `mirrored` on the state that `store` holds, or its own store.

    `mirrored` is its folder, or its description alone. One head on the reading that agents see, `latents` or the encoder's own; the
    model's own loss has no part. Raises `UserError` where the architecture is not trained, or the store is gone or holds no state.
    """
    mirror = mirrored_encoder(mirrored, latents)
    who = mirrored.name if isinstance(mirrored, EncoderInfo) else mirrored
    if not any(True for _ in mirror.model.parameters()):
        raise UserError(f"{who}: a '{mirror.info.name}' is computed, so 'supervised' cannot mirror it: name a trained encoder first")
    if parts_of(mirror.model):
        raise UserError(
            f"{who}: a '{mirror.info.name}' on another encoder, which stays as it is, so 'supervised' cannot mirror it: name one that "
            "stands alone first"
        )
    opened = opened_store(mirror.info, mirror.model, store)
    if not state_names(opened):
        raise UserError(
            f"{opened.path}: holds no state, from which the control 'supervised' learns: record a store with it (make_frames.py build "
            "--source VoxelTreechop-v0 --record state) and name it with --store STORE"
        )
    model = make_architecture(mirror.info.name, mirror.info.hyperparameters)
    training = TrainingConfig(
        batch_size=max(1, FRAMES_A_STEP // model.clip_length),
        learning_rate=1e-3,
        decay_steps=STEPS,
        ema_decay=0.998,
        seed=seed,
        validation_every=min(1000, STEPS),
        checkpoint_every=min(500, STEPS),
    )
    return TrainOptions(
        store=opened.path,
        run=folder,
        steps=STEPS,
        encoder=mirror.info.name,
        model=model.hyperparameters,
        training=training,
        heads=HeadsConfig(own_weight=0.0, state=StateConfig(weight=1.0, reading=mirror.model.reading(None))),
        device=device,
        threads=threads,
        stride=max(1, round(opened.frames_per_second / mirror.info.frames_per_second)),
    )


def _is_whole(options: TrainOptions) -> bool:
    """Whether the folder holds what was asked for, trained to the end."""
    folder = options.run
    asked = {"encoder": options.encoder, **{part: to_dict(getattr(options, part)) for part in ("model", "training", "heads")}}
    if not all((folder / name).is_file() for name in (INFO_FILE, WEIGHTS_FILE)):
        return False
    info = read_info(folder)
    # a finished one of another store is refused where a begun one is
    same_frames = info.store is None or info.store.fingerprint == FrameStore(options.store).fingerprint
    return same_frames and info.steps >= options.steps and all(recorded(folder, part) == value for part, value in asked.items())
