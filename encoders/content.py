"""What an artifact's content must be beyond its names and types: somebody else may have made it, or a training that diverged."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from encoders.encoder import Encoder
from encoders.scaling import Statistics, places
from foundation.errors import UserError, shown


def check_description(path: Path, model: Encoder, frame_shape: Sequence[int], latents: Mapping[str, Sequence[int]], rate: float) -> None:
    """Raise `UserError` where `encoder.json` says otherwise than the model, or a rate of frames (1/s) that is none."""
    for name, said, found in (
        ("frame_shape", list(frame_shape), list(model.frame_shape)),
        *((f"latents.{name}", list(latents[name]), list(shape)) for name, shape in model.latents.items()),
    ):
        if said != found:
            raise UserError(f"{path}: {name} is {said}, its model's is {found}; copy the encoder again")
    if not 0 < rate < math.inf:
        raise UserError(f"{path}: store.frames_per_second is {rate}, and must be greater than 0; copy the encoder again")


def refuse_not_finite(tensors: Mapping[str, Tensor], where: str, remedy: str) -> None:
    """Raise `UserError` that begins with `where` for the first tensor with NaN or an infinity in it."""
    for name, tensor in tensors.items():
        if not torch.isfinite(tensor).all():
            raise UserError(f"{where}{name} has values that are not finite numbers; {remedy}")


def refuse_other_tensors(tensors: Mapping[str, Tensor], wanted: Mapping[str, Tensor], where: str, remedy: str) -> None:
    """Raise `UserError` that begins with `where` unless the tensors have the names and shapes of those `wanted`."""
    for name in (*wanted, *tensors):
        if name not in tensors or name not in wanted or tensors[name].shape != wanted[name].shape:
            raise UserError(f"{where}{shown(name)} is missing, or is not of this run; {remedy}")


def check_tensors(path: Path, weights: Mapping[str, Tensor], statistics: Statistics, model: Encoder) -> None:
    """Raise `UserError` for the first tensor that is not finite, and for statistics that scale no latents of the model's.

    Mean and deviation of a reading have its shape, its spread is a number, its whitening a square; what divides is more than 0.
    """
    refuse_not_finite(weights, f"{path}: weights.", "train the encoder again")
    for reading, found in statistics.items():
        shape = tuple(model.latents[reading])
        features = places(torch.zeros(1, *shape), reading in model.set_readings).shape[-1]
        shapes = {"mean": shape, "deviation": shape, "spread": (), "whitening": (features, features)}
        for name, tensor in found._asdict().items():
            where = f"{path}: statistics.{reading}.{name}"
            if tensor is None:
                continue
            if tuple(tensor.shape) != shapes[name] or not tensor.is_floating_point():
                is_of = f"{str(tensor.dtype).removeprefix('torch.')} of shape {tuple(tensor.shape)}"
                whose = "the reading has" if shapes[name] == shape else "it must have"
                raise UserError(f"{where} is {is_of}, {whose} {shapes[name]}; copy the encoder again")
            if not torch.isfinite(tensor).all():
                raise UserError(f"{where} has values that are not finite numbers; train the encoder again")
            if name in ("deviation", "spread") and not (tensor > 0).all():
                raise UserError(f"{where} has values of 0 or less; train the encoder again")
