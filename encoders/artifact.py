"""The encoder as two files: `encoder.safetensors` (weights and statistics) and `encoder.json` (what they are).

Nothing in them is executed: the model is found by name in the registry and built from its hyperparameters.
Shapes: N clips, T frames of a clip (1 for image models), C channels, H height, W width.
"""

import hashlib
import json
import math
import platform
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from encoders.actions import Actions, ActionStore, difference, stored_actions, unrecorded
from encoders.content import check_description, check_tensors
from encoders.encoder import Encoder, to_float
from encoders.heads.attached import attached_again, heads_of
from encoders.registry import make_architecture, registered_name
from encoders.scaling import DEFAULT_SCALE, Moments, ReadingStatistics, Statistics
from foundation.documents import parse
from foundation.errors import UserError
from foundation.files import write_atomically
from foundation.limits import installed_memory
from foundation.outside import MOST_BYTES, read_regular
from foundation.places import Scale
from foundation.presets import build, to_dict
from foundation.progress import say

FORMAT = 1
WEIGHTS_FILE, INFO_FILE = "encoder.safetensors", "encoder.json"
STATISTICS_FRAMES = 16_384
STATISTICS_MACS, STATISTICS_LEAST_FRAMES = 3e12, 1024
FIT_FRAMES = 8_192
_CHUNK, _CHUNK_FRAMES = 32, 1024


@dataclass(frozen=True)
class StoreReference:
    """The frame store an encoder learned from: where it was, what was in it, how its frames were made."""

    path: str
    fingerprint: str
    frames_per_second: float
    resize: str
    actions: Actions | None = None
    """What the numbers of its actions stand for; None for encoders that take none, and for those of before this was recorded."""
    tasks: tuple[str, ...] = ()
    """What was recorded: tasks by name, as far as the recordings say; none where it was not written down."""
    saw: tuple[str, ...] = ()
    """What it learned from beside frames, in words: "rewards", "actions of ScriptedPlayer", "state"."""
    identity: str | None = None
    """What it was down to the order, names, splits and arrays of its recordings, which the fingerprint of its frames does not say; None
    for those of before this was recorded."""


@dataclass(frozen=True)
class Ancestor:
    """The encoder whose weights another one began with."""

    run: str
    """The folder of its run, or the file of a published checkpoint, as it was named."""
    step: int
    """The step that the weights are of."""
    weights_sha256: str | None = None
    """That of its artifact, where it had one of these weights."""
    store: str | None = None
    """Fingerprint of the store that it learned from, as far as it is known."""


@dataclass(frozen=True)
class EncoderInfo:
    """The content of `encoder.json`."""

    name: str
    """The architecture's name in the registry."""
    hyperparameters: dict[str, Any]
    frame_shape: tuple[int, int, int]
    latents: dict[str, list[int]]
    """The readings by name and shape, the first the default."""
    store: StoreReference
    steps: int
    """Optimizer steps trained; 0 for what is computed or left untrained."""
    validation: dict[str, float]
    """Metrics on held-out recordings at the step whose weights these are; empty when nothing was validated."""
    weights_sha256: str
    versions: dict[str, str] = field(default_factory=dict)
    format: int = FORMAT
    heads: dict[str, Any] | None = None
    """The heads it was trained with; None without."""
    scale: Scale = "unit"
    """How its latents are scaled where nobody says; unit in those of before this was written down."""
    started_from: Ancestor | None = None
    """Whose weights it began with; None for new ones, and where it was not written down."""

    @property
    def frames_per_second(self) -> float:
        return self.store.frames_per_second

    @property
    def resize(self) -> str:
        return self.store.resize

    @property
    def actions(self) -> Actions | None:
        return self.store.actions

    @property
    def card(self) -> str | None:
        """What it learned from, in words; None where that was not written down."""
        if not self.store.tasks and not self.store.saw:
            return None
        return f"{', '.join(('frames', *self.store.saw))} of {', '.join(self.store.tasks) or 'recordings without a task'}"

    def seen(self, latents: str | None, scale: Scale | None) -> "EncoderInfo":
        """Return it with the reading `latents` as the default, where there is one of that name, and this scale; None: as they are."""
        first = {latents: self.latents[latents]} if latents in self.latents else {}
        return replace(self, latents={**first, **self.latents}, scale=scale or self.scale)


