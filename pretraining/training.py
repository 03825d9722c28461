"""An encoder from the frames of a store: trained, or computed where there is nothing to train."""

from collections.abc import Iterable
from typing import Any

import torch

import frames
from encoders import Encoder, Placement, StoreReference, TrainingData, prepare, train
from encoders.actions import difference, stored_actions
from encoders.artifact import INFO_FILE, STATISTICS_FRAMES, check_meaning, check_source, read_info
from encoders.encoder import EstimatesMemory
from encoders.heads.attached import attach_heads, heads_of, labels_with, wanted_labels
from encoders.parts import cards_of_parts, make_on_top
from encoders.training.checks import check_request
from encoders.training.devices import choose_device
from encoders.training.parallel import Ranks
from encoders.training.run_record import recorded_store
from encoders.training.state import RESUME_FILE
from foundation.errors import UserError
from foundation.files import exclusive_lock
from foundation.folders import ENCODER, refuse_others
from foundation.presets import to_dict
from foundation.progress import say
from frames.labels import check_values
from frames.loading import hold, prefetch
from frames.rewards import check_rewards
from frames.store import free_memory
from pretraining.options import TrainOptions
from pretraining.recorded import tasks_of, what_is_recorded, what_was_seen


def make_encoder_of(options: TrainOptions, placement: Placement) -> None:
    """Train the encoder, or compute it where there is nothing to train, and write it to the run's folder."""
    store, model = _opened(options)
    if _is_computed(model):
        _compute(store, model, options)
    else:
        _train(store, model, options, placement)


def placement_of(options: TrainOptions) -> Placement:
    """Return where the options say that a process alone trains."""
    return Placement(device=options.device, threads=options.threads, compiled=options.compile, precision=options.precision)


def check_trained_together(options: TrainOptions) -> None:
    """Raise `UserError` before any worker starts for what would end all of them."""
    store, model = _opened(options)
    if _is_computed(model):
        raise UserError(f"--workers {options.workers}: a '{options.encoder}' is computed, not trained; leave it out")
    check_request(model, options.run, options.steps, placement_of(options))
    _check_validation(store)
    _batches(store, model, options, Ranks(0, options.workers))


def _opened(options: TrainOptions) -> tuple[frames.FrameStore, Encoder]:
    """Return the store and a new model that fits it."""
    store = frames.FrameStore(options.store, in_memory=options.frames_in == "memory")
    torch.manual_seed(options.training.seed)
    model = make_on_top(options.encoder, store.meta["resize"], **to_dict(options.model))
    _check_fit(model, store, options.stride)
    # the store is asked for every label before heads are made of what it has
    labels = labels_with(model, options.heads)
    frames.Labels(store, labels)
    if "reward_to_come" in labels and labels["reward_to_come"].get("binarised", True):
        check_rewards(store, "train")
    if model.needed_values is not None and options.heads.trains_own:
        low, high, least = model.needed_values
        check_values(store, options=model.targets["reward_to_come"], low=low, high=high, least=least)
        _check_validation(store)
        # weights are kept by what they reach there: without one of each they would be those of before
        check_values(store, "val", options=model.targets["reward_to_come"], low=low, high=high, least=1)
    _number_texts(model, store, options)
    attach_heads(model, options.heads, what_is_recorded(store, options.heads))
    return store, model


def _is_computed(model: Encoder) -> bool:
    return next((one for name, one in model.named_parameters() if not name.startswith("heads.")), None) is None


def _check_fit(model: Encoder, store: frames.FrameStore, stride: int) -> None:
    """Raise `UserError` unless the store has frames, and actions, as the model takes them; say which episodes are too short."""
    if stride < 1:
        raise UserError(f"--stride {stride}: must be 1 or more")
    remedy = "give --model.frame-shape and --model.action-size as the store has them, or build another store"
    check_source(model, store.path, store.frame_shape, store.action_size, remedy)
    reach = (model.clip_length - 1) * stride + 1
    whole = {episode.name for episode, step in store.strided("all", stride) if episode.length > (model.clip_length - 1) * step}
    short = [episode for episode in store.episodes if reach > 1 and episode.name not in whole]
    if short:
        lost = sum(episode.length for episode in short)
        say(f"{len(short)} of {len(store.episodes)} episodes ({lost:,} frames) are shorter than a clip of {reach} frames and are not used")


def _number_texts(model: Encoder, store: frames.FrameStore, options: TrainOptions) -> None:
    """Give the words of actions the numbers that they have in this run, or in the one whose weights it starts from."""
    if not model.action_size:
        return
    begun = (options.run / RESUME_FILE).exists()
    before = recorded_store(options.run) if begun else recorded_store(options.weights) if options.weights else None
    if before is None:
        return
    if not begun:
        check_meaning(before, model.action_size, store, f"the run {options.weights}")
    elif before.actions is not None and difference(before.actions, stored_actions(store)) is None:
        store.number_texts({array.name: array.texts for array in before.actions if array.texts})


