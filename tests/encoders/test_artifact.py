"""A saved encoder comes back as it was, and nothing that is not one is loaded."""

import hashlib
import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

import encoders.artifact
from encoders import StoreReference, load_encoder, make_encoder, prepare
from encoders.artifact import INFO_FILE, WEIGHTS_FILE, reading_statistics
from encoders.encoder import to_float
from foundation.errors import UserError


@pytest.fixture
def folder(tmp_path: Path, frames: np.ndarray, store: StoreReference, tiny: dict) -> Path:
    torch.manual_seed(0)
    prepare(make_encoder("conv_vae", **tiny), frames, tmp_path / "run", store=store)
    return tmp_path / "run"


def change_info(folder: Path, **values: object) -> None:
    info = json.loads((folder / INFO_FILE).read_text())
    (folder / INFO_FILE).write_text(json.dumps(info | values))


@pytest.mark.parametrize("name", ["conv_vae", "pca"])
def test_a_saved_encoder_encodes_as_before(tmp_path: Path, frames: np.ndarray, store: StoreReference, name: str, tiny: dict) -> None:
    torch.manual_seed(0)
    model = make_encoder(name, **(tiny if name == "conv_vae" else {"frame_shape": [16, 16, 3], "latent_dim": 4}))
    saved = prepare(model, frames, tmp_path, store=store)
    loaded = load_encoder(tmp_path)
    x = to_float(torch.from_numpy(frames[:8]))
    assert torch.equal(loaded.model.encode(x, {})[0], model.encode(x, {})[0])
    assert loaded.info == saved.info
    assert loaded.info.store == store
    assert (loaded.info.name, loaded.info.frame_shape, loaded.info.steps) == (name, (16, 16, 3), 0)
    assert not loaded.model.training
    assert not any(parameter.requires_grad for parameter in loaded.model.parameters())


def test_standardised_latents_have_mean_0_and_deviation_1(folder: Path, frames: np.ndarray) -> None:
    loaded = load_encoder(folder)
    mean, deviation = loaded.statistics["mean"][:2]
    latents = (loaded.model.encode(to_float(torch.from_numpy(frames)), {})[0] - mean) / deviation
    torch.testing.assert_close(latents.mean(0), torch.zeros(4), atol=1e-4, rtol=0)
    torch.testing.assert_close(latents.std(0, correction=0), torch.ones(4), atol=1e-3, rtol=0)


def test_a_collapsed_unit_is_not_blown_up_into_noise(frames: np.ndarray, tiny: dict) -> None:
    model = make_encoder("conv_vae", **tiny)
    with torch.no_grad():
        model.to_posterior.weight[1] *= 1e-4
    deviation = reading_statistics(model.eval(), frames)["mean"].deviation
    assert deviation[1] == pytest.approx(0.05 * float(deviation.max()))


def test_a_reading_that_never_changes_is_left_at_its_size(frames: np.ndarray, tiny: dict) -> None:
    model = make_encoder("conv_vae", **tiny)
    with torch.no_grad():
        model.to_posterior.weight.zero_()
    assert (reading_statistics(model.eval(), frames)["mean"][1] == 1).all()


def test_a_damaged_weights_file_is_refused(folder: Path) -> None:
    content = bytearray((folder / WEIGHTS_FILE).read_bytes())
    content[-1] ^= 1
    (folder / WEIGHTS_FILE).write_bytes(content)
    with pytest.raises(UserError, match=WEIGHTS_FILE):
        load_encoder(folder)


def test_halves_of_different_saves_are_refused(folder: Path, tmp_path: Path, frames: np.ndarray, store: StoreReference, tiny: dict) -> None:
    torch.manual_seed(1)
    prepare(make_encoder("conv_vae", **tiny), frames, tmp_path / "other", store=store)
    (tmp_path / "other" / WEIGHTS_FILE).replace(folder / WEIGHTS_FILE)
    with pytest.raises(UserError, match="another save"):
        load_encoder(folder)


def test_a_pickle_in_place_of_safetensors_is_refused_and_never_run(folder: Path, tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple:
            return (Path.touch, (tmp_path / "exploded",))

    content = pickle.dumps({"weights": Bomb()})
    (folder / WEIGHTS_FILE).write_bytes(content)
    change_info(folder, weights_sha256=hashlib.sha256(content).hexdigest())
    with pytest.raises(UserError, match="not a safetensors file"):
        load_encoder(folder)
    assert not (tmp_path / "exploded").exists()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"name": "unheard_of"}, "no encoder architecture named 'unheard_of'"),
        ({"name": "os:system"}, "no encoder architecture named 'os:system'"),
        ({"name": "pca", "hyperparameters": {"frame_shape": [16, 16, 3], "latent_dim": 4}}, "do not fit a 'pca'"),
        ({"hyperparameters": {"latent_dim": 5}}, r"frame_shape is \[16, 16, 3\], its model's is \[64, 64, 3\]"),
        ({"hyperparameters": {"latent": 5}}, "unknown key"),
        ({"format": 99}, "format 99"),
        ({"extra": 1}, "unknown key"),
    ],
)
def test_an_artifact_of_another_model_or_format_is_refused(folder: Path, change: dict, said: str) -> None:
    change_info(folder, **change)
    with pytest.raises(UserError, match=said):
        load_encoder(folder)


@pytest.mark.parametrize("content", ["", "{", "[]", '"encoder"'])
def test_a_damaged_description_is_refused(folder: Path, content: str) -> None:
    (folder / INFO_FILE).write_text(content)
    with pytest.raises(UserError, match=INFO_FILE):
        load_encoder(folder)


