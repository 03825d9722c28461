"""Text files of a recording, read line by line: whatever is wrong with one is named by file and line."""

import json
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

from frames.readers.recording import BadRecording

LONGEST_LINE = 1 << 20
# no coordinate, angle or reward of a game comes near; float32 still holds it
_LARGEST = 1e15


def read_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield (number, text) of every line that is not blank, the first being 1.

    Raises `BadRecording` where the file cannot be read, is no UTF-8, or has a line of more than 1 MiB.
    """
    if path.exists() and not path.is_file():
        # a pipe would be waited for
        raise BadRecording(f"{path.name} is no file")
    try:
        with open(path, "rb") as file:
            for number in count(1):
                line = file.readline(LONGEST_LINE + 1)
                if not line:
                    return
                if len(line) > LONGEST_LINE:
                    raise bad_line(path, number, "is longer than 1 MiB")
                text = _decoded(path, number, line)
                if text:
                    yield number, text
    except OSError as error:
        raise BadRecording(f"{path.name} cannot be read ({error.strerror})") from error


def parse_object(path: Path, number: int, text: str) -> dict[str, Any]:
    """Return the JSON object in a line; raise `BadRecording` where there is none."""
    try:
        value = json.loads(text, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise bad_line(path, number, f"is no JSON ({' '.join(str(error).split())[:100]})") from error
    if not isinstance(value, dict):
        raise bad_line(path, number, "is no JSON object")
    return value


def is_number(value: Any) -> bool:
    """Say whether a value is a finite number of a size that a game has; JSON's 1e999 is not, nor is true."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and -_LARGEST < value < _LARGEST


def parse_number(text: str) -> float:
    """Return the finite number that a text spells; raise `ValueError` where it spells none."""
    try:
        value = float(text)
    except ValueError:
        raise ValueError(f"{text[:40]!r} is no number") from None
    if not is_number(value):
        raise ValueError(f"{text[:40]} is no finite number")
    return value


def bad_line(path: Path, number: int, wrong: str) -> BadRecording:
    return BadRecording(f"{path.name} line {number}: {wrong}")


def _decoded(path: Path, number: int, line: bytes) -> str:
    try:
        # Windows' editors put a mark before the first line
        return line.decode("utf-8-sig").strip()
    except UnicodeDecodeError as error:
        raise bad_line(path, number, f"is no UTF-8 text (byte {error.start + 1})") from error


def _no_number(constant: str) -> Any:
    raise ValueError(f"{constant} is no number")
