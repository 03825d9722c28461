"""VPT and BASALT demonstrations: a video and, beside it, a line of JSON for each of its frames."""

from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from frames.readers.decoding import count_frames, read_rate, read_video
from frames.readers.lines import bad_line, is_number, parse_object, read_lines
from frames.readers.recording import BadRecording, Folder, Layout, Recording
from frames.readers.reported import Reported

# what the recorder writes, and MineRL 1.0's names for it (openai/Video-Pre-Training, run_inverse_dynamics_model.py)
KEYS = {
    "key.keyboard.escape": "ESC",
    "key.keyboard.s": "back",
    "key.keyboard.q": "drop",
    "key.keyboard.w": "forward",
    **{f"key.keyboard.{slot}": f"hotbar.{slot}" for slot in range(1, 10)},
    "key.keyboard.e": "inventory",
    "key.keyboard.space": "jump",
    "key.keyboard.a": "left",
    "key.keyboard.d": "right",
    "key.keyboard.left.shift": "sneak",
    "key.keyboard.left.control": "sprint",
    "key.keyboard.f": "swapHands",
}
MOUSE_BUTTONS = {0: "attack", 1: "use", 2: "pickItem"}
# a whole turn is 2,400 pixels of mouse movement at the recorder's sensitivity
DEGREES_PER_PIXEL = 360 / 2400
POSITIONS = ("xpos", "ypos", "zpos", "yaw", "pitch")
# the recorder often ends a video with a frame that has no line
_SPARE = 2
_BUTTONS = (*KEYS.values(), *MOUSE_BUTTONS.values())
_BITS = {name: 1 << number for number, name in enumerate(_BUTTONS)}
_KEY_BITS = {key: _BITS[name] for key, name in KEYS.items()}
_MOUSE_BITS = {button: _BITS[name] for button, name in MOUSE_BUTTONS.items()}
_UNKNOWN = -1


class VPTRecording(Recording):
    """Line t belongs to frame t: what the game showed and what the player did on seeing it, which leads to frame t+1.

    Where one of the two goes on for a frame or two, the rest is left out.
    """

    _read: "tuple[_Steps, int] | None" = None

    def expected_frames(self) -> int | None:
        return count_frames(self.path)

    def frames_per_second(self) -> float:
        return read_rate(self.path)

    def frames(self) -> Iterator[np.ndarray]:
        steps = _read_steps(self.files[1])
        decoded = 0
        for frame in read_video(self.path):
            decoded += 1
            if decoded <= len(steps):
                yield frame
            elif decoded > len(steps) + _SPARE:
                raise self._mismatch(f"more than {len(steps) + _SPARE} frames", steps)
        if decoded < len(steps) - _SPARE:
            raise self._mismatch(f"{decoded} frames", steps)
        self._read = steps, min(decoded, len(steps))

    def arrays(self) -> dict[str, np.ndarray]:
        if self._read is None:
            raise RuntimeError("the arrays are asked for once, after the last frame")
        # a build holds its recordings to the end: let go of what has been read
        (steps, length), self._read = self._read, None
        return steps.arrays(length)

    def _mismatch(self, frames: str, steps: "_Steps") -> BadRecording:
        lines = f"{self.files[1].name} has {len(steps)} lines"
        return BadRecording(f"the video has {frames}, {lines}; with the layout 'videos' it is taken without actions")


