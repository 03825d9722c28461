"""Generated recordings and stores, small and exact."""

import json
import os
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

import cv2
import numpy as np
import pytest

from frames import FrameStore
from frames.curation.splits import assign_splits
from frames.storage.writer import store_writer


@pytest.fixture
def noise() -> Callable[..., np.ndarray]:
    """Make frames uint8 (count, size, size, 3) that are all different."""

    def make(count: int, seed: int = 0, size: int = 16) -> np.ndarray:
        return np.random.default_rng(seed).integers(0, 256, (count, size, size, 3), np.uint8)

    return make


@pytest.fixture
def write_video() -> Callable[[Path, np.ndarray], Path]:
    """Write frames as a video that decodes to exactly these frames (FFV1), or nearly (gif and other codecs)."""

    def write(path: Path, frames: np.ndarray, rate: float = 20, codec: str = "FFV1") -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".gif":
            content = cv2.Animation()
            content.frames = [np.ascontiguousarray(frame[..., ::-1]) for frame in frames]
            content.durations = [50] * len(frames)
            assert cv2.imwriteanimation(str(path), content)
            return path
        size = (frames.shape[2], frames.shape[1])
        writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*codec), rate, size)
        for frame in frames:
            writer.write(np.ascontiguousarray(frame[..., ::-1]))
        writer.release()
        return path

    return write


@pytest.fixture
def write_minerl(write_video: Callable) -> Callable[..., Path]:
    """Write a MineRL folder: F video frames, T rewards, actions of both kinds and an observation; None takes an array away."""

    def write(folder: Path, frames: np.ndarray, ticks: int, **changed: np.ndarray | None) -> Path:
        write_video(folder / "recording.mp4", frames)
        arrays = {
            "reward": np.arange(ticks, dtype=np.float64),
            "action$forward": np.arange(ticks) % 2,
            "action$camera": np.arange(2 * ticks, dtype=np.float32).reshape(ticks, 2),
            "action$place": np.array(["none", "dirt"] * ticks)[:ticks],
            "observation$inventory$dirt": np.arange(ticks + 1),
            **changed,
        }
        np.savez(folder / "rendered.npz", **{key: values for key, values in arrays.items() if values is not None})
        (folder / "metadata.json").write_text(json.dumps({"true_video_frame_count": len(frames)}))
        return folder

    return write


@pytest.fixture
def write_store(tmp_path: Path) -> Callable[..., FrameStore]:
    """Write a store from {name: frames}, without recordings."""

    def write(
        episodes: Mapping[str, np.ndarray],
        arrays: Mapping[str, Mapping[str, np.ndarray]] | None = None,
        path: Path = tmp_path / "store",
        unordered: Collection[str] = (),
        rates: Mapping[str, float] | None = None,
        **splits: str | float,
    ) -> FrameStore:
        shape = next(iter(episodes.values())).shape[1:]
        with store_writer(path, {"source": "a test"}, shape) as writer:
            for name, frames in episodes.items():
                beside = (arrays or {}).get(name, {})
                in_order = name not in unordered
                rate = (rates or {}).get(name, 20.0)
                writer.add(name, frames, source=name, frames_per_second=rate, arrays=lambda beside=beside: beside, ordered=in_order)
            writer.finish(lambda names: assign_splits(names, **splits), {"resize": "squash", "left_out": []})
        return FrameStore(path)

    return write


@pytest.fixture(scope="session")
def real_recordings() -> Path:
    """The folder with genuine MineRL recordings."""
    shared = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "minerl"
    folder = Path(os.environ.get("MINERL_RECORDINGS", shared))
    if not (folder / "manifest.csv").exists():
        pytest.skip("no real recordings: set MINERL_RECORDINGS to the folder of their manifest.csv")
    return folder
