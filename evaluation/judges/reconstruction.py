"""How good reconstructions are beside the mean training frame, how much the latents carry, and whether they have collapsed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import encoders
from evaluation.judge import Judge, Numbers, untrained_decoder

if TYPE_CHECKING:
    from evaluation.evaluation import Evaluation
    from evaluation.held_out import HeldOut
    from frames import FrameStore


class Reconstruction(Judge):
    """PSNR, SSIM, the loss's terms, KL in nats and active units; bits per dimension where the likelihood is one of discrete values."""

    name = "reconstruction"

    def applies(self, model: encoders.Encoder, store: FrameStore) -> str | None:
        return untrained_decoder(model) if isinstance(model, encoders.Generates) else "it does not reconstruct frames"

    def judge(self, artifact: encoders.EncoderArtifact, store: FrameStore, options: Any, out: Evaluation) -> Numbers:
        from encoders.training.validation import collapse_verdict, is_collapsed

        found, model = out.held_out, artifact.model
        terms, activity = found.validation.terms, found.validation.activity
        verdict = f"{collapse_verdict(model, activity)}\n{_judged(model, found)}"
        _show(found, out)
        out.verdict(verdict)
        return {
            "frames": found.frames,
            **found.reconstruction,
            "mean_training_frame": found.mean_training_frame,
            "gain_db": found.gain_db,
            **_bits(found),
            "terms": terms,
            "kl_nats": {name: one.kl for name, one in activity.items()},
            "active_units": {name: one.active for name, one in activity.items()},
            "units": {name: one.units for name, one in activity.items()},
            "kl_per_unit": found.kl_per_unit,
            "collapsed": is_collapsed(model, activity),
            "verdict": verdict,
        }


def _bits(found: HeldOut) -> dict[str, dict[str, float]]:
    if found.histogram_bits_per_dim is None:
        return {}
    coded = {"elbo": found.validation.terms["bits_per_dim"], "histogram_of_training_frames": found.histogram_bits_per_dim}
    return {"bits_per_dim": coded}


def _judged(model: encoders.Encoder, found: HeldOut) -> str:
    quality, gain = found.reconstruction, found.gain_db
    if gain < 1:
        return f"It reconstructs no better than the mean training frame, or hardly so ({gain:+.1f} dB): {model.collapse_remedy}."
    measured = f"{quality['psnr_db']:.2f} dB, {gain:.1f} dB above the mean training frame's, and SSIM {quality['ssim']:.3f}"
    return f"Its reconstructions have {measured}."


def _show(found: HeldOut, out: Evaluation) -> None:
    rows = {"reconstruction": found.reconstruction, "mean training frame": found.mean_training_frame}
    quality = [(name, f"{row['psnr_db']:.2f} dB", f"{row['ssim']:.3f}") for name, row in rows.items()]
    out.table(f"{found.frames:,} frames of split '{out.split}'", ("", "PSNR (pooled)", "SSIM"), quality)
    for coded in _bits(found).values():
        bits = [("the model, by its ELBO", f"{coded['elbo']:.3f}")]
        bits.append(("histogram of the training frames, a channel", f"{coded['histogram_of_training_frames']:.3f}"))
        out.table(f"Bits a pixel and channel, of {found.frames:,} held-out frames", ("", "bits"), bits)
