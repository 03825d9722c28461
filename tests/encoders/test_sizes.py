"""Content that no encoder can have is refused when it is loaded, and sizes that no machine has before memory is written to."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch

from encoders import StoreReference, load_encoder, make_encoder, prepare
from encoders.training.config import TrainingConfig
from encoders.training.devices import check_threads
from foundation.errors import UserError


@pytest.fixture
def folder(tiny: dict[str, Any], frames: np.ndarray, store: StoreReference, tmp_path: Path) -> Path:
    prepare(make_encoder("conv_vae", **tiny), frames[:32], tmp_path, store=store)
    return tmp_path


def rewrite(folder: Path, tensors: dict[str, Any] | None = None, **info: Any) -> None:
    """Change an artifact as somebody would who wants it to be loaded: the hash is right."""
    found = safetensors.torch.load((folder / "encoder.safetensors").read_bytes())
    content = safetensors.torch.save(found | (tensors or {}))
    (folder / "encoder.safetensors").write_bytes(content)
    values = json.loads((folder / "encoder.json").read_text())
    (folder / "encoder.json").write_text(json.dumps({**values, **info, "weights_sha256": hashlib.sha256(content).hexdigest()}))


@pytest.mark.parametrize(
    ("name", "tensor", "said"),
    [
        ("weights.to_posterior.bias", torch.full((8,), torch.nan), "weights.to_posterior.bias has values that are not finite"),
        ("weights.to_posterior.bias", torch.full((8,), -torch.inf), "weights.to_posterior.bias has values that are not finite"),
        ("statistics.mean.mean", torch.zeros(3), r"statistics.mean.mean is float32 of shape \(3,\), the reading has \(4,\)"),
        ("statistics.mean.mean", torch.zeros(4, dtype=torch.int64), "statistics.mean.mean is int64"),
        ("statistics.mean.mean", torch.full((4,), torch.inf), "statistics.mean.mean has values that are not finite"),
        ("statistics.mean.deviation", torch.zeros(4), "statistics.mean.deviation has values of 0 or less"),
        ("statistics.mean.deviation", -torch.ones(4), "statistics.mean.deviation has values of 0 or less"),
        ("statistics.mean.deviation", torch.full((4,), torch.nan), "statistics.mean.deviation has values that are not finite"),
    ],
)
def test_numbers_that_are_none_are_refused_on_loading(folder: Path, name: str, tensor: torch.Tensor, said: str) -> None:
    load_encoder(folder)
    rewrite(folder, {name: tensor})
    with pytest.raises(UserError, match=said):
        load_encoder(folder)


@pytest.mark.parametrize(
    ("info", "said"),
    [
        ({"frame_shape": [64, 64, 3]}, r"frame_shape is \[64, 64, 3\], its model's is \[16, 16, 3\]"),
        ({"latents": {"mean": [5]}}, r"latents.mean is \[5\], its model's is \[4\]"),
        ({"latents": {}}, "has the readings"),
        ({"store": {"path": "", "fingerprint": "", "frames_per_second": 0, "resize": "squash"}}, "must be greater than 0"),
        ({"store": {"path": "", "fingerprint": "", "frames_per_second": float("nan"), "resize": "squash"}}, "must be greater than 0"),
    ],
)
def test_a_description_that_is_not_of_its_model_is_refused(folder: Path, info: dict[str, Any], said: str) -> None:
    rewrite(folder, **info)
    with pytest.raises(UserError, match=said):
        load_encoder(folder)


@pytest.mark.parametrize(
    ("name", "hyperparameters"),
    [
        ("conv_vae", {"latent_dim": 10**9}),
        ("conv_vae", {"latent_dim": -1}),
        ("conv_vae", {"latent_dim": 10**18}),
        ("conv_vae", {"beta": float("nan")}),
        ("conv_vae", {"frame_shape": [10**6, 10**6, 3]}),
        ("points_tiny", {"frame_shape": [10**6, 10**6, 3]}),
        ("cwvae", {"levels": 10**6}),
        ("nvae_debug", {"groups": 10**6}),
    ],
)
def test_sizes_that_no_machine_has_are_refused(name: str, hyperparameters: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=r"model"):
        make_encoder(name, **hyperparameters)


def test_so_are_threads_and_batches() -> None:
    with pytest.raises(UserError, match=r"--threads 100,000: the limit is 1,024"):
        check_threads(100_000)
    with pytest.raises(UserError, match=r"batch_size 1,000,000,000: the limit is 65,536"):
        TrainingConfig(batch_size=10**9)
