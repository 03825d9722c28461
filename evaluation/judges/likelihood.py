"""A tighter bound on the likelihood than the ELBO, of several draws a frame (Burda et al. 2016, arXiv 1509.00519)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import encoders
from evaluation.judge import Judge, Numbers, at_least, untrained_decoder

if TYPE_CHECKING:
    from evaluation.evaluation import Evaluation
    from frames import FrameStore


@dataclass(frozen=True)
class LikelihoodOptions:
    importance_samples: int = 10
    """Samples per frame."""
    importance_frames: int = 64
    """Frames, spread over the split; each costs as many passes as there are draws."""

    def __post_init__(self) -> None:
        at_least("likelihood", self, importance_samples=1, importance_frames=1)


class Likelihood(Judge):
    """The importance-weighted bound in bits per dimension, beside the ELBO of the same draws."""

    name = "likelihood"
    Options = LikelihoodOptions

    def applies(self, model: encoders.Encoder, store: FrameStore) -> str | None:
        return untrained_decoder(model) if isinstance(model, encoders.BoundsLikelihood) else "it gives no bound tighter than its ELBO"

    def judge(self, artifact: encoders.EncoderArtifact, store: FrameStore, options: LikelihoodOptions, out: Evaluation) -> Numbers:
        from evaluation.importance import bound_likelihood

        assert isinstance(artifact.model, encoders.BoundsLikelihood)
        chosen = out.spread(options.importance_frames)
        with out.progress("bounding the likelihood", len(chosen), "frames") as advance:
            numbers = bound_likelihood(artifact.model, chosen, options.importance_samples, out.device, advance)
        bounds = {
            "the model, by its ELBO": numbers["elbo_bits_per_dim"],
            f"the model, {options.importance_samples} importance-weighted samples": numbers["importance_weighted_bits_per_dim"],
        }
        title = f"Bits a pixel and channel, of {len(chosen):,} held-out frames, spread; both by the same draws"
        out.table(title, ("", "bits"), [(name, f"{bits:.3f}") for name, bits in bounds.items()])
        return numbers
