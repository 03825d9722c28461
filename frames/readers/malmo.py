"""Malmo's recordings: a folder with a video, and texts whose lines begin with a time stamp."""

import os
import re
from array import array
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

import numpy as np

from frames.readers.decoding import count_frames, read_rate, read_video
from frames.readers.lines import bad_line, is_number, parse_number, parse_object, read_lines
from frames.readers.recording import BadRecording, Folder, Layout, Recording

VIDEO, MISSION = "video.mp4", "missionInit.xml"
FRAMES, REWARDS, COMMANDS, OBSERVATIONS = "frame_info.txt", "rewards.txt", "commands.txt", "observations.txt"
# in continuous movement a command holds until the next of its kind (Schemas/MissionHandlers.xsd)
HELD = ("move", "strafe", "pitch", "turn", "jump", "crouch", "attack", "use")
POSE = ("xpos", "ypos", "zpos", "yaw", "pitch")
_SECOND = 10**9
# of which int64 holds the nanoseconds: it is in the year 2255
_LAST_SECOND = 9 * 10**9
# boost's ISO form; a whole second has no fraction
_STAMP = re.compile(r"(\d{8}T\d{6})(?:[.,](\d{1,9}))?(?:\s+|$)", re.ASCII)
# 0:1,1:-0.5 since Malmo 0.17; before, <Reward ...><Value dimension="0" value="1"/></Reward>
_REWARD = re.compile(r"(\d{1,2}):([^,:\s]+)", re.ASCII)
_REWARD_ELEMENT = re.compile(r"<Value\s([^<>]*?)/?>")
_ATTRIBUTE = re.compile(r'(\w+)="([^"]*)"')
_SIZE = re.compile(r"(width|height)=\d+")
_SUMMARY = re.compile(r"<Summary>\s*([^<]{1,200}?)\s*</Summary>")
_LONGEST_MISSION = 1 << 20
# a command that is a number for an action: move 1; what is said may be one as well
_COMMAND = re.compile(r"(?!chat\s)([A-Za-z][\w.]{0,31})\s+([+-]?[\d.]+(?:[eE][+-]?\d+)?)", re.ASCII)
_LONGEST_COMMANDS, _MOST_COMMANDS = 256, 1 << 16
_MOST_COLUMNS = 100


class MalmoRecording(Recording):
    """What has a stamp between those of frame t and frame t+1 belongs to tick t.

    What is stamped before the first frame counts on the first tick, and on the last what is stamped after the last frame.
    """

    _decoded = 0

    def expected_frames(self) -> int | None:
        return count_frames(self.path / VIDEO)

    def frames_per_second(self) -> float:
        return read_rate(self.path / VIDEO)

    def frames(self) -> Iterator[np.ndarray]:
        self._decoded = 0
        for frame in read_video(self.path / VIDEO):
            self._decoded += 1
            yield frame

    def arrays(self) -> dict[str, np.ndarray]:
        parts = {path.name: _READERS[path.name](path) for path in self.files if path.name in _READERS}
        stamps = self._frame_stamps(parts)
        return {name: values for part in parts.values() for name, values in part.arrays(stamps).items()}

    def _frame_stamps(self, parts: dict[str, "_Part"]) -> np.ndarray:
        """Return the stamps int64 (F,) of the frames, in nanoseconds."""
        if FRAMES not in parts:
            # the best there is: the first thing that was recorded came with the first frame, and the frames at the video's rate
            began = min((part.stamps[0] for part in parts.values() if len(part.stamps)), default=0)
            return began + np.round(np.arange(self._decoded) * (_SECOND / self.frames_per_second())).astype(np.int64)
        stamps = parts[FRAMES].stamps
        # frames that waited to be written when the mission ended are lost
        if not self._decoded <= len(stamps) <= self._decoded + self.frames_per_second():
            raise BadRecording(f"{VIDEO} has {self._decoded} frames, {FRAMES} tells of {len(stamps)}")
        return stamps[: self._decoded]


class _Part(Protocol):
    """What a text holds: `stamps` int64, in nanoseconds and in order, and the arrays that it gives for frames of given stamps."""

    stamps: np.ndarray

    def arrays(self, frames: np.ndarray) -> dict[str, np.ndarray]: ...


@dataclass
class _Frames:
    stamps: np.ndarray
    poses: np.ndarray | None

    def arrays(self, frames: np.ndarray) -> dict[str, np.ndarray]:
        if self.poses is None:
            return {}
        return {f"observation.{name}": self.poses[: len(frames), number].copy() for number, name in enumerate(POSE)}


