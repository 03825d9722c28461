"""Values that a model, or its head, gives to frames, and the label that they were trained on.

Shapes: M frames, B clips, T frames of a clip.
"""

from typing import Any

import numpy as np
import torch

from encoders.encoder import Encoder, GivesValue
from encoders.heads.attached import wanted_labels
from encoders.parts import parts_of
from evaluation.evaluation import Evaluation
from evaluation.sampled import Sampled
from foundation.errors import UserError
from frames import FrameStore
from frames.labels import Labels

LABEL = "reward_to_come"


@torch.no_grad()
def values_of(giver: GivesValue, frames: Sampled, out: Evaluation) -> np.ndarray:
    """Return the value of every frame, float64 (M,) in [0, 1]."""
    parts = []
    with out.progress("valuing", len(frames.indices), "frames") as advance:
        for batch in frames.batches(out.device):
            parts.append(giver.value(batch.frames, batch.actions).flatten().cpu())
            advance(len(parts[-1]))
    return torch.cat(parts).double().numpy()


def says_value(model: Encoder, store: FrameStore) -> bool:
    """Whether a store's rewards tell frames apart, by the label that the value was trained on."""
    try:
        Labels(store, {LABEL: label_options(model), "rewarded_within": {}})
    except UserError:
        return False
    return True


def label_options(model: Encoder) -> dict[str, Any]:
    """Return the options of the reward to come that the value was trained on, the model's or those of what it stands on."""
    found = [labels[LABEL] for one in (model, *parts_of(model)) if LABEL in (labels := wanted_labels(one))]
    return dict(found[0]) if found else {}


def trained_label(model: Encoder, giver: GivesValue, store: FrameStore, indices: np.ndarray) -> tuple[np.ndarray, str]:
    """Return what the value of frames (M,) should have been, NaN where it is not known, and in words what it is."""
    to_come = Labels(store, {LABEL: label_options(model)}).at(indices)[LABEL][:, 0].astype(np.float64)
    above = getattr(giver, "above", None)
    if above is None:
        return to_come, "the reward to come"
    return np.where(np.isnan(to_come), np.nan, to_come > above), f"whether the reward to come is above {above:g}"
