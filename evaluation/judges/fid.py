"""FID of samples, and of held-out frames, to training frames (Heusel et al. 2017, arXiv 1706.08500)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import encoders
from evaluation.judge import Judge, Numbers, at_least, untrained_decoder
from foundation.errors import UserError

if TYPE_CHECKING:
    from evaluation.evaluation import Evaluation
    from frames import FrameStore


@dataclass(frozen=True)
class FIDOptions:
    weights: Path | None = None
    """A folder with the network's weights, inception.pth; they do not come with this program."""
    images: int = 10_000
    """Images of each kind; fewer where a store has fewer frames. Only figures of the same number are comparable."""

    def __post_init__(self) -> None:
        at_least("fid", self, images=2)


class FID(Judge):
    """How far samples are from training frames in the features of a network, beside held-out frames; for users who have its weights."""

    name = "fid"
    Options = FIDOptions
    needs = ("weights",)

    def applies(self, model: encoders.Encoder, store: FrameStore) -> str | None:
        if not isinstance(model, encoders.Generates):
            return "it draws no samples"
        return untrained_decoder(model) if model.clip_length == 1 else "its samples are clips, not frames"

    def check(self, artifact: encoders.EncoderArtifact, store: FrameStore, options: FIDOptions, out: Evaluation) -> None:
        from evaluation.perceptual import has_weights

        assert options.weights is not None
        if not has_weights(options.weights, "inception"):
            raise UserError(f"--fid.weights {options.weights}: holds no inception.pth or inception.safetensors, see docs/encoders.md")

    def judge(self, artifact: encoders.EncoderArtifact, store: FrameStore, options: FIDOptions, out: Evaluation) -> Numbers:
        import torch

        from encoders.encoder import SamplesAtTemperature
        from evaluation.inception import frechet_inception_distances, warn_of_few
        from evaluation.samples import samples_anew, samples_of

        model = artifact.model
        assert isinstance(model, encoders.Generates)
        assert options.weights is not None
        images = min(options.images, len(out.training.indices("train")), len(store.indices(out.split)))
        warn_of_few(images)
        torch.manual_seed(0)
        sets: dict[str, Iterable[torch.Tensor]] = {"samples": samples_of(model, images)}
        sets[f"held-out frames ({out.split})"] = out.float_chunks(store, out.split, images)
        if isinstance(model, SamplesAtTemperature):
            sets["samples, batch statistics estimated anew"] = samples_anew(model, images)
        with out.progress("computing FID", (len(sets) + 1) * images, "images") as advance:
            reference = out.float_chunks(out.training, "train", images)
            distances = frechet_inception_distances(options.weights, reference, sets, out.device, advance)
        rows = [(name, f"{distance:.2f}") for name, distance in distances.items()]
        out.table(f"FID to {images:,} training frames, as many of each", ("", "FID"), rows)
        return {"images": images, "distances": distances}
