"""Frames drawn from a model's prior: for judges that compare them, and a picture of them at several temperatures.

Shapes: N frames, C channels, H height, W width.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from encoders.encoder import Generates, SamplesAtTemperature
from encoders.training.pictures import to_uint8
from foundation.pictures import picture_grid
from foundation.progress import Advance

CHUNK = 64
REESTIMATION_BATCHES = 20
_COLUMNS = 10
_SCALE = 2


@torch.no_grad()
def samples_of(model: Generates, count: int) -> Iterator[Tensor]:
    """Draw `count` frames (N, C, H, W) in [0, 1], the first ones of clips, a chunk at a time."""
    for start in range(0, count, CHUNK):
        yield model.sample(min(CHUNK, count - start))[:, 0]


@torch.no_grad()
def samples_anew(model: SamplesAtTemperature, count: int) -> Iterator[Tensor]:
    """Draw as `samples_of` does, with batch statistics of generated frames; the model has its own again at the end."""
    assert isinstance(model, nn.Module)
    before = model.reestimate_batch_norm(iterations=REESTIMATION_BATCHES)
    try:
        for start in range(0, count, CHUNK):
            yield model.sample(min(CHUNK, count - start))[:, 0]
    finally:
        model.load_state_dict(before, strict=False)


@torch.no_grad()
def tempered_samples(model: SamplesAtTemperature, temperatures: Sequence[float], advance: Advance, seed: int = 0) -> np.ndarray:
    """Return a picture with rows of frames drawn at each temperature, with the batch statistics of training, then re-estimated at it.

    The columns share their noise.
    """
    assert isinstance(model, nn.Module)
    rows, labels = [], []
    for temperature in temperatures:
        for anew in (False, True):
            torch.manual_seed(seed)
            before = model.reestimate_batch_norm(temperature, REESTIMATION_BATCHES) if anew else {}
            torch.manual_seed(seed)
            rows.append(to_uint8(model.sample(_COLUMNS, temperature)[:, 0]))
            labels.append(f"temperature {temperature:g}, batch statistics {'estimated anew at it' if anew else 'of training'}")
            model.load_state_dict(before, strict=False)
            advance()
    return picture_grid(rows, labels, scale=_SCALE)