@pytest.mark.parametrize("missing", [INFO_FILE, WEIGHTS_FILE])
def test_a_folder_without_an_encoder_is_named(folder: Path, missing: str) -> None:
    (folder / missing).unlink()
    with pytest.raises(UserError, match=missing):
        load_encoder(folder)


def test_frames_of_another_size_are_refused_before_anything_is_written(tmp_path: Path, store: StoreReference, tiny: dict) -> None:
    with pytest.raises(UserError, match=r"\(16, 16, 3\)"):
        prepare(make_encoder("conv_vae", **tiny), np.zeros((4, 8, 8, 3), np.uint8), tmp_path / "run", store=store)
    assert not (tmp_path / "run").exists()


def test_too_few_frames_for_the_components_are_refused(tmp_path: Path, frames: np.ndarray, store: StoreReference) -> None:
    with pytest.raises(UserError, match="some/store: 64 components need more"):
        prepare(make_encoder("pca", frame_shape=[16, 16, 3]), frames[:10], tmp_path / "run", store=store)
    assert not (tmp_path / "run").exists()


def test_statistics_of_clips_are_those_of_the_latents_frame_by_frame_with_their_actions() -> None:
    torch.manual_seed(0)
    shapes = {"frame_shape": [16, 16, 3], "encoder_kernels": [4, 4], "decoder_kernels": [6, 6]}
    model = make_encoder("cwvae_debug", action_size=2, **shapes).eval()
    random = np.random.default_rng(0)
    # more than fit into one pass
    clips = random.integers(0, 256, (7, 250, 16, 16, 3), np.uint8)
    actions = random.normal(size=(7, 250, 2)).astype(np.float32)
    found = reading_statistics(model, clips, actions)
    x, state, latents = to_float(torch.from_numpy(clips)), model.initial_state(7), []
    with torch.no_grad():
        for index in range(250):
            latent, state = model.encode(x[:, index], state, torch.from_numpy(actions[:, index]), "levels")
            latents.append(latent)
    stacked = torch.cat(latents)
    torch.testing.assert_close(found["levels"][0], stacked.mean(0), rtol=1e-4, atol=1e-5)
    wanted = stacked.std(0, correction=0)
    torch.testing.assert_close(found["levels"][1], wanted.clamp_min(0.05 * float(wanted.max())), rtol=1e-3, atol=1e-5)
    assert found.keys() == model.latents.keys()
    assert not torch.allclose(reading_statistics(model, clips)["bottom"][0], found["bottom"][0])


def test_of_many_clips_as_many_are_used_as_have_the_sample_s_frames(
    tmp_path: Path, frames: np.ndarray, store: StoreReference, tiny: dict, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encoders.artifact, "STATISTICS_FRAMES", 32)
    torch.manual_seed(0)
    model = make_encoder("conv_vae", **tiny)
    several = prepare(model, frames.reshape(64, 4, 16, 16, 3), tmp_path, store=store, seed=3).statistics["mean"][0]
    chosen = np.sort(np.random.default_rng(3).choice(64, 8, replace=False))
    expected = reading_statistics(model, frames.reshape(64, 4, 16, 16, 3)[chosen])["mean"][0]
    assert torch.equal(several, expected)


def test_a_model_with_nothing_to_fit_is_given_no_frames_to_fit(
    tmp_path: Path, frames: np.ndarray, store: StoreReference, tiny: dict, monkeypatch: pytest.MonkeyPatch
) -> None:
    converted: list[int] = []
    monkeypatch.setattr(encoders.artifact, "to_float", lambda some: (converted.append(len(some)), to_float(some))[1])
    prepare(make_encoder("conv_vae", **tiny), frames, tmp_path / "trained", store=store)
    assert max(converted) <= 32
    prepare(make_encoder("pca", frame_shape=[16, 16, 3], latent_dim=4), frames, tmp_path / "fitted", store=store)
    assert max(converted) == len(frames)


def test_statistics_of_a_heavy_model_come_from_fewer_frames_spread_over_all(
    frames: np.ndarray, tiny: dict, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = make_encoder("conv_vae", **tiny).eval()
    monkeypatch.setattr("encoders.artifact.STATISTICS_MACS", 1.0)
    monkeypatch.setattr("encoders.artifact.STATISTICS_LEAST_FRAMES", 10)
    spread = np.linspace(0, 255, 10).round().astype(int)
    mean = reading_statistics(model, frames)["mean"].mean
    expected, _ = model.encode(to_float(torch.from_numpy(frames[spread])), {})
    torch.testing.assert_close(mean, expected.mean(0), atol=1e-5, rtol=1e-4)


def test_what_a_reading_costs_is_counted_also_of_a_model_that_encodes_with_a_copy_of_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    counts: list[int] = []
    layer = torch.nn.Conv2d(4, 6, (3, 5), groups=2)
    encoders.artifact._counting(counts)(layer, None, layer(torch.zeros(2, 4, 10, 10)))
    assert counts == [2 * 6 * 8 * 6 * (2 * 3 * 5)]
    sizes = {"encoder_channels": 4, "decoder_channels": 4, "latent_channels": 2, "scales": 1, "groups": 1, "blocks": 1}
    model = make_encoder("nvae", frame_shape=[16, 16, 3], **sizes).eval()
    monkeypatch.setattr("encoders.artifact.STATISTICS_MACS", 2 * 16 * 16 * (3 * 4 * 9))  # the first convolution of two frames
    monkeypatch.setattr("encoders.artifact.STATISTICS_LEAST_FRAMES", 1)
    for learns in (True, False):
        with torch.inference_mode():
            rows = encoders.artifact._affordable_rows(model.requires_grad_(learns), np.zeros((8, 1, 16, 16, 3), np.uint8), None)
        assert list(rows) == [0]
