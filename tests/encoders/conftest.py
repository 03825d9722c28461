"""A fake of the frame store's batches, small enough to train on in a test."""

import dataclasses
import runpy
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from encoders import EncoderArtifact, StoreReference, make_encoder, train
from encoders.training.config import TrainingConfig
from frames import build_store

MODEL = {
    "frame_shape": [16, 16, 3],
    "latent_dim": 4,
    "encoder": "8k4s4 16k4s2",
    "decoder": "16 8k4s2 k4s4",
    "linear_stem": False,
    "beta": 0.01,
    "beta_unit": "elbo",
    "half_cycle_steps": None,
    "freeze_steps": 0,
}


@dataclasses.dataclass
class FakeBatch:
    frames: np.ndarray
    actions: np.ndarray | None = None


class FakeBatches:
    """Endless batches that are a function of the position."""

    def __init__(self, frames: np.ndarray, batch_size: int) -> None:
        self.frames, self.batch_size, self.position = frames, batch_size, 0

    def __iter__(self) -> Iterator[FakeBatch]:
        return self

    def __next__(self) -> FakeBatch:
        chosen = np.random.default_rng(self.position).integers(0, len(self.frames), self.batch_size)
        self.position += 1
        return FakeBatch(self.frames[chosen][:, None])

    def state_dict(self) -> dict[str, Any]:
        return {"position": self.position}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.position = state["position"]


@pytest.fixture(scope="session")
def tiny() -> dict[str, Any]:
    """Hyperparameters of a conv VAE for frames of 16x16."""
    return dict(MODEL)


@pytest.fixture(scope="session")
def video_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of moving squares, built from three short videos."""
    folder = tmp_path_factory.mktemp("videos")
    rng = np.random.default_rng(0)
    for index in range(3):
        writer = cv2.VideoWriter(str(folder / f"video{index}.avi"), cv2.VideoWriter_fourcc(*"MJPG"), 20, (64, 64))
        ground, square = rng.integers(0, 256, (2, 3), dtype=np.uint8)
        for position in range(40):
            picture = np.full((64, 64, 3), ground, np.uint8)
            picture[position : position + 20, 20:40] = square
            writer.write(picture)
        writer.release()
    build_store(folder, folder / "store")
    return folder / "store"


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """Return a function that runs a root script in this process and gives its exit status."""

    def run(script: str, *arguments: object) -> int:
        monkeypatch.setattr(sys, "argv", [script, *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            runpy.run_path(str(Path(__file__).resolve().parents[2] / script), run_name="__main__")
        return int(ended.value.code or 0)

    return run


@pytest.fixture(scope="session")
def fake_batches() -> type[FakeBatches]:
    return FakeBatches


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def store() -> StoreReference:
    return StoreReference("some/store", "f1", 20.0, "squash")


@pytest.fixture(scope="session")
def frames() -> np.ndarray:
    """Coloured squares on coloured grounds, uint8 (256, 16, 16, 3)."""
    return coloured_squares()


def coloured_squares() -> np.ndarray:
    rng = np.random.default_rng(0)
    frames = np.empty((256, 16, 16, 3), np.uint8)
    frames[:] = rng.integers(0, 256, (256, 1, 1, 3))
    for frame in frames:
        row, column = rng.integers(0, 10, 2)
        frame[row : row + 6, column : column + 6] = rng.integers(0, 256, 3)
    return frames


@pytest.fixture
def small_config() -> TrainingConfig:
    return TrainingConfig(
        batch_size=8, learning_rate=2e-2, decay_steps=30, ema_decay=0.9, validation_every=10, checkpoint_every=5, log_every=1
    )


@pytest.fixture
def train_small(frames: np.ndarray, store: StoreReference, small_config: TrainingConfig) -> Callable[..., EncoderArtifact]:
    """Return a function that trains a tiny conv VAE in a folder."""

    def run(folder: Path, steps: int, config: TrainingConfig = small_config, batches: Any = None, **options: Any) -> EncoderArtifact:
        torch.manual_seed(config.seed)
        model = make_encoder("conv_vae", **(MODEL | options.pop("model", {})))
        return train(
            model,
            batches or FakeBatches(frames[:192], config.batch_size),
            lambda: [FakeBatch(frames[start : start + 16][:, None]) for start in range(192, 256, 16)],
            folder,
            config,
            steps=steps,
            sample=lambda: FakeBatch(frames[:192][:, None]),
            store=options.pop("store", store),
            threads=options.pop("threads", 1),
            **{"device": "cpu"} | options,
        )

    return run
