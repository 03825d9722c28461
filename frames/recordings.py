"""Finding recordings in a folder and reading them: MineRL's layout, plain videos, folders of pictures."""

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np

from foundation.errors import UserError
from frames.video import VIDEO_SUFFIXES, BadRecording, read_rate, read_video

PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg")
MINERL_FILES = ("recording.mp4", "rendered.npz", "metadata.json")
_KINDS = ("reward", "action", "observation")


@dataclass
class Recording:
    """Something that becomes an episode: `name` is its path below the source folder, `origin` its size in bytes."""

    name: str
    path: Path
    origin: int
    ordered = True

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the per-step arrays by name; raise `BadRecording` where they are damaged."""
        return {}

    def frames_per_second(self) -> float:
        return read_rate(self.path)

    def frames(self) -> Iterator[np.ndarray]:
        """Yield uint8 RGB frames (H, W, 3); raise `BadRecording` where they do not decode."""
        return read_video(self.path)


@dataclass
class MineRLRecording(Recording):
    """A folder of MineRL 0.4.4: video, actions and rewards.

    `rendered.npz` holds T rewards and actions for T+1 states. The video has F frames, by `metadata.json`; state k is frame
    F-(T+1)+k, but the last state's frame is a copy of the one before (minerl/data/data_pipeline.py).
    """

    def arrays(self) -> dict[str, np.ndarray]:
        content = _read_npz(self.path / MINERL_FILES[1])
        rewards = content.get("reward", np.empty(0))
        if rewards.ndim != 1 or rewards.dtype.kind not in "biuf" or len(rewards) == 0 or not np.isfinite(rewards).all():
            raise BadRecording(f"{MINERL_FILES[1]}: 'reward' must give a number for every tick")
        named = {key.replace("$", "."): values for key, values in content.items() if key.split("$")[0] in _KINDS}
        for name, values in named.items():
            _check_array(name, values, len(rewards))
        return named

    def frames_per_second(self) -> float:
        return read_rate(self.path / MINERL_FILES[0])

    def frames(self) -> Iterator[np.ndarray]:
        ticks = len(self.arrays()["reward"])
        # a video without the last state's frame is whole: that frame is a copy anyway
        skipped = max(0, _video_frame_count(self.path / MINERL_FILES[2]) - (ticks + 1))
        state, frame = 0, None
        for number, decoded in enumerate(read_video(self.path / MINERL_FILES[0])):
            if skipped <= number < skipped + ticks:
                state, frame = state + 1, decoded
                yield decoded
        if state < ticks or frame is None:
            raise BadRecording(f"{MINERL_FILES[0]} has {state} frames for {ticks} rewards")
        yield frame


@dataclass
class PictureFolder(Recording):
    """A folder of pictures: one unordered episode. Pictures that do not decode are named in `skipped`."""

    files: list[Path] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    ordered = False

    def frames_per_second(self) -> float:
        return 1.0

    def frames(self) -> Iterator[np.ndarray]:
        for file in self.files:
            # read by us: OpenCV cannot open every name
            content = np.frombuffer(file.read_bytes(), np.uint8)
            picture = cv2.imdecode(content, cv2.IMREAD_COLOR) if len(content) else None
            if picture is None:
                self.skipped.append(file.name)
            else:
                yield cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)
        if len(self.skipped) == len(self.files):
            raise BadRecording("no picture decodes")


def find_recordings(source: Path) -> list[Recording]:
    """Return the recordings in and below a folder, or in a single file, sorted by name.

    Raises `UserError` when there is no such folder, or nothing in it that we know.
    """
    if not source.exists():
        raise UserError(f"{source}: no such folder; give the folder of your recordings")
    if source.is_file():
        if source.suffix.lower() not in VIDEO_SUFFIXES:
            raise UserError(f"{source}: not a video file ({', '.join(VIDEO_SUFFIXES)}); give a video or a folder")
        return [Recording(source.name, source, _size([source]))]
    found = _without_stray_pictures(sorted(_walk(source), key=lambda recording: recording.name))
    if not found:
        known = f"MineRL folders ({' + '.join(MINERL_FILES)}), videos ({', '.join(VIDEO_SUFFIXES)}) or pictures"
        raise UserError(f"{source}: no recordings found; looked for {known} at any depth")
    return found


def _without_stray_pictures(found: list[Recording]) -> list[Recording]:
    """Drop pictures that lie beside or above other recordings: thumbnails and contact sheets, not data."""
    above = {parent for recording in found if recording.ordered for parent in recording.path.parents}
    return [recording for recording in found if recording.ordered or recording.path not in above]


def _walk(source: Path) -> Iterator[Recording]:
    seen = set()
    for folder, folders, files in os.walk(source, followlinks=True):
        status = os.stat(folder)
        if (status.st_dev, status.st_ino) in seen:
            # a link back up, or a second way into the same folder
            folders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        folders[:] = sorted(name for name in folders if not name.startswith(".") and not name.endswith(".building"))
        yield from _in_folder(source, Path(folder), sorted(name for name in files if not name.startswith(".")))


def _in_folder(source: Path, folder: Path, files: list[str]) -> Iterator[Recording]:
    if MINERL_FILES[0] in files and MINERL_FILES[1] in files:
        paths = [folder / name for name in MINERL_FILES]
        yield MineRLRecording(_name(source, folder), folder, _size(paths))
        return
    videos = [name for name in files if name.lower().endswith(VIDEO_SUFFIXES)]
    for name in videos:
        yield Recording(_name(source, folder / name), folder / name, _size([folder / name]))
    pictures = [folder / name for name in files if name.lower().endswith(PICTURE_SUFFIXES)]
    if pictures:
        yield PictureFolder(_name(source, folder), folder, _size(pictures), pictures)


def _name(source: Path, path: Path) -> str:
    return path.relative_to(source).as_posix() if path != source else source.resolve().name


def _size(paths: list[Path]) -> int:
    return sum(path.stat().st_size for path in paths if path.exists())


def _check_array(name: str, values: np.ndarray, ticks: int) -> None:
    """Raise `BadRecording` unless an array has an entry for each of the T ticks, or an observation for each of the T+1 states."""
    lengths = {ticks, ticks + 1} if name.startswith("observation") else {ticks}
    entries = len(values) if values.ndim else 1
    if values.ndim == 0 or entries not in lengths:
        raise BadRecording(f"{MINERL_FILES[1]}: '{name}' has {entries} entries for {ticks} rewards")
    if values.dtype.kind not in "biufU":
        raise BadRecording(f"{MINERL_FILES[1]}: '{name}' is of type {values.dtype}, neither numbers nor text")


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
