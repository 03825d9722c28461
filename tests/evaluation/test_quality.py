"""PSNR and SSIM are the field's, and an encoder is judged beside the mean training frame."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from encoders import EncoderArtifact, StoreReference, load_encoder, make_encoder, prepare
from encoders.encoder import to_float
from encoders.training.pictures import reconstructions, samples, spread_clips, traversals
from encoders.training.validation import activity, collapse_verdict
from evaluation.evaluation import Evaluation
from evaluation.held_out import HeldOut, TrainingFrames, mean_frame, measure
from evaluation.judges.reconstruction import Reconstruction
from evaluation.quality import psnr, ssim
from foundation.errors import UserError

CPU = torch.device("cpu")


@pytest.fixture
def artifact(tmp_path: Path, frames: np.ndarray, store: StoreReference) -> EncoderArtifact:
    return prepare(make_encoder("pca", frame_shape=[16, 16, 3], latent_dim=6), frames[:192], tmp_path, store=store)


def batches_of(frames: np.ndarray, fake_batches: type, size: int = 10) -> list:
    batch = type(next(fake_batches(frames, 1)))
    return [batch(frames[start : start + size][:, None]) for start in range(0, len(frames), size)]


def judged(artifact: EncoderArtifact, found: HeldOut) -> dict[str, Any]:
    """Return what the judge says of a pass over held-out frames."""
    out = Evaluation(artifact, None, "val", None, Path(), CPU)  # type: ignore[arg-type]
    out.held_out = found
    return Reconstruction().judge(artifact, out.store, None, out)


def test_ssim_is_scikit_image_s() -> None:
    rng = np.random.default_rng(0)
    originals = rng.random((4, 3, 32, 40)).astype(np.float32)
    restored = np.clip(originals + rng.normal(0, 0.2, originals.shape), 0, 1).astype(np.float32)
    ours = ssim(torch.from_numpy(originals), torch.from_numpy(restored))
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 1.0, "channel_axis": 0}
    theirs = [structural_similarity(x, y, **options) for x, y in zip(originals, restored, strict=True)]
    np.testing.assert_allclose(ours.numpy(), theirs, atol=1e-5)


def test_a_frame_is_perfectly_similar_to_itself_even_when_smaller_than_the_window() -> None:
    x = torch.rand(2, 3, 8, 8)
    torch.testing.assert_close(ssim(x, x).float(), torch.ones(2))


def test_psnr_pools_the_squared_error_over_all_frames(artifact: EncoderArtifact, frames: np.ndarray, fake_batches: type) -> None:
    held_out = frames[192:]
    training = TrainingFrames(mean_frame([frames[:192]]))
    report = judged(artifact, measure(artifact, batches_of(held_out, fake_batches), training, CPU))
    x = to_float(torch.from_numpy(held_out))
    restored = artifact.model.reconstruct(x[:, None])[:, 0]
    assert report["frames"] == 64
    pooled = peak_signal_noise_ratio(x.numpy(), restored.numpy(), data_range=1)
    assert report["psnr_db"] == pytest.approx(pooled, abs=1e-3)
    assert report["ssim"] == pytest.approx(float(ssim(x, restored).mean()), abs=1e-5)
    baseline = np.broadcast_to(frames[:192].mean(0).transpose(2, 0, 1) / 255, x.shape)
    expected = peak_signal_noise_ratio(x.numpy(), baseline.astype(np.float32), data_range=1)
    assert report["mean_training_frame"]["psnr_db"] == pytest.approx(expected, abs=1e-3)
    assert report["gain_db"] == pytest.approx(report["psnr_db"] - expected, abs=1e-3)
    assert f"{report['gain_db']:.1f} dB above the mean training frame's" in report["verdict"]


def test_an_encoder_that_sees_nothing_is_told_so(
    frames: np.ndarray, fake_batches: type, tmp_path: Path, tiny: dict, store: StoreReference
) -> None:
    model = make_encoder("conv_vae", **tiny)
    with torch.no_grad():
        model.to_posterior.weight.zero_()
    artifact = prepare(model, frames, tmp_path, store=store)
    report = judged(artifact, measure(artifact, batches_of(frames, fake_batches), TrainingFrames(mean_frame([frames])), CPU))
    assert report["collapsed"]
    assert "COLLAPSED: only 0 of 4 units" in report["verdict"]
    assert "no better than the mean training frame" in report["verdict"]


def test_nothing_to_judge_on_is_an_error_in_words(artifact: EncoderArtifact, frames: np.ndarray) -> None:
    with pytest.raises(UserError, match="no frames"):
        measure(artifact, [], TrainingFrames(mean_frame([frames])), CPU)
    with pytest.raises(UserError, match="no training frames"):
        mean_frame([])


def test_the_verdict_counts_units_above_a_hundredth_of_a_nat(tiny: dict) -> None:
    model = make_encoder("conv_vae", **tiny)
    for kl, said in (
        (np.array([1.0, 0.011, 0.009, 0.0]), "Not collapsed: 2 of 4 units of 'mean' are active (mean KL above 0.01 nats)"),
        (np.array([1.0, 0.0, 0.009, 0.0]), "Partly collapsed: 1 of 4"),
        (np.zeros(20), "COLLAPSED: only 0 of 20"),
    ):
        assert collapse_verdict(model, activity(model, {"mean": kl})).startswith(said)


def test_pictures_show_originals_over_reconstructions_samples_and_traversals(
    artifact: EncoderArtifact, frames: np.ndarray, fake_batches: type
) -> None:
    clips = spread_clips(batches_of(frames, fake_batches))
    pairs = reconstructions(artifact.model, clips, CPU)
    assert (pairs[20:52, 2:34] == clips.frames[0, 0].repeat(2, 0).repeat(2, 1)).all()
    assert samples(artifact.model).shape[1] == pairs.shape[1]
    picture = traversals(artifact.model, clips.frames[0, 0], artifact.statistics, CPU)
    assert picture is not None
    assert picture.shape[1] == pairs.shape[1]


@pytest.mark.parametrize("preferred", [None, "points"])
def test_units_are_changed_of_the_reading_that_is_decoded(
    frames: np.ndarray, store: StoreReference, tmp_path: Path, preferred: str | None
) -> None:
    torch.manual_seed(0)
    model = make_encoder("conv_vae", frame_shape=[16, 16, 3], encoder="8k4s2 16k4s2", decoder="16 8k4s2 k4s2", latent_dim=4, points=2)
    if preferred is not None:
        model.prefer(preferred)
    prepare(model, frames[:32], tmp_path, store=store)
    made = load_encoder(tmp_path)
    picture = traversals(made.model, frames[0], made.statistics, CPU)
    assert picture is not None
    again = make_encoder("conv_vae", frame_shape=[16, 16, 3], encoder="8k4s2 16k4s2", decoder="16 8k4s2 k4s2", latent_dim=4, points=2)
    again.load_state_dict(made.model.state_dict())
    expected = traversals(again.eval(), frames[0], made.statistics, CPU)
    assert expected is not None
    assert (picture == expected).all()


def test_a_perfect_prediction_has_a_finite_psnr() -> None:
    assert psnr(0.0) == 120
    assert psnr(0.01) == pytest.approx(20)
