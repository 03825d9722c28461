"""MineRL 0.4.4's data: a folder a recording, with its video, actions, rewards and other observations."""

import json
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

import numpy as np

from frames.readers.decoding import read_rate, read_video
from frames.readers.recording import BadRecording, Folder, Layout, Recording

VIDEO, NUMBERS, METADATA = "recording.mp4", "rendered.npz", "metadata.json"
_KINDS = ("reward", "action", "observation")


class MineRLRecording(Recording):
    """`rendered.npz` holds T rewards and actions for T+1 states.

    The video has F frames, by `metadata.json`; state k is frame F-(T+1)+k, but the last state's frame is a copy of the one before
    (minerl/data/data_pipeline.py).
    """

    @cached_property
    def _arrays(self) -> dict[str, np.ndarray]:
        content = _read_npz(self.path / NUMBERS)
        rewards = content.get("reward", np.empty(0))
        if rewards.ndim != 1 or rewards.dtype.kind not in "biuf" or len(rewards) == 0 or not np.isfinite(rewards).all():
            raise BadRecording(f"{NUMBERS}: 'reward' must give a number for every tick")
        named = {key.replace("$", "."): values for key, values in content.items() if key.split("$")[0] in _KINDS}
        for name, values in named.items():
            _check_array(name, values, len(rewards))
        return named

    def arrays(self) -> dict[str, np.ndarray]:
        return self._arrays

    def frames_per_second(self) -> float:
        return read_rate(self.path / VIDEO)

    def frames(self) -> Iterator[np.ndarray]:
        ticks = len(self._arrays["reward"])
        # a video without the last state's frame is whole: that frame is a copy anyway
        skipped = max(0, _video_frame_count(self.path / METADATA) - (ticks + 1))
        state, frame = 0, None
        for number, decoded in enumerate(read_video(self.path / VIDEO)):
            if skipped <= number < skipped + ticks:
                state, frame = state + 1, decoded
                yield decoded
        if state < ticks or frame is None:
            raise BadRecording(f"{VIDEO} has {state} frames for {ticks} rewards")
        yield frame


def find(folder: Folder) -> list[Recording]:
    if VIDEO not in folder.files or NUMBERS not in folder.files:
        return []
    files = [folder.path / name for name in (VIDEO, NUMBERS, METADATA)]
    return [MineRLRecording(folder.name(), folder.path, files, task=folder.path.parent.name)]


MINERL = Layout("minerl", f"MineRL folders ({VIDEO} + {NUMBERS} + {METADATA})", find)


def _check_array(name: str, values: np.ndarray, ticks: int) -> None:
    """Raise `BadRecording` unless an array has an entry for each of the T ticks, or an observation for each of the T+1 states."""
    lengths = {ticks, ticks + 1} if name.startswith("observation") else {ticks}
    entries = len(values) if values.ndim else 1
    if values.ndim == 0 or entries not in lengths:
        raise BadRecording(f"{NUMBERS}: '{name}' has {entries} entries for {ticks} rewards")
    if values.dtype.kind not in "biufU":
        raise BadRecording(f"{NUMBERS}: '{name}' is of type {values.dtype}, neither numbers nor text")


def _video_frame_count(metadata: Path) -> int:
    try:
        count = json.loads(metadata.read_bytes())["true_video_frame_count"]
    except FileNotFoundError:
        raise BadRecording(f"{metadata.name} is missing") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadRecording(f"{metadata.name} gives no 'true_video_frame_count'") from error
    if not isinstance(count, int):
        raise BadRecording(f"{metadata.name}: 'true_video_frame_count' is {count!r}, not a number")
    return count


def _read_npz(path: Path) -> dict[str, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as content:
            return {key: content[key] for key in content.files}
    # zipfile, zlib and numpy raise a dozen types for a damaged file
    except Exception as error:
        raise BadRecording(f"{path.name} cannot be read ({' '.join(str(error).split())})") from error
