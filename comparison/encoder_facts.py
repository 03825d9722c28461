"""What a report says about a row's encoder: size, speed, what validation found, whether it has collapsed."""

import json
import math
import time
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch

from encoders.artifact import EncoderInfo
from encoders.encoder import Encoder, Generates
from encoders.training.validation import COLLAPSED_SHARE
from encoders.used import used_parameters
from foundation.documents import read
from foundation.errors import UserError
from foundation.files import write_atomically
from foundation.machine import machine
from foundation.places import Address, AnyPlace, recorded_place, views_of
from foundation.presets import build, to_dict
from pretraining.controls import mirrored_encoder
from wrappers import PictureEncoder, open_encoder
from wrappers.opening import info_of, original, recorded_views

_SCORES_IN_WORDS = {"_auc": "AUC", "_r2": "R²", "_accuracy": "accuracy"}
_SCORES = tuple(_SCORES_IN_WORDS)
EVALUATION_FILE = "evaluation.json"
_WARM_UP, _REPEATS = 3, 15


@dataclass(frozen=True)
class Speed:
    """How long an encoder takes: the median over batches, on one machine."""

    milliseconds: float
    """A frame."""
    batch: int
    device: str
    threads: int
    machine: str

    @property
    def frames_per_second(self) -> float:
        return 1000 / self.milliseconds


@dataclass(frozen=True)
class Probe:
    """How well something can be read from an encoder's latents, by probes of two kinds."""

    metric: str
    linear: float | None = None
    mlp: float | None = None
    """With one hidden layer."""


@dataclass(frozen=True)
class EncoderFacts:
    """An encoder as a row of a report describes it."""

    name: str
    latents: list[int]
    """Shape of what the agent sees."""
    parameters: int
    """Of the whole model, decoder included; of an encoder that learns with its agent, those that do."""
    reading: str | None = None
    """Which of the encoder's readings that is."""
    weights_sha256: str | None = None
    trained_steps: int | None = None
    validation: dict[str, float] | None = None
    """Metrics on held-out recordings, from `encoder.json`."""
    collapsed: bool | None = None
    """None where nothing was validated, or the model has no KL that could tell."""
    speed: Speed | None = None
    learned_from: str | None = None
    """In words, where the encoder says so: "frames, rewards of VoxelTreechop-v0"."""
    generates: bool = True
    """Whether its latents become frames again."""
    probes: dict[str, Probe] = field(default_factory=dict)
    """By what they read, from `evaluation.json`; {} where that has none."""
    used_parameters: int | None = None
    """Of what the reading depends on: without decoder, heads, and what later readings add. None where that is not known."""


class SpeedCache:
    """Speeds by weights, device, batch and threads, kept in a file: an encoder is measured once a comparison."""

    def __init__(self, path: Path) -> None:
        self.path, self.known = path, dict[str, Any]()
        # what is no such file is measured again
        with suppress(UserError):
            known = read(path)
            self.known = known if isinstance(known, dict) else {}

    def speed(self, place: AnyPlace, info: EncoderInfo, reading: str | None, device: str, batch: int, threads: int) -> Speed:
        """Return what was measured before, or measure."""
        key = f"{info.weights_sha256} {reading or next(iter(info.latents))} {device} {batch} {threads} {machine(device)}"
        if key not in self.known:
            # how latents are scaled costs next to nothing
            seen = place if len(views_of(place)) > 1 else recorded_views(place, reading, None)
            self.known[key] = to_dict(measure_speed(open_encoder(seen, device, flat=True), batch, threads))
            write_atomically(self.path, json.dumps(self.known, indent=2) + "\n")
        return build(Speed, self.known[key], str(self.path))


def encoder_facts(result: dict[str, Any], batch: int, speeds: SpeedCache, named: AnyPlace | None = None) -> EncoderFacts | None:
    """Describe the encoder of a run's result; None for runs without one. `batch` is how many frames an agent encodes at a time.

    The encoder is where the command has `named` it, else in the folder that the result names. What needs it is left out where it is
    gone, or the device is.
    """
    if not result.get("encoder"):
        return None
    about = result["encoder"]
    reading = about.get("reading")
    little = EncoderFacts(about["name"], about["latents"], result["encoder_parameters"], reading)
    # one that learns with its agent is in the policy
    place, device = named or recorded_place(result["encoder_folder"]), result["device"]["encoder"] or result["device"]["policy"]
    try:
        info = info_of(place)
        speed = speeds.speed(place, info, reading, device, batch, result["threads"]) if available(device, place) else None
        if len(views_of(place)) > 1:
            return replace(little, weights_sha256=info.weights_sha256, speed=speed, generates=False)
        model = mirrored_encoder(original(place)).model
    except UserError:
        return little
    return replace(
        little,
        weights_sha256=info.weights_sha256,
        trained_steps=info.steps,
        validation=info.validation or None,
        collapsed=has_collapsed(model, info, reading),
        speed=speed,
        generates=isinstance(model, Generates),
        learned_from=info.card,
        probes=read_probes(place, info, reading),
        used_parameters=sum(parameter.numel() for parameter in used_parameters(model, reading).values()),
    )


