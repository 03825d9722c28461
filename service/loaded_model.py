"""Weights of an encoder, ready to encode: what can be asked of them, and the answers for one batch."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from encoders import Decodes, EncoderArtifact, Generates, GivesMasks, HasSlots
from encoders.encoder import Encoder, State, to_float
from encoders.registry import make_architecture
from foundation.errors import nearest
from foundation.places import SCALES, Scale
from foundation.presets import to_dict
from service.errors import bad_request
from service.states import SentStates
from service.tensors import datatype_of
from wrappers import FrozenEncoder

PLATFORM = "minerl_perception_encoder"
LATENTS, STATE, MASK, RECONSTRUCTION = "latents", "state", "mask", "reconstruction"
READING = "reading."
"""Before the name of a reading: needed where another output has its name, allowed always."""
SCALED = "@"
"""Between that and a scale, for latents that are not scaled as the encoder says."""


@dataclass(frozen=True)
class Output:
    """Something that can be asked for: its name, its datatype, and the shape of one row."""

    name: str
    datatype: str
    shape: tuple[int, ...]


class LoadedModel:
    """An encoder's weights with one `FrozenEncoder` a reading, all of the same module.

    `latents` is the default reading; every other has its own name, with "reading." before it where another output is called so, and a
    scale behind it where it is to be scaled otherwise ("reading.mean@global"). Frames of any size are resized as the artifact says.
    """

    def __init__(self, name: str, artifact: EncoderArtifact, device: str) -> None:
        self.name, self.info = name, artifact.info
        self.frozen = FrozenEncoder(artifact, device, resize=True)
        self.model: Encoder = self.frozen.model
        self.states = SentStates(self.frozen.initial_state(1), self.info.weights_sha256)
        self._scales = {one: _scales(artifact, one) for one in self.model.latents}
        self._readings = {READING + one: _WholeBatches(artifact, device, one, resize=True) for one in self.model.latents}
        for one, scales in self._scales.items():
            self._readings |= {name: _WholeBatches(artifact, device, one, resize=True, scale=scale) for scale, name in scales.items()}
        self._decoded = _decoded_reading(self.model, artifact)
        self.outputs = self._described_outputs()
        self._spellings = self._all_spellings()

    def resolve(self, names: Sequence[str] | None, with_state: bool) -> dict[str, str]:
        """Return what a client's output names stand for, in its order; None: the latents, and the state where that is its own to keep."""
        if names is None:
            names = [LATENTS, STATE] if with_state and self.states.size else [LATENTS]
        for name in names:
            if name not in self._spellings:
                raise bad_request(f"model '{self.name}' has no output '{name}': {nearest(name, self.outputs)}")
        return {name: self._spellings[name] for name in names}

    def meant(self, kind: str) -> Output:
        """Return what a value of `resolve` is."""
        reading = self._readings.get(kind)
        return self.outputs[kind] if reading is None else Output(kind, "FP32", reading.latent_shape)

    def encode(self, frames: np.ndarray, state: np.ndarray, action: np.ndarray | None, wanted: Sequence[str]) -> dict[str, np.ndarray]:
        """Encode frames uint8 (B, H, W, C) of the model's size from states (B, S): what is wanted, and the next states as "state" (B, S).

        `wanted` are values of `resolve`.
        """
        before = self.states.unpack(state)
        found: dict[str, np.ndarray] = {}
        following: State | None = None
        for name in wanted:
            if name in self._readings:
                found[name], following = self._readings[name].encode(frames, before, action)
        if following is None and before:
            _, following = self.frozen.encode(frames, before, action)
        found[STATE] = self.states.pack(following) if following else state
        if MASK in wanted:
            found[MASK] = self._masks(frames)
        if RECONSTRUCTION in wanted:
            found[RECONSTRUCTION] = self._reconstruction(frames, before, action)
        return found

    def metadata(self, name: str, version: str, batching: str) -> dict[str, Any]:
        """Return what the protocol tells of a model; its `properties` are texts, JSON where they have parts."""
        inputs = [("frames", "UINT8", self.frozen.frame_shape), ("reset", "BOOL", ())]
        if self.frozen.action_size:
            inputs.append(("action", "FP32", (self.frozen.action_size,)))
        if self.states.size:
            inputs.append((STATE, "UINT8", (self.states.size,)))
        return {
            "name": name,
            "versions": [version],
            "platform": PLATFORM,
            "inputs": [_tensor(*one) for one in inputs],
            "outputs": [_tensor(one.name, one.datatype, one.shape) for one in self.outputs.values()],
            "properties": self._properties(batching),
        }

    def _properties(self, batching: str) -> dict[str, str]:
        described = to_dict(self.info)
        # where the store lay on somebody's machine is nobody's business
        described["store"]["path"] = ""
        names = {kind: name for name, kind in self._spellings.items()}
        readings = {
            one: {"shape": list(shape), "set": one in self.model.set_readings, "output": names[READING + one], "scales": self._scales[one]}
            for one, shape in self.model.latents.items()
        }
        return {
            "encoder": self.info.name,
            "weights_sha256": self.info.weights_sha256,
            "frames_per_second": str(self.info.frames_per_second),
            "resize": self.info.resize,
            "readings": json.dumps(readings),
            "default_reading": self.frozen.reading,
            "memory": json.dumps(self.frozen.has_memory),
            "state_size": str(self.states.size),
            "action_size": str(self.frozen.action_size),
            "actions": json.dumps(described["store"]["actions"]),
            "parameters": str(self.frozen.parameter_count),
            "masks": json.dumps(MASK in self.outputs),
            "slots": json.dumps(isinstance(self.model, HasSlots)),
            "reconstruction": json.dumps(RECONSTRUCTION in self.outputs),
            "batching": batching,
            "info": json.dumps(described),
        }

    def _described_outputs(self) -> dict[str, Output]:
        height, width, channels = self.frozen.frame_shape
        found = [Output(LATENTS, "FP32", self.frozen.latent_shape)]
        if self.states.size:
            found.append(Output(STATE, "UINT8", (self.states.size,)))
        if isinstance(self.model, GivesMasks):
            found.append(Output(MASK, "FP32", (height, width)))
        elif isinstance(self.model, HasSlots):
            # how many slots there are, only what it finds says
            found.append(Output(MASK, "FP32", self._masks(np.zeros((1, height, width, channels), np.uint8)).shape[1:]))
        if isinstance(self.model, Generates) and (self._decoded or not self.frozen.has_memory):
            found.append(Output(RECONSTRUCTION, "UINT8", (height, width, channels)))
        taken = {output.name for output in found}
        for reading, shape in self.model.latents.items():
            if reading != self.frozen.reading:
                found.append(Output(READING + reading if reading in taken else reading, "FP32", shape))
        return {output.name: output for output in found}

    def _all_spellings(self) -> dict[str, str]:
        """Return every name of an output with what it stands for; the last of several is the one that is told."""
        own = {name: name for name in (STATE, MASK, RECONSTRUCTION) if name in self.outputs}
        long = {name: name for name in self._readings}
        short = {reading: READING + reading for reading in self.model.latents if reading not in own and reading != LATENTS}
        return {**long, **short, LATENTS: READING + self.frozen.reading, **own}

    @torch.inference_mode()
    def _masks(self, frames: np.ndarray) -> np.ndarray:
        if isinstance(self.model, GivesMasks):
            return self.frozen.masks(frames)
        assert isinstance(self.model, HasSlots)
        return self.model.slots(self._pictures(frames)).masks[-1].float().cpu().numpy()

    @torch.inference_mode()
    def _reconstruction(self, frames: np.ndarray, state: State, action: np.ndarray | None) -> np.ndarray:
        pictures = self._pictures(frames)
        told = None if action is None else torch.as_tensor(action, dtype=torch.float32, device=self.frozen.device)
        if self._decoded:
            assert isinstance(self.model, Decodes)
            made = self.model.decode(self.model.encode(pictures, state, told, self._decoded)[0])
        else:
            assert isinstance(self.model, Generates)
            made = self.model.reconstruct(pictures[:, None], None if told is None else told[:, None])[:, 0]
        return made.clamp(0, 1).mul(255).round().to(torch.uint8).movedim(1, -1).contiguous().cpu().numpy()

    def _pictures(self, frames: np.ndarray) -> Tensor:
        rows = torch.from_numpy(np.ascontiguousarray(frames)).to(self.frozen.device)
        return to_float(rows).contiguous(memory_format=torch.channels_last)


