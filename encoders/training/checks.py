"""What can be told of a training before anything is written."""

import itertools
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from encoders.artifact import INFO_FILE
from encoders.encoder import Encoder
from encoders.heads.attached import heads_of, own_is_trained, training_terms
from encoders.registry import registered_name
from encoders.training.devices import Placement, check_threads
from encoders.training.pictures import spread_clips
from encoders.training.run_record import CONFIG_FILE
from encoders.training.validation import to_batch
from foundation.errors import UserError


def check_request(model: Encoder, folder: Path, steps: int, placement: Placement) -> None:
    """Raise `UserError` for a model that is not trained, options that are none, and a folder that training would spoil."""
    name = registered_name(model)
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise UserError(f"a '{name}' is computed, not trained: use encoders.prepare")
    if not (own_is_trained(model) or heads_of(model)):
        raise UserError(f"a '{name}' learns from heads alone: give one a weight, such as --heads.actions.weight 1 --heads.value.weight 1")
    if steps < 1:
        raise UserError(f"--steps {steps}: must be 1 or more")
    check_threads(placement.threads)
    if (folder / INFO_FILE).exists() and not (folder / CONFIG_FILE).exists():
        raise UserError(f"{folder}: holds an encoder from elsewhere, which training would overwrite; choose another folder")
    if placement.compiled and type(model).compile_scan is Encoder.compile_scan:
        raise UserError(f"--compile: a '{name}' has no recurrence to compile; leave it out")


@torch.no_grad()
def check_batch(model: Encoder, validation: Callable[[], Iterable[Any]], clips: int) -> None:
    """Raise `UserError` where the model refuses to be trained on `clips` clips at once, of which two tell as much as more."""
    clip = spread_clips(itertools.islice(validation(), 1), count=1)
    batch = to_batch(clip[np.zeros(min(clips, 2), int)], next(model.parameters()).device)
    before = [buffer.clone() for buffer in model.buffers()]
    try:
        training_terms(model.train(), batch, 0)
    except ValueError as error:
        raise UserError(f"the model cannot be trained on these frames: {error}") from error
    finally:
        for buffer, value in zip(model.buffers(), before, strict=True):
            buffer.copy_(value)
