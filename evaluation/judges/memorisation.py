"""Whether a model repeats its training frames: how near samples lie to the nearest of them, beside held-out frames."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import encoders
from evaluation.judge import Judge, Numbers, untrained_decoder

if TYPE_CHECKING:
    from evaluation.evaluation import Evaluation
    from frames import FrameStore

_SEARCHED = 65_536
_COMPARED = 64


class Memorisation(Judge):
    """Distances of samples, and of held-out frames, to the nearest training frames, in grey levels."""

    name = "memorisation"

    def applies(self, model: encoders.Encoder, store: FrameStore) -> str | None:
        if not isinstance(model, encoders.Generates):
            return "it draws no samples"
        return untrained_decoder(model) if model.clip_length == 1 else "its samples are clips, not frames"

    def judge(self, artifact: encoders.EncoderArtifact, store: FrameStore, options: Any, out: Evaluation) -> Numbers:
        import numpy as np
        import torch

        from encoders.artifact import drawn_rows
        from encoders.training.pictures import to_uint8
        from evaluation.neighbours import memorisation_report, nearest_frames, neighbours_picture
        from evaluation.samples import samples_of

        assert isinstance(artifact.model, encoders.Generates)
        indices = out.training.indices("train")
        searched = indices[drawn_rows(len(indices), _SEARCHED, seed=0)]
        torch.manual_seed(0)
        drawn = to_uint8(next(samples_of(artifact.model, _COMPARED)))
        both = nearest_frames(np.concatenate([drawn, out.spread(_COMPARED)]), out.chunks(out.training, searched))
        samples, others = both[:_COMPARED], both[_COMPARED:]
        numbers = memorisation_report(samples, others, len(searched))
        out.picture("nearest_frames", neighbours_picture(samples, others))
        out.verdict(numbers["verdict"])
        return numbers