@dataclass
class _Rewards:
    stamps: np.ndarray
    dimensions: np.ndarray
    values: np.ndarray

    def arrays(self, frames: np.ndarray) -> dict[str, np.ndarray]:
        """Sum what falls on a tick: the sum over all ticks is that of the file."""
        ticks, arrays = _ticks(self, frames, REWARDS), {}
        for dimension in {0, *self.dimensions.tolist()}:
            chosen = self.dimensions == dimension
            name = f"reward.{dimension}" if dimension else "reward"
            arrays[name] = _sums(ticks[chosen], self.values[chosen], len(frames) - 1)
        return arrays


@dataclass
class _Commands:
    """Commands of the form "verb number" by their verb, and the others as texts: both with their places in `stamps`."""

    stamps: np.ndarray
    numbers: dict[str, tuple[np.ndarray, np.ndarray]]
    texts: dict[int, str]
    held: Collection[str]

    def arrays(self, frames: np.ndarray) -> dict[str, np.ndarray]:
        ticks, arrays = _ticks(self, frames, COMMANDS), {}
        for verb, (places, values) in self.numbers.items():
            if verb in self.held:
                latest = np.searchsorted(ticks[places], np.arange(len(frames) - 1), side="right") - 1
                arrays[f"action.{verb}"] = np.where(latest < 0, 0, values[latest])
            else:
                arrays[f"action.{verb}"] = _sums(ticks[places], values, len(frames) - 1)
        return arrays | self._text_array(ticks, len(frames) - 1)

    def _text_array(self, ticks: np.ndarray, length: int) -> dict[str, np.ndarray]:
        if not self.texts:
            return {}
        sent: dict[int, list[str]] = {}
        for place, text in self.texts.items():
            sent.setdefault(int(ticks[place]), []).append(text)
        joined = {tick: "\n".join(texts) for tick, texts in sent.items()}
        # an array gives every text the room of the longest, and a store lists the different ones
        longest, different = max(map(len, joined.values())), sum(map(len, set(joined.values())))
        if longest > _LONGEST_COMMANDS or different > _MOST_COMMANDS:
            raise BadRecording(f"{COMMANDS}: its texts are too long: {longest} characters in a tick, {different} of different ones")
        return {"action.command": np.array([joined.get(tick, "") for tick in range(length)], f"<U{max(1, longest)}")}


@dataclass
class _Observations:
    stamps: np.ndarray
    columns: dict[str, np.ndarray]

    def arrays(self, frames: np.ndarray) -> dict[str, np.ndarray]:
        """Give every frame the latest that was observed by then; the frames before the first observation get that one."""
        latest = (np.searchsorted(self.stamps, frames, side="right") - 1).clip(0)
        return {f"observation.{name}": column[latest] for name, column in self.columns.items()}


def find(folder: Folder) -> list[Recording]:
    """Take a video.mp4 with a text of Malmo's beside it; alone it is left to be a plain video."""
    texts = [folder.path / name for name in _READERS if name in folder.files]
    if VIDEO not in folder.files or not texts:
        return []
    files = [folder.path / VIDEO, *texts, folder.path / MISSION]
    return [MalmoRecording(folder.name(), folder.path, files, task=_task(folder))]


MALMO = Layout("malmo", f"Malmo folders ({VIDEO} with {FRAMES}, {REWARDS}, {COMMANDS} or {OBSERVATIONS})", find)


def _task(folder: Folder) -> str:
    """Return the mission's summary, where there is a mission."""
    summary = _SUMMARY.search(_mission(folder.path))
    return " ".join(summary[1].split()) if summary else ""


def _mission(folder: Path) -> str:
    """Return the text of the mission, as much of it as a mission has; nothing where there is none."""
    path = folder / MISSION
    if not os.path.isfile(path):
        return ""
    try:
        with open(path, "rb") as file:
            return file.read(_LONGEST_MISSION).decode("utf-8", "replace")
    except OSError:
        return ""


def _ticks(part: _Part, frames: np.ndarray, name: str) -> np.ndarray:
    """Return the tick of every stamp of a part."""
    if len(frames) < 2 and len(part.stamps):
        raise BadRecording(f"{VIDEO} has a single frame: there is no tick for what {name} tells")
    return (np.searchsorted(frames, part.stamps, side="right") - 1).clip(0, max(0, len(frames) - 2))


def _sums(ticks: np.ndarray, values: np.ndarray, length: int) -> np.ndarray:
    sums = np.zeros(length)
    np.add.at(sums, ticks, values)
    return sums


def _stamped_lines(path: Path, skipped: re.Pattern[str] | None = None) -> Iterator[tuple[int, int, str]]:
    """Yield (number, stamp, what follows the stamp) of every line."""
    for number, text in read_lines(path):
        if skipped and skipped.fullmatch(text):
            continue
        stamp = _STAMP.match(text)
        try:
            if stamp is None:
                raise ValueError
            second = int(datetime.strptime(stamp[1], "%Y%m%dT%H%M%S").replace(tzinfo=UTC).timestamp())
            if not 0 <= second < _LAST_SECOND:
                raise ValueError
        except ValueError:
            raise bad_line(path, number, f"does not begin with a time stamp ({text[:40]!r})") from None
        yield number, second * _SECOND + int((stamp[2] or "0").ljust(9, "0")), text[stamp.end() :]


