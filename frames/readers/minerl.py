"""MineRL 0.4.4's data: a folder a recording, with its video, actions, rewards and other observations."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from frames.readers.decoding import read_rate, read_video
from frames.readers.npz import Npz, open_npz
from frames.readers.recording import BadRecording, ExcludedRecording, Folder, Layout, Recording

VIDEO, NUMBERS, METADATA = "recording.mp4", "rendered.npz", "metadata.json"
_KINDS = ("action", "observation")
# minerl's own loader leaves it out by name, as corrupted (minerl/data/data_pipeline.py)
_CORRUPTED = re.compile(r"tempting_capers_shapeshifter-14(?!\d)")
_LONGEST_METADATA = 1 << 20


class MineRLRecording(Recording):
    """`rendered.npz` holds T rewards and actions for T+1 states.

    The video has F frames, by `metadata.json`; state k is frame F-(T+1)+k, but the last state's frame is a copy of the one before
    (minerl/data/data_pipeline.py).
    """

    def expected_frames(self) -> int | None:
        try:
            with open_npz(self.path / NUMBERS) as content:
                return _ticks(content) + 1
        except BadRecording:
            return None

    def frames_per_second(self) -> float:
        self._check()
        return read_rate(self.path / VIDEO)

    def frames(self) -> Iterator[np.ndarray]:
        self._check()
        ticks = len(self.arrays()["reward"])
        skipped = _frames_before(self.path / METADATA, ticks)
        decoded, last = 0, None
        for frame in read_video(self.path / VIDEO):
            if skipped <= decoded < skipped + ticks:
                last = frame
                yield frame
            decoded += 1
        # a video without the last state's frame is whole: that frame is a copy anyway
        if last is None or decoded < skipped + ticks:
            raise BadRecording(f"{VIDEO} has {decoded} frames; {METADATA} and {ticks} rewards need {skipped + ticks + 1}")
        yield last

    def arrays(self) -> dict[str, np.ndarray]:
        with open_npz(self.path / NUMBERS) as content:
            ticks = _ticks(content)
            names = _names(content)
            for key, name in names.items():
                _check_length(name, content.headers[key].shape, ticks)
            arrays = {names[key]: values for key, values in content.read(names).items()}
        if not np.isfinite(arrays["reward"]).all():
            wrong = int(np.argmin(np.isfinite(arrays["reward"])))
            raise BadRecording(f"{NUMBERS}: 'reward' is {arrays['reward'][wrong]} at tick {wrong}")
        return arrays

    def _check(self) -> None:
        if _CORRUPTED.search(self.path.name):
            raise ExcludedRecording("is known to be corrupted; minerl's own loader leaves it out as well")
        missing = [file.name for file in self.files if not file.exists()]
        if missing:
            raise BadRecording(f"{' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing")


def find(folder: Folder) -> list[Recording]:
    """Take every folder with a rendered.npz: where the video is missing, it is a damaged recording and not nothing."""
    if NUMBERS not in folder.files:
        return []
    files = [folder.path / name for name in (VIDEO, NUMBERS, METADATA)]
    return [MineRLRecording(folder.name(), folder.path, files, task=folder.path.absolute().parent.name)]


MINERL = Layout("minerl", f"MineRL folders ({VIDEO} + {NUMBERS} + {METADATA})", find)


def _ticks(content: Npz) -> int:
    """Return T, by the header of the rewards."""
    header = content.headers.get("reward")
    if header is None:
        raise BadRecording(f"{NUMBERS} has no 'reward'")
    if len(header.shape) != 1 or header.shape[0] == 0 or header.dtype.kind not in "biuf":
        raise BadRecording(f"{NUMBERS}: 'reward' must give a number for every tick, not {header.dtype} {header.shape}")
    return header.shape[0]


def _names(content: Npz) -> dict[str, str]:
    """Return our name for every key that we take: action$camera is action.camera."""
    names = {key: key.replace("$", ".") for key in content.headers if key == "reward" or key.split("$")[0] in _KINDS}
    if not any(name.startswith("action.") for name in names.values()):
        raise BadRecording(f"{NUMBERS} has no 'action$...'; remove it to take {VIDEO} as a plain video")
    twice = [name for name in names.values() if list(names.values()).count(name) > 1]
    if twice:
        raise BadRecording(f"{NUMBERS}: two keys are called '{twice[0]}'")
    return names


def _check_length(name: str, shape: tuple[int, ...], ticks: int) -> None:
    """Raise `BadRecording` unless an array has an entry for each of the T ticks, or an observation for each of the T+1 states."""
    lengths = {ticks, ticks + 1} if name.startswith("observation") else {ticks}
    if not shape or shape[0] not in lengths:
        entries = f"{shape[0]} entries" if shape else "a single value"
        raise BadRecording(f"{NUMBERS}: '{name}' has {entries} for {ticks} rewards")


def _frames_before(metadata: Path, ticks: int) -> int:
    """Return how many frames of the video come before the first state's."""
    count = _video_frame_count(metadata)
    if count < ticks:
        raise BadRecording(f"{METADATA}: a video of {count} frames does not go with {ticks} rewards")
    return max(0, count - (ticks + 1))


def _video_frame_count(metadata: Path) -> int:
    try:
        if metadata.stat().st_size > _LONGEST_METADATA or not metadata.is_file():
            raise BadRecording(f"{METADATA} is no description of a recording")
        count = json.loads(metadata.read_bytes())["true_video_frame_count"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise BadRecording(f"{METADATA} gives no 'true_video_frame_count'") from error
    if not isinstance(count, int) or isinstance(count, bool):
        raise BadRecording(f"{METADATA}: 'true_video_frame_count' is {str(count)[:40]!r}, not a number of frames")
    return count