class _WholeBatches(FrozenEncoder):
    """Encodes all rows of a call together: how they are split was decided before."""

    def batch_rows(self, rows: int) -> int:
        return max(rows, 1)


def described(outputs: dict[str, np.ndarray]) -> list[tuple[str, str, list[int]]]:
    """Return name, datatype and shape of every output of an answer."""
    return [(name, datatype_of(array), list(array.shape)) for name, array in outputs.items()]


def _decoded_reading(model: Encoder, artifact: EncoderArtifact) -> str | None:
    """Return the reading that a model with memory decodes frames from: its own first, whatever the artifact prefers; None for others."""
    if not model.initial_state(1) or not isinstance(model, Decodes):
        return None
    return next(iter(make_architecture(artifact.info.name, artifact.info.hyperparameters).latents))


def _scales(artifact: EncoderArtifact, reading: str) -> dict[Scale, str]:
    """Return the scales that a reading has statistics for, each with the name of the output that is scaled so."""
    found = artifact.statistics[reading]
    there: dict[Scale, bool] = {"unit": True, "global": found.spread is not None, "whiten": found.whitening is not None}
    return {scale: f"{READING}{reading}{SCALED}{scale}" for scale in SCALES if there[scale]}


def _tensor(name: str, datatype: str, shape: tuple[int, ...]) -> dict[str, Any]:
    return {"name": name, "datatype": datatype, "shape": [-1, *shape]}