def _read_frames(path: Path) -> _Frames:
    """Read lines of: stamp, frame_000000, and since Malmo 0.17 "xyzyp:" with x, y, z, yaw and pitch."""
    stamps, poses = array("q"), array("d")
    for number, stamp, text in _stamped_lines(path, skipped=_SIZE):
        stamps.append(stamp)
        _, _, pose = text.partition("xyzyp:")
        numbers = [_number(path, number, word) for word in pose.split()]
        if len(numbers) not in (0, len(POSE)):
            raise bad_line(path, number, f"has {len(numbers)} numbers after 'xyzyp:', not {len(POSE)}")
        poses.extend(numbers)
    whole = len(poses) == len(POSE) * len(stamps)
    return _Frames(_in_order(stamps), np.array(poses).reshape(-1, len(POSE)) if whole else None)


def _read_rewards(path: Path) -> _Rewards:
    stamps, dimensions, values = array("q"), array("b"), array("d")
    for number, stamp, text in _stamped_lines(path):
        for dimension, value in _parse_rewards(path, number, text):
            stamps.append(stamp)
            dimensions.append(dimension)
            values.append(value)
    return _Rewards(_in_order(stamps), np.array(dimensions, np.int8), np.array(values))


def _parse_rewards(path: Path, number: int, text: str) -> list[tuple[int, float]]:
    """Return the (dimension, value) pairs of a line in either form."""
    if "<" in text:
        elements = [dict(_ATTRIBUTE.findall(element)) for element in _REWARD_ELEMENT.findall(text)]
        pairs = [(element.get("dimension", ""), element.get("value", "")) for element in elements]
    else:
        matches = [_REWARD.fullmatch(pair.strip()) for pair in text.split(",")]
        pairs = [(match[1], match[2]) if match else ("", "") for match in matches]
    if not pairs or not all(dimension.isdecimal() and len(dimension) <= 2 for dimension, _ in pairs):
        raise bad_line(path, number, f"gives no reward as dimension:value ({text[:40]!r})")
    return [(int(dimension), _number(path, number, value)) for dimension, value in pairs]


def _read_commands(path: Path) -> _Commands:
    stamps, texts = array("q"), {}
    numbers: dict[str, tuple[array[int], array[float]]] = {}
    for number, stamp, text in _stamped_lines(path):
        command = _COMMAND.fullmatch(text)
        if command:
            places, values = numbers.setdefault(command[1], (array("q"), array("d")))
            places.append(len(stamps))
            values.append(_number(path, number, command[2]))
        else:
            texts[len(stamps)] = text
        if len(numbers) > _MOST_COLUMNS:
            raise bad_line(path, number, f"there are more than {_MOST_COLUMNS} different commands")
        stamps.append(stamp)
    arrays = {verb: (np.array(places), np.array(values)) for verb, (places, values) in numbers.items()}
    mission = _mission(path.parent)
    continuous = "<ContinuousMovementCommands" in mission and "<DiscreteMovementCommands" not in mission
    return _Commands(_in_order(stamps), arrays, texts, HELD if continuous else ())


def _read_observations(path: Path) -> _Observations:
    """Read a JSON object a line, and of it the numbers at its top; what a line does not tell is NaN."""
    stamps: array[int] = array("q")
    columns: dict[str, array[float]] = {}
    for number, stamp, text in _stamped_lines(path):
        for name, value in parse_object(path, number, text).items():
            if isinstance(value, (int, float)) and not isinstance(value, bool):
                if not is_number(value):
                    raise bad_line(path, number, f"'{name[:40]}' is no finite number")
                column = columns.setdefault(name, array("d"))
                column.extend([np.nan] * (len(stamps) - len(column)))
                column.append(value)
        if len(columns) > _MOST_COLUMNS:
            raise bad_line(path, number, f"there are more than {_MOST_COLUMNS} different observations")
        stamps.append(stamp)
    for column in columns.values():
        column.extend([np.nan] * (len(stamps) - len(column)))
    return _Observations(_in_order(stamps), {name: np.array(column) for name, column in columns.items()})


def _number(path: Path, number: int, text: str) -> float:
    try:
        return parse_number(text)
    except ValueError as error:
        raise bad_line(path, number, str(error)) from error


def _in_order(stamps: "array[int]") -> np.ndarray:
    """Return stamps that never go back: a computer's clock is set back now and then."""
    return np.maximum.accumulate(np.array(stamps, np.int64))


_READERS: dict[str, Callable[[Path], _Part]] = {
    FRAMES: _read_frames,
    REWARDS: _read_rewards,
    COMMANDS: _read_commands,
    OBSERVATIONS: _read_observations,
}
