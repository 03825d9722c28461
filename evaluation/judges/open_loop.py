"""How long a model's future stays like the real one, beside futures that need no model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import encoders
from evaluation.judge import Judge, Numbers, at_least, untrained_decoder
from foundation.errors import UserError

if TYPE_CHECKING:
    from evaluation.evaluation import Evaluation
    from frames import FrameStore


@dataclass(frozen=True)
class OpenLoopOptions:
    context: int = 36
    """Frames of a clip that the model sees before it predicts."""
    predict: int = 464
    """Frames that it predicts; fewer if no recording is long enough."""
    clips: int = 100
    """Clips to judge, at most, spread over the split."""
    samples: int = 1
    """Futures drawn of each clip; with several, the best of them is reported too."""
    use_obs: str | None = None
    """Which levels see the context, the bottom one first: TTF leaves out the top of three."""
    weights: Path | None = None
    """A folder with weights for LPIPS (alexnet.pth, lpips.pth) or FVD (i3d.pth)."""

    def __post_init__(self) -> None:
        at_least("open_loop", self, context=1, predict=1, clips=1, samples=1)


class OpenLoop(Judge):
    """PSNR and SSIM by frame ahead, of moving and frozen clips of every rate; LPIPS and FVD where there are weights; strips and films."""

    name = "open_loop"
    Options = OpenLoopOptions

    def applies(self, model: encoders.Encoder, store: FrameStore) -> str | None:
        return untrained_decoder(model) if isinstance(model, encoders.Predicts) else "it does not predict frames"

    def check(self, artifact: encoders.EncoderArtifact, store: FrameStore, options: OpenLoopOptions, out: Evaluation) -> None:
        from evaluation.open_loop import Settings, check_settings
        from evaluation.open_loop_clips import plan

        check_settings(artifact.model, Settings(options.context, options.samples, options.use_obs), artifact.model.frame_shape)
        if options.weights is not None and not options.weights.is_dir():
            raise UserError(f"--open-loop.weights {options.weights}: is no folder")
        plan(out, options.context, options.predict, options.clips)

    def judge(self, artifact: encoders.EncoderArtifact, store: FrameStore, options: OpenLoopOptions, out: Evaluation) -> Numbers:
        from evaluation.open_loop import Settings, evaluate_open_loop, fit_blend, pairs
        from evaluation.open_loop_clips import plan
        from evaluation.open_loop_pictures import write_curves, write_spread
        from evaluation.perceptual import perceptual_distances

        model, settings = artifact.model, Settings(options.context, options.samples, options.use_obs)
        assert isinstance(model, encoders.Predicts)
        planned = plan(out, options.context, options.predict, options.clips)
        for note in planned.notes:
            out.say(note)
        mean = out.training_frames.mean
        # once for the scores, once for the pictures, and once more for the distances that need weights
        passes = 2 if options.weights is None else 3
        with out.progress("predicting", planned.count * passes, "clips") as advance:
            blend = fit_blend(planned.training(), settings.context, mean, planned.length - settings.context)
            numbers = evaluate_open_loop(model, planned.held_out(advance), settings, mean, blend, out.device)
            if options.weights is not None:
                compared = pairs(model, planned.held_out(advance), settings, out.device)
                numbers["perceptual"] = perceptual_distances(options.weights, compared, out.device)
            out.wrote(write_curves(out.pictures / "open_loop_curves.png", numbers))
            out.wrote(*write_spread(out.pictures, model, planned.held_out(advance), planned.count, settings, out.device))
        _show(numbers, out)
        return numbers


def _show(numbers: dict[str, Any], out: Evaluation) -> None:
    for name, group in numbers["groups"].items():
        parts = list(group["rows"]["model"]["psnr_db"])
        rows = [
            (row, *(f"{scores['psnr_db'][part]:.2f} dB" for part in parts), f"{scores['ssim']['all']:.3f}")
            for row, scores in group["rows"].items()
        ]
        title = f"Open loop after {numbers['context']} frames: {group['clips']} {name}"
        out.table(title, ("", *(f"PSNR, {part}" for part in parts), "SSIM, all"), rows)