def read_probes(place: AnyPlace, info: EncoderInfo, reading: str | None = None, who: str = "encoder") -> dict[str, Probe]:
    """Return what the probes found in `RUN/evaluation.json`, of these weights and this reading; {} where there is none, and of a service.

    `who` is the encoder itself, or one of those that it was judged beside: `pca` or `untrained`.
    """
    folder, *others = (view.place for view in views_of(place))
    if others or isinstance(folder, Address):
        return {}
    try:
        content = read(folder / EVALUATION_FILE)
        judged = content["probes"]
        if content["encoder"] != info.weights_sha256 or judged["reading"] != (reading or next(iter(info.latents))):
            return {}
        found = {target: {"metric": one["metric"], **one[who]} for target, one in judged["probes"].items() if who in one}
        return {target: build(Probe, one) for target, one in found.items()}
    # evaluated by another version, or by hand
    except (UserError, AttributeError, KeyError, TypeError):
        return {}


def measure_speed(frozen: PictureEncoder, batch: int, threads: int) -> Speed:
    """Time `encode` on a batch of random frames, as an agent's step asks for it."""
    frames = np.random.default_rng(0).integers(0, 256, (batch, *frozen.frame_shape), np.uint8)
    action = np.zeros((batch, frozen.action_size), np.float32) if frozen.action_size else None
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        times = []
        for _ in range(_WARM_UP + _REPEATS):
            begun = time.perf_counter()
            # the latents come back as numpy: on a GPU this waits for them
            frozen.encode(frames, None, action)
            times.append(time.perf_counter() - begun)
    finally:
        torch.set_num_threads(before)
    return Speed(round(1000 * median(times[_WARM_UP:]) / batch, 5), batch, frozen.placed(), threads, machine(frozen.device.type))


def has_collapsed(model: Encoder, info: EncoderInfo, reading: str | None = None) -> bool | None:
    """Whether validation found fewer than a tenth of a reading's units active; where it does not tell of that one, of any reading's.

    None where nothing was validated, or the model's latents have no KL.
    """
    active = {name.removeprefix("active_units_"): count for name, count in info.validation.items() if name.startswith("active_units_")}
    if not active:
        return None
    name = reading or next(iter(info.latents))
    active = {name: active[name]} if name in active else active
    units = unit_counts(model)
    return any(count < COLLAPSED_SHARE * units[name] for name, count in active.items() if name in units)


@torch.inference_mode()
def unit_counts(model: Encoder) -> dict[str, int]:
    """Return how many latent units each reading has; {} for a model that does not generate frames."""
    if not isinstance(model, Generates):
        return {}
    height, width, channels = model.frame_shape
    length = max(1, model.clip_length)
    actions = torch.zeros(1, length, model.action_size) if model.action_size else None
    return {name: kl.numel() for name, kl in model.kl_per_unit(torch.zeros(1, length, channels, height, width), actions).items()}


def available(device: str, place: AnyPlace) -> bool:
    """Whether an encoder at a place can be timed as a run used it: on a device of this machine, or in a service."""
    remote = all(isinstance(view.place, Address) for view in views_of(place))
    return (device == "service") == remote and (not device.startswith("cuda") or torch.cuda.is_available())


def _score_name(name: str) -> str:
    *words, score = name.removeprefix("heads_").split("_")
    return " ".join([*words, _SCORES_IN_WORDS[f"_{score}"]])


def validation_line(facts: EncoderFacts) -> str:
    """Return the validation metrics worth a cell of a table."""
    found = facts.validation or {}
    parts = []
    if "bits_per_dim" in found and math.isfinite(found["bits_per_dim"]):
        parts.append(f"{found['bits_per_dim']:.2f} bits/dim")
    if "kl" in found:
        parts.append(f"KL {found['kl']:.1f} nats")
    parts += [f"{_score_name(name)} {score:.2f}" for name, score in found.items() if name.endswith(_SCORES)]
    if not parts and "objective" in found:
        parts.append(f"objective {found['objective']:.3g}")
    own = f"active_units_{facts.reading}"
    active = [f"{count:.0f}" for name, count in found.items() if name == own or (own not in found and name.startswith("active_units_"))]
    if active:
        parts.append(f"{' + '.join(active)} units active")
    return ", ".join(parts)
