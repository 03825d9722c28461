"""Latents are scaled as numpy scales them by hand: each unit, all by one number, or as principal components."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from encoders import StoreReference, load_encoder, make_encoder, prepare
from encoders.artifact import INFO_FILE, WEIGHTS_FILE, reading_statistics
from encoders.encoder import to_float
from encoders.scaling import WHITENED_MOST, Moments, Scaling
from foundation.errors import UserError
from wrappers import FrozenEncoder

MIXING = np.array([[2.0, 0.0, 0.0], [1.5, 0.4, 0.0], [0.0, 0.1, 0.03]])


@pytest.fixture
def drawn() -> np.ndarray:
    """Latents (500, 3) of three units that go together, the last of which carries little, around (3, -1, 0.5)."""
    return (np.random.default_rng(0).normal(size=(500, 3)) @ MIXING.T + [3.0, -1.0, 0.5]).astype(np.float32)


def scaled(latents: np.ndarray, scale: str, is_set: bool = False) -> np.ndarray:
    """Return latents (B, *shape) scaled by the statistics of themselves, taken in over several batches."""
    moments = Moments(latents.shape[1:], is_set)
    for part in np.array_split(latents, 3):
        moments.add(torch.from_numpy(part))
    return Scaling(moments.statistics(), scale, "mean", is_set, "RUN")(torch.from_numpy(latents)).numpy()


def by_hand(rows: np.ndarray) -> np.ndarray:
    """Return rows (N, F) turned to principal components of variance 1, deviations floored at 0.05 of the largest; signs are any."""
    variances, components = np.linalg.eigh(np.cov(rows.T.astype(float), bias=True))
    deviations = np.sqrt(variances[::-1])
    return (rows - rows.mean(0)) @ components[:, ::-1] / np.maximum(deviations, 0.05 * deviations[0])


def test_a_unit_is_scaled_by_its_own_mean_and_deviation(drawn: np.ndarray) -> None:
    expected = [[(row[i] - np.mean(drawn[:, i])) / np.std(drawn[:, i]) for i in range(3)] for row in drawn]
    np.testing.assert_allclose(scaled(drawn, "unit"), expected, rtol=1e-3, atol=1e-4)


def test_globally_scaled_units_keep_their_proportions(drawn: np.ndarray) -> None:
    spread = np.sqrt(sum(np.var(drawn[:, i]) for i in range(3)) / 3)
    found = scaled(drawn, "global")
    np.testing.assert_allclose(found, [[(row[i] - np.mean(drawn[:, i])) / spread for i in range(3)] for row in drawn], rtol=1e-3, atol=1e-4)
    assert np.sqrt(np.mean(found.var(0))) == pytest.approx(1, abs=1e-3)
    assert found[:, 2].std() < 0.1 * found[:, 0].std()


def test_whitened_components_are_those_of_the_covariance_with_variance_1_down_to_a_floor(drawn: np.ndarray) -> None:
    found, expected = scaled(drawn, "whiten"), by_hand(drawn)
    np.testing.assert_allclose(np.abs(found), np.abs(expected), rtol=1e-2, atol=2e-3)
    covariance = np.cov(found.T, bias=True)
    assert covariance[0, 0] == pytest.approx(1, abs=1e-3)
    assert covariance[1, 1] == pytest.approx(1, abs=1e-3)
    assert abs(covariance - np.diag(np.diag(covariance))).max() < 1e-3
    # the last component's own deviation is under 0.05 of the first's, by which it is divided: it stays small
    deviations = np.sqrt(np.linalg.eigvalsh(np.cov(drawn.T.astype(float), bias=True)))
    assert deviations[0] < 0.05 * deviations[2]
    assert np.sqrt(covariance[2, 2]) == pytest.approx(deviations[0] / (0.05 * deviations[2]), rel=1e-2)


def test_the_same_frames_give_the_same_whitening_whatever_signs_eigenvectors_have(drawn: np.ndarray) -> None:
    moments = Moments((3,), False)
    moments.add(torch.from_numpy(drawn))
    columns = moments.statistics().whitening.T
    assert all(column[column.abs().argmax()] > 0 for column in columns)


def test_the_rows_of_a_set_are_scaled_alike(drawn: np.ndarray) -> None:
    rows = drawn[:498].reshape(83, 6, 3)
    for scale in ("unit", "global", "whiten"):
        found = scaled(rows, scale, is_set=True)
        np.testing.assert_allclose(scaled(np.ascontiguousarray(rows[:, ::-1]), scale, is_set=True)[:, ::-1], found, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(np.abs(found.reshape(-1, 3)), np.abs(by_hand(drawn[:498])), rtol=1e-2, atol=2e-3)


def test_the_channels_of_a_map_are_whitened_at_every_pixel_alike(drawn: np.ndarray) -> None:
    maps = drawn[:480].reshape(80, 2, 3, 3).transpose(0, 3, 1, 2)
    maps = np.ascontiguousarray(maps) + np.float32([[[0.0, 5.0, 1.0], [2.0, 0.0, 0.0]]])
    found = scaled(maps, "whiten")
    assert found.shape == maps.shape
    # each pixel has its mean, all share the directions
    centred = (maps - maps.mean(0)).transpose(0, 2, 3, 1).reshape(-1, 3)
    np.testing.assert_allclose(np.abs(found.transpose(0, 2, 3, 1).reshape(-1, 3)), np.abs(by_hand(centred)), rtol=1e-2, atol=2e-3)


def test_what_never_changes_is_left_at_its_size_in_every_scale() -> None:
    still = np.full((10, 2), 7.0, np.float32)
    for scale in ("unit", "global", "whiten"):
        assert (scaled(still, scale) == 0).all()


def test_a_reading_of_too_many_features_is_not_whitened() -> None:
    moments = Moments((WHITENED_MOST + 1,), False)
    moments.add(torch.rand(4, WHITENED_MOST + 1))
    found = moments.statistics()
    Scaling(found, "global", "map", False, "RUN")
    with pytest.raises(UserError, match=r"RUN: 'map' has 1,025 features, and at most 1,024 are whitened; use --scale unit or global"):
        Scaling(found, "whiten", "map", False, "RUN")


@pytest.fixture
def folder(tmp_path: Path, frames: np.ndarray, store: StoreReference, tiny: dict) -> Path:
    torch.manual_seed(0)
    prepare(make_encoder("conv_vae", **tiny), frames, tmp_path / "run", store=store)
    return tmp_path / "run"


def test_a_frozen_encoder_scales_as_asked_and_else_as_its_artifact_says(folder: Path, frames: np.ndarray) -> None:
    artifact = load_encoder(folder)
    with torch.no_grad():
        raw = artifact.model.encode(to_float(torch.from_numpy(frames)), {})[0].numpy()
    assert artifact.info.scale == "unit"
    found = {scale: FrozenEncoder(folder, scale=scale).encode(frames)[0] for scale in (None, "unit", "global", "whiten")}
    assert (found[None] == found["unit"]).all()
    np.testing.assert_allclose(found["unit"], (raw - raw.mean(0)) / raw.std(0), rtol=1e-2, atol=2e-3)
    np.testing.assert_allclose(found["global"], (raw - raw.mean(0)) / np.sqrt(raw.var(0).mean()), rtol=1e-2, atol=2e-3)
    np.testing.assert_allclose(np.abs(found["whiten"]), np.abs(by_hand(raw)), rtol=2e-2, atol=1e-2)
    info = json.loads((folder / INFO_FILE).read_text())
    (folder / INFO_FILE).write_text(json.dumps(info | {"scale": "whiten"}))
    assert (FrozenEncoder(folder).encode(frames)[0] == found["whiten"]).all()
    (folder / INFO_FILE).write_text(json.dumps(info | {"scale": "odd"}))
    with pytest.raises(UserError, match=r"encoder.json.scale' must be one of unit, global, whiten"):
        load_encoder(folder)


def change(folder: Path, change_tensors) -> None:
    """Write an artifact anew with other tensors, and the hash of those."""
    tensors = safetensors.torch.load_file(folder / WEIGHTS_FILE)
    change_tensors(tensors)
    content = safetensors.torch.save(tensors)
    (folder / WEIGHTS_FILE).write_bytes(content)
    info = json.loads((folder / INFO_FILE).read_text())
    info = {key: value for key, value in info.items() if key != "scale"} | {"weights_sha256": hashlib.sha256(content).hexdigest()}
    (folder / INFO_FILE).write_text(json.dumps(info))


def test_an_artifact_of_before_keeps_its_latents_and_says_what_other_scales_need(folder: Path, frames: np.ndarray) -> None:
    expected = FrozenEncoder(folder).encode(frames)[0]

    def without(tensors: dict) -> None:
        del tensors["statistics.mean.spread"], tensors["statistics.mean.whitening"]

    change(folder, without)
    assert (FrozenEncoder(folder).encode(frames)[0] == expected).all()
    for scale in ("global", "whiten"):
        with pytest.raises(UserError, match=rf"run: was saved before what scale '{scale}' needs was kept; delete encoder\.json in a copy"):
            FrozenEncoder(folder, scale=scale)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("spread", torch.zeros(()), "spread has values of 0 or less"),
        ("spread", torch.ones(1), r"spread is float32 of shape \(1,\), it must have \(\)"),
        ("whitening", torch.ones(4, 3), r"whitening is float32 of shape \(4, 3\), it must have \(4, 4\)"),
        ("whitening", torch.full((4, 4), torch.nan), "whitening has values that are not finite"),
    ],
)
def test_statistics_that_scale_nothing_are_refused(folder: Path, name: str, value: torch.Tensor, said: str) -> None:
    change(folder, lambda tensors: tensors.update({f"statistics.mean.{name}": value}))
    with pytest.raises(UserError, match=said):
        load_encoder(folder)


def test_statistics_do_not_depend_on_how_frames_are_read(frames: np.ndarray, tiny: dict) -> None:
    torch.manual_seed(0)
    model = make_encoder("conv_vae", **tiny).eval()
    one, other = (reading_statistics(model, part)["mean"] for part in (frames[:64], frames[:64][::-1].copy()))
    torch.testing.assert_close(one.spread, other.spread)
    torch.testing.assert_close(one.whitening, other.whitening, rtol=1e-3, atol=1e-3)


def test_the_remedy_saves_the_same_weights_with_statistics(tmp_path: Path, train_small, frames: np.ndarray) -> None:
    artifact = train_small(tmp_path, 12)
    change(tmp_path, lambda tensors: [tensors.pop(f"statistics.mean.{name}") for name in ("spread", "whitening")])
    assert load_encoder(tmp_path).statistics["mean"].spread is None
    (tmp_path / INFO_FILE).unlink()
    again = train_small(tmp_path, 12)
    assert again.info.weights_sha256 == artifact.info.weights_sha256
    assert torch.equal(again.statistics["mean"].whitening, artifact.statistics["mean"].whitening)