def _train(store: frames.FrameStore, model: Encoder, options: TrainOptions, placement: Placement) -> None:
    """Train on the store's `train` split and validate on its `val` split."""
    config, device = options.training, choose_device(placement.device)
    drawn = _batches(store, model, options, placement.ranks)

    def validation() -> Iterable[Any]:
        clips = max(1, config.validation_frames // model.clip_length)
        wanted = wanted_labels(model)
        return frames.in_order(store, "val", config.batch_size, model.clip_length, clips, stride=options.stride, targets=wanted)

    _check_memory(model, config.batch_size // placement.ranks.size, device)
    # a store without clips to validate on is told now, not at the first validation
    _check_validation(store)
    validation()
    with hold(drawn, device) if options.frames_in == "device" else prefetch(drawn, device) as batches:
        data = TrainingData(batches, validation, lambda: _sample(store, model, options), _reference(store, model, options))
        train(model, data, options.run, config, steps=options.steps, weights=options.weights, placement=placement)


def _check_validation(store: frames.FrameStore) -> None:
    """Raise `UserError` for a store without recordings to validate on."""
    if not store.of_split("val"):
        remedy = "build one with --val 0.1, or merge it with a store that has some"
        raise UserError(f"{store.path}: has no recordings in split 'val', and an encoder is validated on such; {remedy}")


def _check_memory(model: Encoder, clips: int, device: torch.device) -> None:
    """Raise `UserError` where a model that knows what a training step takes says that it is more than there is."""
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else free_memory()
    needed = model.training_bytes(clips, device.type) if isinstance(model, EstimatesMemory) else 0
    if free is not None and needed > free:
        raise UserError(
            f"a training step of {clips} clips takes about {needed / 2**30:.1f} GiB of memory, and {free / 2**30:.1f} GiB are free "
            f"({device}); give fewer --model.slots, a smaller --training.batch-size, or another --model.decoder"
        )


def _compute(store: frames.FrameStore, model: Encoder, options: TrainOptions) -> None:
    """Fit a model that has nothing to train, such as principal components."""
    if heads_of(model) is not None:
        raise UserError(f"--heads: a '{options.encoder}' is computed, and no head changes it; leave them out")
    for option in ("weights", "compile"):
        if getattr(options, option):
            raise UserError(f"--{option}: a '{options.encoder}' is computed, not trained; leave it out")
    refuse_others(options.run, ENCODER)
    with exclusive_lock(options.run, "making an encoder"):
        if (options.run / RESUME_FILE).exists():
            raise UserError(f"{options.run}: holds a training run; choose another folder")
        if (options.run / INFO_FILE).exists() and read_info(options.run).name != options.encoder:
            raise UserError(f"{options.run}: holds an encoder of another kind ({read_info(options.run).name}); choose another folder")
        seen = _sample(store, model, options)
        reference = _reference(store, model, options)
        prepare(model, seen.frames, options.run, store=reference, seed=options.training.seed, actions=seen.actions)


def _batches(store: frames.FrameStore, model: Encoder, options: TrainOptions, ranks: Ranks) -> frames.FrameBatches:
    """Return one worker's part of the endless shuffled batches."""
    config = options.training
    return frames.FrameBatches(
        store,
        "train",
        config.batch_size,
        model.clip_length,
        config.seed,
        stride=options.stride,
        flip=config.flip,
        targets=wanted_labels(model),
        rank=ranks.rank,
        ranks=ranks.size,
    )


def _sample(store: frames.FrameStore, model: Encoder, options: TrainOptions) -> frames.FrameBatch:
    """Return at most 16,384 training frames, in sequences for models with memory."""
    if model.initial_state(1):
        return frames.sample_sequences(store, "train", STATISTICS_FRAMES, options.training.seed, options.stride)
    return frames.FrameBatch(frames.sample_frames(store, "train", STATISTICS_FRAMES, options.training.seed)[:, None])


def _reference(store: frames.FrameStore, model: Encoder, options: TrainOptions) -> StoreReference:
    rate = store.frames_per_second / options.stride
    actions = stored_actions(store) if model.action_size else None
    path, resize = str(options.store.absolute()), store.meta["resize"]
    saw = (*what_was_seen(store, wanted_labels(model), bool(model.action_size)), *cards_of_parts(options.encoder, to_dict(options.model)))
    return StoreReference(path, store.fingerprint, rate, resize, actions, tasks_of(store), saw, store.identity)
