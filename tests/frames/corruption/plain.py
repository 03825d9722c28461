"""Reading recordings in the plainest way, with OpenCV, numpy, json, lmdb and h5py alone: what a store of them must hold."""

import json
import math
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import cv2
import numpy as np

SIZE = 16

Content = tuple[list[np.ndarray], dict[str, Any]]


def read_video(path: Path) -> list[np.ndarray]:
    capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, 1])
    frames = []
    while (read := capture.read())[0]:
        frames.append(read[1][..., ::-1])
    return frames


def fitted(frame: np.ndarray) -> np.ndarray:
    """Return a frame in the size of the store's."""
    if frame.shape[:2] == (SIZE, SIZE):
        return frame
    shrinks = min(frame.shape[:2]) >= SIZE
    return cv2.resize(np.ascontiguousarray(frame), (SIZE, SIZE), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)


def minerl(source: Path, name: str, left_out: Collection[str]) -> Content:
    frames, folder = read_video(source / name / "recording.mp4"), source / name
    with np.load(folder / "rendered.npz", allow_pickle=False) as content:
        arrays = {key.replace("$", "."): content[key] for key in content.files}
    ticks, count = len(arrays["reward"]), json.loads((folder / "metadata.json").read_bytes())["true_video_frame_count"]
    first = max(0, count - ticks - 1)
    return [*frames[first : first + ticks], frames[first + ticks - 1]], arrays


def vpt(source: Path, name: str, left_out: Collection[str]) -> Content:
    lines = [json.loads(line) for line in (source / name).with_suffix(".jsonl").read_bytes().split(b"\n") if line.strip()]
    frames = read_video(source / name)[: len(lines)]
    ticks = lines[: len(frames) - 1]
    arrays = {
        "action.camera": np.array([[line["mouse"]["dy"], line["mouse"]["dx"]] for line in ticks]) * np.float32(0.15),
        "action.forward": np.array(["key.keyboard.w" in line["keyboard"]["keys"] for line in ticks]),
        "observation.xpos": np.array([_number(line.get("xpos")) for line in lines[: len(frames)]]),
    }
    return frames, arrays


def cwvae(source: Path, name: str, left_out: Collection[str]) -> Content:
    frames = read_video(source / name)
    try:
        known = json.loads((source / name).with_name("metadata.json").read_bytes())
    except ValueError:
        # then its videos are plain ones
        known = {}
    entry = known.get(Path(name).stem) if isinstance(known, dict) else None
    columns = entry if isinstance(entry, dict) else {}
    renamed = {"jump": "action.jump", "camera_x": "action.camera_x", "angle": "observation.angle"}
    arrays = {renamed[key]: np.array(values) for key, values in columns.items() if key in renamed}
    return frames, {key: values[: len(frames) - key.startswith("action")] for key, values in arrays.items()}


def malmo(source: Path, name: str, left_out: Collection[str]) -> Content:
    """Of the rewards their sum: it is the same however they fall on the ticks."""
    if name.endswith(".mp4"):
        return read_video(source / name), {}
    total = 0.0
    for line in (source / name / "rewards.txt").read_text().split("\n"):
        pairs = line.split(None, 1)[1].split(",") if line.strip() else []
        total += sum(float(value) for dimension, value in (pair.split(":") for pair in pairs) if int(dimension) == 0)
    return read_video(source / name / "video.mp4"), {"reward": total}


def image_lmdb(source: Path, name: str, left_out: Collection[str]) -> Content:
    import lmdb

    keys = [str(number) for number in range(10) if f"{name}/{number}" not in left_out]
    with lmdb.open(str(source / name), map_size=1 << 24, subdir=False, readonly=True, lock=False) as environment:
        with environment.begin() as transaction:
            pictures = [transaction.get(key.encode()) for key in keys]
    return [np.frombuffer(picture, np.uint8).reshape(2 * SIZE, 2 * SIZE, 3) for picture in pictures if picture is not None], {}


def npy(source: Path, name: str, left_out: Collection[str]) -> Content:
    file, _, clip = name.partition(".npy")
    content = np.load(source / f"{file}.npy", allow_pickle=False)
    return list(content[int(clip[1:])] if clip else content), {}


def hdf5(source: Path, name: str, left_out: Collection[str]) -> Content:
    import h5py

    file, group, _ = name.split("/")
    with h5py.File(source / file, "r", locking=False) as content:
        found = {key: content[group][key][:] for key in ("imgs", "masks", "factors") if key in content[group]}
    return list(found.pop("imgs")), {f"observation.{key}": values for key, values in found.items()}


def videos(source: Path, name: str, left_out: Collection[str]) -> Content:
    return read_video(source / name), {}


def pictures(source: Path, name: str, left_out: Collection[str]) -> Content:
    taken = [path for path in sorted((source / name).iterdir()) if f"{name}/{path.name}" not in left_out]
    return [cv2.imread(str(path))[..., ::-1] for path in taken], {}


READERS: dict[str, Callable[[Path, str, Collection[str]], Content]] = {
    "minerl": minerl,
    "vpt": vpt,
    "cwvae": cwvae,
    "malmo": malmo,
    "lmdb": image_lmdb,
    "npy": npy,
    "hdf5": hdf5,
    "videos": videos,
    "pictures": pictures,
}


def _number(value: Any) -> float:
    sound = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if sound else math.nan
