"""What an encoder is validated on it has never seen: weights, components and statistics are of the training recordings alone."""

from collections.abc import Callable, Iterable
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from encoders import Encoder, TrainingData, load_encoder
from encoders.encoder import to_float
from frames import FrameStore
from frames.curation.splits import assign_splits
from frames.storage.writer import store_writer

Command = Callable[..., int]
SPLITS = {"dark": "train", "bright": "val", "darker": "train", "never": "test"}
GREYS = {"dark": range(50, 101), "bright": range(150, 190), "darker": range(50), "never": range(210, 240)}
"""Every frame has a grey of its own in its first row, and noise of its recording's greys below it."""
TRAINED, HELD_OUT = list(range(101)), list(range(150, 190))
BATCH = 8
FRAMES: dict[str, Any] = {
    "encoder": "conv_vae",
    "model": {"frame_shape": [16, 16, 3], "latent_dim": 4, "encoder": "4k4s4", "decoder": "4 k4s4", "linear_stem": False},
}
CLIPS: dict[str, Any] = {
    "encoder": "cwvae",
    "model": {
        "frame_shape": [16, 16, 3],
        "encoder_kernels": [4, 4],
        "decoder_kernels": [6, 6],
        "clip_length": 4,
        "levels": 2,
        "factor": 2,
        "stochastic": 2,
        "deterministic": 4,
        "hidden": 4,
        "filters": 2,
        "dense_layers": 1,
        "dense_units": 4,
    },
}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("greys") / "store"
    with store_writer(path, {"source": "a test"}, (16, 16, 3)) as writer:
        for name, greys in GREYS.items():
            pictures = np.random.default_rng(len(greys)).integers(greys[0], greys[-1] + 1, (len(greys), 16, 16, 3)).astype(np.uint8)
            pictures[:, 0] = np.array(greys)[:, None, None]
            writer.add(name, pictures, source=name, frames_per_second=20.0, arrays=dict)
        writer.finish(lambda names: assign_splits(names, given=SPLITS), {"resize": "squash", "left_out": []})
    return path


@pytest.fixture
def make(command: Command, store: Path, tmp_path: Path) -> Callable[..., Path]:
    """Return a function that has the command make an encoder in a new folder, and gives that folder."""

    def run(preset: dict[str, Any], *options: object) -> Path:
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        training = {"batch_size": BATCH, "validation_frames": 1000, "log_every": 1}
        path = tmp_path / f"{folder.name}.yaml"
        path.write_text(yaml.safe_dump({"steps": 1, "training": training} | preset))
        words = ["train_encoder.py", path, "--store", store, "--run", folder, "--threads", 1, "--device", "cpu", *options]
        assert command(*words) == 0
        return folder

    return run


@pytest.fixture
def given(make: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[Encoder, dict[str, np.ndarray]]]:
    """Return a function that gives the model to be trained, and the frames (N, H, W, C) that it would be given, by what for."""
    kept: list[tuple[Encoder, dict[str, np.ndarray]]] = []

    def look(model: Encoder, data: TrainingData, *_: object, **__: object) -> None:
        learned = whole(islice(data.batches, 2 * len(TRAINED) // BATCH))
        kept.append((model, {"batches": learned, "validation": whole(data.validation()), "statistics": whole([data.sample()])}))

    monkeypatch.setattr("pretraining.training.train", look)

    def run(*arguments: Any) -> tuple[Encoder, dict[str, np.ndarray]]:
        make(*arguments)
        return kept.pop()

    return run


def whole(batches: Iterable[Any]) -> np.ndarray:
    """Return frames of batches (B, T, H, W, C), one after the other: (N, H, W, C)."""
    return np.concatenate([np.array(batch.frames).reshape(-1, 16, 16, 3) for batch in batches])


def greys(frames: np.ndarray) -> list[int]:
    return frames[:, 0, 0, 0].tolist()


@pytest.mark.parametrize("place", ["file", "device"])
def test_an_encoder_learns_from_all_training_frames_and_is_validated_on_all_that_are_held_out(given: Any, place: str) -> None:
    _, frames = given(FRAMES, "--frames-in", place)
    assert sorted(set(greys(frames["batches"]))) == TRAINED
    assert greys(frames["validation"]) == HELD_OUT
    assert sorted(greys(frames["statistics"])) == TRAINED


def test_a_model_with_memory_is_given_no_clip_of_held_out_recordings_to_learn_from(given: Any) -> None:
    _, frames = given(CLIPS)
    assert sorted(set(greys(frames["batches"]))) == TRAINED
    assert greys(frames["validation"]) == HELD_OUT
    assert len(frames["statistics"]) > len(TRAINED) / 2
    assert set(greys(frames["statistics"])) <= set(TRAINED)


def test_the_seed_is_that_of_the_initial_weights_too(given: Any) -> None:
    first, again, other = (dict(given(FRAMES, "--training.seed", seed)[0].named_parameters()) for seed in (0, 0, 1))
    drawn = [name for name, weight in first.items() if weight.unique().numel() > 1]
    assert {"encoder", "to_posterior", "from_latents", "decoder"} <= {name.partition(".")[0] for name in drawn}
    assert all(torch.equal(weight, again[name]) for name, weight in first.items())
    assert not any(torch.equal(first[name], other[name]) for name in drawn)


def test_components_and_their_statistics_are_those_of_the_training_frames(make: Any, store: Path) -> None:
    artifact = load_encoder(make({"encoder": "pca", "model": {"frame_shape": [16, 16, 3], "latent_dim": 2}}))
    x = pixels(store).astype(np.float64)
    np.testing.assert_allclose(artifact.model.mean.numpy(), x.mean(0), atol=1e-6)
    centred = x - x.mean(0)
    variances = np.linalg.svd(centred, compute_uv=False)[:2] ** 2 / len(x)
    noise = ((centred**2).sum() / len(x) - variances.sum()) / (x.shape[1] - 2)
    found = artifact.statistics["mean"]
    np.testing.assert_allclose(found.mean.numpy(), 0, atol=1e-5)
    # the deviation of a posterior's mean, where the model's is 1
    np.testing.assert_allclose(found.deviation.numpy(), np.sqrt(1 - noise / variances), rtol=1e-4)


def test_what_latents_are_scaled_by_is_of_the_training_frames(make: Any, store: Path) -> None:
    artifact = load_encoder(make(FRAMES))
    with torch.no_grad():
        latents = artifact.model.encode(torch.from_numpy(pixels(store)).view(-1, 3, 16, 16), {})[0].double().numpy()
    found = artifact.statistics["mean"]
    np.testing.assert_allclose(found.mean.numpy(), latents.mean(0), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(found.deviation.numpy(), np.maximum(latents.std(0), latents.std(0).max() / 20), rtol=1e-3)


def pixels(store: Path) -> np.ndarray:
    """Return all training frames as float32 (N, C*H*W) in [0, 1]: those up to a grey of 100."""
    opened = FrameStore(store)
    frames = opened.frames(np.arange(sum(map(len, GREYS.values()))))
    dark = frames[frames.max((1, 2, 3)) <= max(TRAINED)]
    assert len(dark) == len(TRAINED)
    return to_float(torch.from_numpy(dark)).flatten(1).numpy()
