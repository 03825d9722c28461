"""What an encoder has to beat has learned nothing: its own architecture with new weights; and has seen what it has: training frames."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from encoders import EncoderArtifact, StoreReference, make_encoder, prepare
from evaluation.rivals import components_of, untrained_twin


@pytest.fixture
def trained(tiny: dict[str, Any], frames: np.ndarray, store: StoreReference, tmp_path: Path) -> EncoderArtifact:
    """An encoder all of whose weights have moved."""
    torch.manual_seed(0)
    model = make_encoder("conv_vae", **tiny, points=2)
    with torch.no_grad():
        for weight in model.parameters():
            weight += 0.1 * torch.randn_like(weight)
    model.prefer("points")
    return prepare(model, frames, tmp_path, store=store)


def test_the_untrained_twin_has_the_architecture_and_none_of_the_weights(trained: EncoderArtifact) -> None:
    before = torch.get_rng_state()
    twin, again = untrained_twin(trained), untrained_twin(trained)
    assert torch.equal(before, torch.get_rng_state())
    assert twin is not None
    assert again is not None
    weights, learned = dict(twin.named_parameters()), dict(trained.model.named_parameters())
    assert {name: weight.shape for name, weight in weights.items()} == {name: weight.shape for name, weight in learned.items()}
    assert not [name for name, weight in weights.items() if torch.equal(weight, learned[name])]
    assert all(torch.equal(weight, weights[name]) for name, weight in again.named_parameters())
    assert twin.reading(None) == trained.model.reading(None) == "points"


def test_what_is_computed_has_no_untrained_twin(frames: np.ndarray, store: StoreReference, tmp_path: Path) -> None:
    model = make_encoder("pca", frame_shape=[16, 16, 3], latent_dim=3)
    assert untrained_twin(prepare(model, frames, tmp_path, store=store)) is None


def test_components_are_of_the_training_frames(judged: Any, tmp_path: Path) -> None:
    def record(number: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """The first recording, the train split, is dark, the others are bright."""
        low, high = (150, 256) if number else (0, 101)
        return np.random.default_rng(number).integers(low, high, (40, 16, 16, 3)).astype(np.uint8), {}

    made = components_of(judged.store(tmp_path / "store", 3, record), 4)
    x = record(0)[0].transpose(0, 3, 1, 2).reshape(40, -1) / 255
    assert made.latents == {"mean": (4,)}
    np.testing.assert_allclose(made.mean.numpy(), x.mean(0), atol=1e-6)
