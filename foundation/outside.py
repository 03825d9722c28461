"""What comes from outside: files that may be pipes or without an end, values that may be bottomless."""

import os
import stat
from pathlib import Path
from typing import Any

from foundation.errors import UserError

MOST_BYTES = 64 * 2**20
"""Of a document. The largest of ours, a comparison of thousands of runs, has a few million."""
MOST_DEPTH = 64
"""Lists and mappings within one another; ours have ten."""
MOST_VALUES = 10_000_000


def read_regular(path: str | Path, most: int = MOST_BYTES) -> bytes:
    """Return a file's content; raise `OSError` where it cannot be read, `UserError` for a pipe, a device and more than `most` bytes.

    A pipe would wait for a writer for ever, and a device such as /dev/zero has no end.
    """
    # without O_NONBLOCK, opening a pipe waits too
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    with open(handle, "rb") as file:
        status = os.fstat(handle)
        if stat.S_ISDIR(status.st_mode):
            raise IsADirectoryError(21, "Is a directory", str(path))
        if not stat.S_ISREG(status.st_mode):
            raise UserError(f"{path}: not a regular file; put the file itself there")
        content = file.read() if status.st_size <= most else b""
    if status.st_size > most or len(content) > most:
        raise UserError(f"{path}: has {max(status.st_size, len(content)):,} bytes, more than the {most:,} that are read of such a file")
    return content


def refuse_irregular(path: Path) -> None:
    """Raise `UserError` for what exists and is no regular file, before a library that would wait for it opens it."""
    if path.exists() and not path.is_file():
        raise UserError(f"{path}: not a regular file; put the file itself there")


def check_plain(value: Any, where: str | Path, advice: str = "") -> None:
    """Raise `UserError` unless a value is at most `MOST_DEPTH` deep, its texts are Unicode, and it holds at most `MOST_VALUES`.

    A YAML text of a few lines may name a list a billion times, or within itself.
    """
    level, depth, count = [value], 0, 0
    while level:
        depth, count = depth + 1, count + len(level)
        if depth > MOST_DEPTH:
            raise UserError(f"{where}: lists or mappings within one another deeper than {MOST_DEPTH}{advice}")
        if count > MOST_VALUES:
            raise UserError(f"{where}: holds more than {MOST_VALUES:,} values{advice}")
        below: list[Any] = []
        for one in level:
            if isinstance(one, dict):
                below += [*one.keys(), *one.values()]
            elif isinstance(one, list):
                below += one
            elif isinstance(one, str):
                _check_text(one, where, advice)
        level = below


def _check_text(text: str, where: str | Path, advice: str) -> None:
    if "\0" in text:
        # no file's name has one, and the system's calls end in an error of Python's own
        raise UserError(f"{where}: holds {ascii(text)[:60]}, a text with a null character{advice}")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise UserError(f"{where}: holds {ascii(text)[:60]}, half of a character{advice}") from None