class _Steps:
    """The columns of a .jsonl, 54 bytes a line however long its lines are."""

    def __init__(self) -> None:
        self._pressed, self._camera = array("I"), array("f")
        self._gui, self._slot = array("b"), array("b")
        self._positions = {name: array("d") for name in POSITIONS}
        self._attack_stuck = False

    def __len__(self) -> int:
        return len(self._pressed)

    def add(self, line: dict[str, Any]) -> None:
        """Take the next line; raise `ValueError` where it lacks something."""
        mouse, keyboard = _part(line, "mouse", dict), _part(line, "keyboard", dict)
        for name in ("dy", "dx"):
            if not is_number(mouse.get(name)):
                raise ValueError(f"'mouse' has no number '{name}'")
            self._camera.append(mouse[name] * DEGREES_PER_PIXEL)
        pressed = self._mouse_bits(mouse)
        for key in _part(keyboard, "keys", list):
            pressed |= _KEY_BITS.get(key, 0) if isinstance(key, str) else 0
        self._pressed.append(pressed | self._slot_bit(line.get("hotbar")))
        gui = line.get("isGuiOpen")
        self._gui.append(gui if isinstance(gui, bool) else _UNKNOWN)
        for name, column in self._positions.items():
            column.append(line[name] if is_number(line.get(name)) else np.nan)

    def arrays(self, length: int) -> dict[str, np.ndarray]:
        """Return the actions and observations of the first `length` frames."""
        pressed = np.frombuffer(self._pressed, np.uint32)[: length - 1]
        arrays: dict[str, np.ndarray] = {f"action.{name}": (pressed & bit > 0).astype(np.uint8) for name, bit in _BITS.items()}
        arrays["action.camera"] = np.frombuffer(self._camera, np.float32).reshape(-1, 2)[: length - 1].copy()
        for name, states in (("isGuiOpen", self._gui), ("hotbar", self._slot)):
            seen = np.frombuffer(states, np.int8)[:length]
            if (seen != _UNKNOWN).all():
                arrays[f"observation.{name}"] = seen.astype(np.uint8)
        for name, column in self._positions.items():
            values = np.frombuffer(column, np.float64)[:length]
            if not np.isnan(values).all():
                arrays[f"observation.{name}"] = values.copy()
        return arrays

    def _mouse_bits(self, mouse: dict[str, Any]) -> int:
        """Return the held mouse buttons, without an attack that is held from before the first line and was never pressed."""
        new = mouse.get("newButtons")
        if not len(self):
            self._attack_stuck = new == [0]
        elif isinstance(new, list) and 0 in new:
            self._attack_stuck = False
        held = 0
        for button in _part(mouse, "buttons", list):
            held |= _MOUSE_BITS.get(button, 0) if isinstance(button, int) else 0
        return held & ~_BITS["attack"] if self._attack_stuck else held

    def _slot_bit(self, slot: Any) -> int:
        """Return the press of a hotbar key that a new slot stands for: it may have been chosen with the mouse wheel."""
        if slot is not None and (not isinstance(slot, int) or not 0 <= slot <= 8):
            raise ValueError("'hotbar' is none of 0 to 8")
        before = self._slot[-1] if self._slot else _UNKNOWN
        self._slot.append(_UNKNOWN if slot is None else slot)
        return 0 if slot is None or before in (slot, _UNKNOWN) else _BITS[f"hotbar.{slot + 1}"]


def find(folder: Folder) -> list[Recording]:
    videos = {path.stem: path for path in folder.with_suffix(".mp4")}
    task = folder.path.name if folder.path.name.startswith("MineRL") else ""
    found: list[Recording] = []
    for lines in folder.with_suffix(".jsonl"):
        video = videos.get(lines.stem)
        if video is not None:
            found.append(VPTRecording(folder.name(video.name), video, [video, lines], task=task))
        elif _has_steps(lines):
            found.append(Reported(folder.name(lines.name), lines, [lines], reason=f"there is no {lines.stem}.mp4 beside it"))
    return found


VPT = Layout("vpt", "VPT and BASALT pairs (a .mp4 and a .jsonl of the same name)", find)


def _read_steps(path: Path) -> _Steps:
    steps = _Steps()
    for number, text in read_lines(path):
        try:
            steps.add(parse_object(path, number, text))
        except ValueError as error:
            raise bad_line(path, number, str(error)) from error
    if not len(steps):
        raise BadRecording(f"{path.name} has no lines")
    return steps


def _has_steps(path: Path) -> bool:
    """Say whether a .jsonl without a video is of this layout: many programs write such files."""
    try:
        number, text = next(read_lines(path), (0, ""))
        return {"mouse", "keyboard"} <= parse_object(path, number, text).keys()
    except BadRecording:
        return False


def _part(value: dict[str, Any], name: str, kind: type) -> Any:
    part = value.get(name)
    if not isinstance(part, kind):
        raise ValueError(f"has no {'object' if kind is dict else 'list'} '{name}'")
    return part
