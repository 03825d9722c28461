"""What a person looks at: frames over their reconstructions, samples from the prior, traversals of the latents."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import encoders
from evaluation.judge import Judge, Numbers

if TYPE_CHECKING:
    from evaluation.evaluation import Evaluation
    from frames import FrameStore

_FRAMES = 120


class Pictures(Judge):
    """Pictures only, the same that training writes."""

    name = "pictures"

    def applies(self, model: encoders.Encoder, store: FrameStore) -> str | None:
        return None if isinstance(model, encoders.Generates) else "it does not generate frames"

    def judge(self, artifact: encoders.EncoderArtifact, store: FrameStore, options: Any, out: Evaluation) -> Numbers:
        from encoders.training.pictures import spread_clips, write_pictures

        clips = spread_clips(out.batches(_FRAMES))
        out.wrote(*write_pictures(out.pictures, artifact.model, clips, artifact.statistics, out.device))
        return {}
