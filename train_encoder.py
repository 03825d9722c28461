"""A frame store -> an encoder: python train_encoder.py PRESET --store STORE --run RUN [--steps N] [OPTIONS]"""

import dataclasses
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

import torch

import frames
from encoders import Encoder, StoreReference, make_encoder, prepare, train
from encoders.artifact import INFO_FILE, STATISTICS_FRAMES, check_source, read_info
from encoders.registry import encoder_class, preset_architecture
from encoders.training.checks import check_request
from encoders.training.config import TrainingConfig
from encoders.training.devices import Precision, choose_device
from encoders.training.parallel import ALONE, Ranks
from encoders.training.state import RESUME_FILE
from encoders.training.workers import AskedToStop, check_workers, run_workers
from foundation.command import run
from foundation.errors import UserError
from foundation.files import exclusive_lock
from foundation.presets import command_line, to_dict
from foundation.progress import say
from frames.loading import hold, prefetch

DESCRIPTION = "Train an encoder on the frames of a store. Rerunning the same command resumes."


def main() -> None:
    options = command_line("encoder", options_of, DESCRIPTION)
    if options.workers == 1:
        make(options, options.device)
    else:
        check_workers(options.workers, options.device)
        store, model = opened(options)
        check_trained_together(store, model, options)
        run_workers(work, sys.argv[1:], options.workers, options.device)
    say(f"wrote {options.run}; next: python evaluate_encoder.py {options.run} --store {options.store}")


def work(argv: list[str], device: str, ranks: Ranks, asked_to_stop: AskedToStop) -> None:
    """Do one worker's part of what the command line asks for."""
    make(command_line("encoder", options_of, DESCRIPTION, argv), device, ranks, asked_to_stop)


def make(options: Any, device: str, ranks: Ranks = ALONE, asked_to_stop: AskedToStop = lambda: None) -> None:
    """Train the encoder, or compute it where there is nothing to train."""
    store, model = opened(options)
    rate = store.frames_per_second / options.stride
    reference = StoreReference(str(options.store.absolute()), store.fingerprint, rate, store.meta["resize"])
    if next(model.parameters(), None) is None:
        compute(store, model, reference, options)
    else:
        train_on(store, model, reference, options, device, ranks, asked_to_stop)


def opened(options: Any) -> tuple[frames.FrameStore, Encoder]:
    """Return the store and a new model that fits it."""
    store = frames.FrameStore(options.store, in_memory=options.frames_in == "memory")
    torch.manual_seed(options.training.seed)
    model = make_encoder(options.encoder, **to_dict(options.model))
    check_fit(model, store, options.stride)
    return store, model


def options_of(preset: dict[str, Any]) -> type:
    """Return the dataclass of all options for a preset: those of its model and of the training loop."""
    architecture = preset_architecture(preset, "the preset")
    hyperparameters = encoder_class(architecture).Hyperparameters
    fields: list[Any] = [
        ("store", Path),
        ("run", Path),
        ("steps", int),
        ("encoder", str, architecture),
        ("model", hyperparameters, dataclasses.field(default_factory=hyperparameters)),
        ("training", TrainingConfig, dataclasses.field(default_factory=TrainingConfig)),
        ("device", str, "auto"),
        ("threads", int | None, None),
        ("stride", int, 1),
        ("frames_in", Literal["file", "memory", "device"], "file"),
        ("compile", bool, False),
        ("precision", Precision, "auto"),
        ("weights", Path | None, None),
        ("workers", int, 1),
    ]
    return dataclasses.make_dataclass("Options", fields)


def train_on(
    store: frames.FrameStore,
    model: Encoder,
    reference: StoreReference,
    options: Any,
    device: str,
    ranks: Ranks,
    asked_to_stop: AskedToStop,
) -> None:
    """Train on the store's `train` split and validate on its `val` split."""
    config, chosen = options.training, choose_device(device)
    drawn = training_batches(store, model, options, ranks)

    def validation() -> Iterable[Any]:
        clips = max(1, config.validation_frames // model.clip_length)
        return frames.in_order(store, "val", config.batch_size, model.clip_length, clips, stride=options.stride)

    # a store without recordings to validate on is told now, not at the first validation
    validation()
    with hold(drawn, chosen) if options.frames_in == "device" else prefetch(drawn, chosen) as batches:
        train(
            model,
            batches,
            validation,
            options.run,
            config,
            steps=options.steps,
            sample=lambda: sample(store, model, options),
            store=reference,
            device=device,
            threads=options.threads,
            compiled=options.compile,
            precision=options.precision,
            weights=options.weights,
            ranks=ranks,
            asked_to_stop=asked_to_stop,
        )


def training_batches(store: frames.FrameStore, model: Encoder, options: Any, ranks: Ranks) -> frames.FrameBatches:
    """Return one worker's part of the endless shuffled batches."""
    config, share = options.training, {"rank": ranks.rank, "ranks": ranks.size}
    drawn = (store, "train", config.batch_size, model.clip_length, config.seed)
    return frames.FrameBatches(*drawn, stride=options.stride, flip=config.flip, **share)


def check_trained_together(store: frames.FrameStore, model: Encoder, options: Any) -> None:
    """Raise `UserError` before any worker starts for what would end all of them."""
    if next(model.parameters(), None) is None:
        raise UserError(f"--workers {options.workers}: a '{options.encoder}' is computed, not trained; leave it out")
    check_request(model, options.run, options.steps, options.threads, options.compile)
    training_batches(store, model, options, Ranks(0, options.workers))


def compute(store: frames.FrameStore, model: Encoder, reference: StoreReference, options: Any) -> None:
    """Fit a model that has nothing to train, such as principal components."""
    for option in ("weights", "compile"):
        if getattr(options, option):
            raise UserError(f"--{option}: a '{options.encoder}' is computed, not trained; leave it out")
    with exclusive_lock(options.run, "making an encoder"):
        if (options.run / RESUME_FILE).exists():
            raise UserError(f"{options.run}: holds a training run; choose another folder")
        if (options.run / INFO_FILE).exists() and read_info(options.run).name != options.encoder:
            raise UserError(f"{options.run}: holds an encoder of another kind ({read_info(options.run).name}); choose another folder")
        seen = sample(store, model, options)
        prepare(model, seen.frames, options.run, store=reference, seed=options.training.seed, actions=seen.actions)


def sample(store: frames.FrameStore, model: Encoder, options: Any) -> frames.FrameBatch:
    """Return at most 16,384 training frames, in sequences for models with memory."""
    if model.initial_state(1):
        return frames.sample_sequences(store, "train", STATISTICS_FRAMES, options.training.seed, options.stride)
    return frames.FrameBatch(frames.sample_frames(store, "train", STATISTICS_FRAMES, options.training.seed)[:, None])


def check_fit(model: Encoder, store: frames.FrameStore, stride: int) -> None:
    """Raise `UserError` unless the store has frames, and actions, as the model takes them; say which episodes are too short."""
    if stride < 1:
        raise UserError(f"--stride {stride}: must be 1 or more")
    remedy = "give --model.frame-shape and --model.action-size as the store has them, or build another store"
    check_source(model, store.path, store.frame_shape, store.action_size, remedy)
    reach = (model.clip_length - 1) * stride + 1
    short = [episode for episode in store.episodes if episode.length < reach or (reach > 1 and not episode.ordered)]
    if short:
        lost = sum(episode.length for episode in short)
        say(f"{len(short)} of {len(store.episodes)} episodes ({lost:,} frames) are shorter than a clip of {reach} frames and are not used")


if __name__ == "__main__":
    run(main)