@dataclass(frozen=True)
class EncoderArtifact:
    """A saved encoder: the model in evaluation mode on the CPU, what it is, and what each reading is scaled by."""

    model: Encoder
    info: EncoderInfo
    statistics: Statistics

    def seen(self, latents: str | None, scale: Scale | None, where: str) -> "EncoderArtifact":
        """Return it with `latents` as its default reading and this scale; None: as they are.

        The model is the same one, changed in place: its default reading is another for whoever else holds it.

        Raises `UserError` that begins with `where` for a reading that it does not have.
        """
        try:
            self.model.prefer(self.model.reading(latents))
        except ValueError as error:
            raise UserError(f"{where}: {error}") from error
        return replace(self, info=self.info.seen(latents, scale))


def save_encoder(
    folder: str | Path,
    model: Encoder,
    statistics: Statistics,
    store: StoreReference,
    *,
    steps: int = 0,
    validation: Mapping[str, float] | None = None,
    scale: Scale = DEFAULT_SCALE,
    started_from: Ancestor | None = None,
) -> EncoderArtifact:
    """Write a model and its statistics to `folder`, each file in one step, and return them as `load_encoder` would."""
    tensors = {f"weights.{name}": tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    for reading, found in statistics.items():
        kept = {name: tensor for name, tensor in found._asdict().items() if tensor is not None}
        tensors |= {f"statistics.{reading}.{name}": tensor.contiguous() for name, tensor in kept.items()}
    content = safetensors.torch.save(tensors)
    info = EncoderInfo(
        name=registered_name(model),
        hyperparameters=to_dict(model.hyperparameters),
        frame_shape=model.frame_shape,
        latents={name: list(shape) for name, shape in model.latents.items()},
        store=store,
        steps=steps,
        validation=dict(validation or {}),
        weights_sha256=hashlib.sha256(content).hexdigest(),
        versions={"python": platform.python_version(), **{name: version(name) for name in ("torch", "numpy", "safetensors")}},
        heads=None if (heads := heads_of(model)) is None else heads.described(),
        scale=scale,
        started_from=started_from,
    )
    folder = Path(folder)
    write_atomically(folder / WEIGHTS_FILE, content)
    write_atomically(folder / INFO_FILE, json.dumps(to_dict(info), indent=2) + "\n")
    return load_encoder(folder)


def load_encoder(folder: str | Path) -> EncoderArtifact:
    """Load an encoder by its folder.

    Raises `UserError` for a folder without an encoder, files that are damaged or belong to different saves, and an
    architecture that is not installed.
    """
    folder = Path(folder)
    info = read_info(folder)
    content = _read(folder / WEIGHTS_FILE, installed_memory())
    if hashlib.sha256(content).hexdigest() != info.weights_sha256:
        raise UserError(f"{folder / WEIGHTS_FILE}: does not match {INFO_FILE} (damaged, or from another save); copy both again")
    try:
        tensors = safetensors.torch.load(content)
    except SafetensorError as error:
        raise UserError(f"{folder / WEIGHTS_FILE}: not a safetensors file ({error}); other formats are not supported") from error
    model = make_architecture(info.name, info.hyperparameters)
    if info.latents.keys() != model.latents.keys():
        raise UserError(f"{folder / INFO_FILE}: has the readings {', '.join(info.latents)}, a '{info.name}' has {', '.join(model.latents)}")
    check_description(folder / INFO_FILE, model, info.frame_shape, info.latents, info.frames_per_second)
    if info.heads is not None:
        attached_again(model, info.heads, str(folder / INFO_FILE))
    model.prefer(next(iter(info.latents)))
    weights = {name.removeprefix("weights."): tensor for name, tensor in tensors.items() if name.startswith("weights.")}
    try:
        model.load_state_dict(weights)
        statistics = {name: _statistics_of(name, tensors) for name in model.latents}
    except (RuntimeError, KeyError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{folder}: its weights do not fit a '{info.name}' with its hyperparameters: {reason}") from error
    check_tensors(folder / WEIGHTS_FILE, weights, statistics, model)
    return EncoderArtifact(model.eval().requires_grad_(False), info, statistics)


def read_info(folder: str | Path) -> EncoderInfo:
    """Read `encoder.json` alone; raise `UserError` where it is missing or damaged."""
    path = Path(folder) / INFO_FILE
    values = parse(_read(path, MOST_BYTES), path, "copy the encoder again")
    if isinstance(values, dict) and values.get("format") != FORMAT:
        raise UserError(f"{path}: has format {values.get('format')}, this version reads {FORMAT}; use the version that wrote it")
    return build(EncoderInfo, values, str(path))


def prepare(
    model: Encoder,
    frames: np.ndarray,
    folder: str | Path,
    *,
    store: StoreReference,
    seed: int = 0,
    actions: np.ndarray | None = None,
) -> EncoderArtifact:
    """Make an artifact without training: fit what is computed from frames, take the statistics, save.

    `frames` is uint8 (N, H, W, C), or (N, T, H, W, C) for models with memory, with `actions` float32 (N, T, A) for those that take them;
    of more than 16,384 frames a sample drawn with `seed` is used.
    """
    check_frames(model, frames)
    model.eval().requires_grad_(False)
    length = frames.shape[1] if frames.ndim == 5 else 1
    chosen = drawn_rows(len(frames), max(1, STATISTICS_FRAMES // length), seed)
    frames, actions = frames[chosen], None if actions is None else actions[chosen]
    # most models have nothing to fit, and thousands of frames are large as floats
    if type(model).fit is not Encoder.fit:
        flat = frames.reshape(-1, *model.frame_shape)
        try:
            model.fit(to_float(torch.from_numpy(flat[drawn_rows(len(flat), FIT_FRAMES, seed)])))
        except ValueError as error:
            raise UserError(f"{store.path}: {error}") from error
    return save_encoder(folder, model, reading_statistics(model, frames, actions), store)


@torch.inference_mode()
def reading_statistics(model: Encoder, frames: np.ndarray, actions: np.ndarray | None = None) -> Statistics:
    """Return what every reading is scaled by, from frames uint8 (N, H, W, C) or clips (N, T, H, W, C).

    `actions` float32 (N, T, A) led to the clips' frames. A model that would need more than 3 * 10^12 multiplications for all of them
    sees as many, evenly spread, as that many are enough for, or 1,024 frames.
    """
    clips = frames if frames.ndim == 5 else frames[:, None]
    rows = _affordable_rows(model, clips, actions)
    clips, actions = clips[rows], None if actions is None else actions[rows]
    moments = {name: Moments(shape, name in model.set_readings) for name, shape in model.latents.items()}
    for readings in _read_in_chunks(model, clips, actions):
        for name, latents in readings.items():
            moments[name].add(latents.flatten(0, 1))
    return {name: found.statistics() for name, found in moments.items()}


def drawn_rows(length: int, count: int, seed: int) -> np.ndarray | slice:
    """Choose at most `count` of `length` rows, in order, with `seed`."""
    if length <= count:
        return slice(None)
    return np.sort(np.random.default_rng(seed).choice(length, count, replace=False))


def check_frames(model: Encoder, frames: np.ndarray) -> None:
    """Raise `UserError` unless `frames` are uint8 (..., H, W, C) of the model's frame shape."""
    if frames.dtype != np.uint8 or frames.shape[-3:] != tuple(model.frame_shape) or not len(frames):
        got = f"{frames.dtype} of shape {frames.shape}"
        raise UserError(f"this encoder takes uint8 frames of shape {tuple(model.frame_shape)}, got {got}; build the store at that size")


class Taking(Protocol):
    """What takes frames, and actions."""

    @property
    def frame_shape(self) -> tuple[int, int, int]:
        """(H, W, C) of the frames."""

    @property
    def action_size(self) -> int:
        """Numbers of an action; 0 for none."""


def check_source(model: Taking, where: str | Path, frame_shape: tuple[int, ...], action_size: int, remedy: str) -> None:
    """Raise `UserError`, with a `remedy`, unless frames of `frame_shape` (H, W, C) and actions of `action_size` numbers suit the model."""
    if tuple(frame_shape) != tuple(model.frame_shape):
        raise UserError(f"{where}: its frames are {tuple(frame_shape)}, the encoder takes {tuple(model.frame_shape)}; {remedy}")
    if model.action_size not in (0, action_size):
        held = f"actions of {action_size} numbers" if action_size else "no actions"
        raise UserError(f"{where}: has {held}, the encoder takes actions of {model.action_size}; {remedy}")


def check_meaning(reference: StoreReference, action_size: int, store: ActionStore, who: str) -> None:
    """Raise `UserError` unless a store's frames and actions mean what those of `reference` did to `who`, such as "the encoder RUN".

    They were resized alike, and have the same actions by name. Words that stand for numbers are numbered from now on as they were
    in `reference`; what cannot be checked is said.
    """
    if store.meta["resize"] != reference.resize:
        raise UserError(
            f"{store.path}: its frames were resized by '{store.meta['resize']}', those of {who} by '{reference.resize}'; "
            f"build the store with --resize {reference.resize}"
        )
    if not action_size:
        return
    if reference.actions is None:
        say(unrecorded(who))
        return
    if differs := difference(reference.actions, stored_actions(store)):
        raise UserError(f"{store.path}: its actions are not those of {who}: {differs}; build it from recordings of the same actions")
    store.number_texts({array.name: array.texts for array in reference.actions if array.texts})


def _affordable_rows(model: Encoder, clips: np.ndarray, actions: np.ndarray | None) -> np.ndarray | slice:
    """Choose evenly spread clips whose readings cost no more than the budget, and always enough for a deviation."""
    counts: list[int] = []
    # torch's own counter would first import its compiler, for many seconds
    hooks = [part.register_forward_hook(_counting(counts)) for part in model.modules() if isinstance(part, (nn.Conv2d, nn.Linear))]
    # with gradients, as a model that encodes with a faster copy of itself would count nothing
    with torch.inference_mode(False), torch.enable_grad():
        next(_read_in_chunks(model, clips[:1], None if actions is None else actions[:1]))
    for hook in hooks:
        hook.remove()
    count = max(int(STATISTICS_MACS // max(1, sum(counts))), -(-STATISTICS_LEAST_FRAMES // clips.shape[1]))
    return np.linspace(0, len(clips) - 1, count).round().astype(int) if count < len(clips) else slice(None)


def _counting(counts: list[int]) -> Callable[..., None]:
    """Return a hook that notes how many multiplications a layer does."""

    def note(layer: nn.Conv2d | nn.Linear, inputs: Any, output: Tensor) -> None:
        if isinstance(layer, nn.Linear):
            counts.append(output.numel() * layer.in_features)
        else:
            counts.append(output.numel() * layer.in_channels // layer.groups * math.prod(layer.kernel_size))

    return note


def _read_in_chunks(model: Encoder, clips: np.ndarray, actions: np.ndarray | None) -> Iterator[dict[str, Tensor]]:
    """Yield all readings of a few clips at a time: their activations have to fit into memory."""
    device = next((tensor.device for tensor in (*model.parameters(), *model.buffers())), torch.device("cpu"))
    size = min(_CHUNK, max(1, _CHUNK_FRAMES // clips.shape[1]))
    for start in range(0, len(clips), size):
        chosen = slice(start, start + size)
        acted = None if actions is None else torch.from_numpy(actions[chosen]).to(device)
        yield model.clip_readings(to_float(torch.from_numpy(np.array(clips[chosen])).to(device)), acted)


def _statistics_of(reading: str, tensors: Mapping[str, Tensor]) -> ReadingStatistics:
    mean, deviation, *more = (f"statistics.{reading}.{name}" for name in ReadingStatistics._fields)
    return ReadingStatistics(tensors[mean], tensors[deviation], *(tensors.get(name) for name in more))


def _read(path: Path, most: int) -> bytes:
    try:
        return read_regular(path, most)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); name the folder of a trained encoder") from error
