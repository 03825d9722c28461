"""Latents for TensorBoard's projector, with their frames as thumbnails."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import encoders
from evaluation.judge import Judge, Numbers, option_name
from foundation.board import open_board
from foundation.errors import UserError

if TYPE_CHECKING:
    from evaluation.evaluation import Evaluation
    from frames import FrameStore

_MOST_PIXELS = 8192
"""A side of the picture that holds all thumbnails: TensorBoard takes no larger one."""


@dataclass(frozen=True)
class ProjectorOptions:
    frames: int | None = None
    """Frames to show, spread over the recordings; --projector alone shows 2,000."""

    def __post_init__(self) -> None:
        if self.frames is not None and self.frames < 2:
            raise UserError(f"{option_name('projector', 'frames')} {self.frames}: must be 2 or more")


class Projector(Judge):
    """Latents, thumbnails, recordings and rewards to come in the format of TensorBoard's projector."""

    name = "projector"
    Options = ProjectorOptions
    needs = ("frames",)

    def applies(self, model: encoders.Encoder, store: FrameStore) -> str | None:
        from evaluation.sampled import lacks_recordings

        return lacks_recordings(store)

    def check(self, artifact: encoders.EncoderArtifact, store: FrameStore, options: ProjectorOptions, out: Evaluation) -> None:
        side = max(store.frame_shape[:2])
        most = (_MOST_PIXELS // side) ** 2
        if options.frames is not None and options.frames > most:
            raise UserError(f"{option_name('projector', 'frames')} {options.frames}: TensorBoard shows {most:,} thumbnails at most")

    def judge(self, artifact: encoders.EncoderArtifact, store: FrameStore, options: ProjectorOptions, out: Evaluation) -> Numbers:
        import shutil

        import numpy as np
        import torch

        from encoders.encoder import to_float
        from evaluation.latent_space import latent_space

        assert options.frames is not None
        space = latent_space(out, options.frames)
        folder = out.pictures / "projector"
        # of an earlier call: the projector would show both
        shutil.rmtree(folder, ignore_errors=True)
        to_come = np.full(len(space.indices), np.nan) if space.to_come is None else space.to_come
        rows = [
            [store.episodes[recording].name, str(index - store.episodes[recording].first), f"{reward:.3f}"]
            for recording, index, reward in zip(space.recordings.tolist(), space.indices.tolist(), to_come.tolist(), strict=True)
        ]
        with open_board(folder) as writer:
            writer.add_embedding(
                torch.from_numpy(space.latents),
                rows,
                to_float(torch.from_numpy(space.frames)),
                tag=artifact.model.reading(None),
                metadata_header=["recording", "frame", "reward to come"],
            )
        out.wrote(*sorted(path for path in folder.rglob("*") if path.is_file()))
        out.verdict(f"To look at the latents: tensorboard --logdir {folder}, and there its projector.")
        return {}
