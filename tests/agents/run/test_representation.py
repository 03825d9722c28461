"""Controls are ordinary encoders that mirror the one they stand beside."""

from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch

from agents.jobs import Stopped
from agents.run.training import train_agent
from encoders import StoreReference, load_encoder, make_encoder, prepare
from foundation.errors import UserError
from pretraining.controls import control_artifact


class Store:
    """Stands in for a frame store: random pictures."""

    fingerprint, identity, frames_per_second, frame_shape, action_size = "f", "i", 20.0, (64, 64, 3), 0
    meta: ClassVar = {"resize": "squash"}
    episodes: ClassVar = []

    def __init__(self, path: Path) -> None:
        self.path = path

    def indices(self, split: str) -> np.ndarray:
        assert split == "train"
        return np.arange(150)

    def frames(self, indices: np.ndarray) -> np.ndarray:
        return np.random.default_rng(0).integers(0, 256, (150, 64, 64, 3), np.uint8)[indices]


@pytest.fixture
def mirrored(tmp_path, monkeypatch) -> Path:
    """Return the folder of an encoder whose store is there."""
    monkeypatch.setattr("frames.FrameStore", Store)
    (tmp_path / "store").mkdir()
    frames = Store(tmp_path).frames(np.arange(64))
    store = StoreReference(path=str(tmp_path / "store"), fingerprint="f", frames_per_second=20.0, resize="squash")
    prepare(make_encoder("debug", frame_shape=[64, 64, 3]), frames, tmp_path / "mirrored", store=store, seed=0)
    return tmp_path / "mirrored"


def weights(folder: Path) -> torch.Tensor:
    return torch.cat([tensor.flatten() for tensor in load_encoder(folder).model.state_dict().values()])


def test_untrained_has_the_architecture_and_new_weights_for_each_seed(mirrored, tmp_path) -> None:
    for name, seed in (("one", 1), ("again", 1), ("two", 2)):
        control_artifact("untrained", mirrored, tmp_path / name, seed)
    assert load_encoder(tmp_path / "one").info.hyperparameters == load_encoder(mirrored).info.hyperparameters
    assert torch.equal(weights(tmp_path / "one"), weights(tmp_path / "again"))
    assert not torch.equal(weights(tmp_path / "one"), weights(tmp_path / "two"))
    assert not torch.equal(weights(tmp_path / "one"), weights(mirrored))


def test_pca_has_as_many_components_as_the_encoder_has_latents(mirrored, tmp_path) -> None:
    made = control_artifact("pca", mirrored, tmp_path / "pca", 0)
    assert made.info.name == "pca"
    assert made.info.latents["mean"] == next(iter(load_encoder(mirrored).info.latents.values()))


def test_a_store_that_is_gone_is_asked_for(mirrored, tmp_path) -> None:
    (tmp_path / "store").rmdir()
    with pytest.raises(UserError, match="--store STORE"):
        control_artifact("pca", mirrored, tmp_path / "pca", 0)
    (tmp_path / "moved").mkdir()
    assert control_artifact("pca", mirrored, tmp_path / "pca", 0, store=tmp_path / "moved").info.steps == 0


def test_a_store_of_frames_of_another_kind_is_refused(mirrored, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(Store, "meta", {"resize": "crop"})
    with pytest.raises(UserError, match=r"'crop', those of the encoder that it is to mirror by 'squash'; build .* --resize squash"):
        control_artifact("pca", mirrored, tmp_path / "pca", 0)
    monkeypatch.setattr(Store, "frame_shape", (32, 32, 3))
    with pytest.raises(UserError, match=r"frames are \(32, 32, 3\), the encoder takes \(64, 64, 3\); name a store"):
        control_artifact("untrained", mirrored, tmp_path / "untrained", 0)


def test_what_an_attempt_without_a_checkpoint_left_is_made_anew(small_run, mirrored, tmp_path) -> None:
    control_artifact("untrained", mirrored, tmp_path / "run" / "encoder", 1)
    train_agent(small_run(control="untrained", encoder=mirrored, steps=32), lambda steps, note: False)
    control_artifact("untrained", mirrored, tmp_path / "expected", 0)
    assert torch.equal(weights(tmp_path / "run" / "encoder"), weights(tmp_path / "expected"))


def test_a_run_on_a_controls_latents_resumes_with_the_same_bits(small_run, mirrored, tmp_path) -> None:
    def make(name: str):
        return small_run(run=tmp_path / name, control="untrained", encoder=mirrored, steps=96)

    whole = train_agent(make("whole"), lambda steps, note: False)
    with pytest.raises(Stopped):
        train_agent(make("broken"), lambda steps, note: steps >= 32)
    broken = train_agent(make("broken"), lambda steps, note: False)
    assert broken["final_returns"] == whole["final_returns"]
    one, other = ((tmp_path / name / "agent.safetensors").read_bytes() for name in ("whole", "broken"))
    assert one == other
    with pytest.raises(UserError, match="control"):
        train_agent(small_run(run=tmp_path / "whole", control=None, encoder=mirrored, steps=500), lambda steps, note: False)
