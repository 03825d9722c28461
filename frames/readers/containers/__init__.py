"""What a video file says of itself, read from its structure alone: where it is damaged, and which frames it lists."""

from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from frames.readers.containers import avi, gif, matroska, mp4
from frames.readers.containers.listing import NOTHING_LISTED, Damaged, Listing

__all__ = ["Listing", "look"]

_SUFFIXES = {
    **dict.fromkeys((".mp4", ".mov", ".m4v"), mp4.look),
    **dict.fromkeys((".mkv", ".webm"), matroska.look),
    ".avi": avi.look,
    ".gif": gif.look,
}


def look(path: Path) -> Listing:
    """Return the frames that a file lists, or its damage; neither where its format is none of those known here. Never raises."""
    try:
        # to open a pipe would be to wait for it
        if not path.is_file():
            return Listing(damage="is no file" if path.exists() else "is missing")
        size = path.stat().st_size
        if size == 0:
            return Listing(damage="an empty file")
        with open(path, "rb") as file:
            looking = _format_of(file, path.suffix.lower())
            return looking(file, size) if looking else NOTHING_LISTED
    except Damaged as damage:
        return Listing(damage=str(damage))
    except OSError as error:
        return Listing(damage=f"cannot be read ({error.strerror})")


def _format_of(file: BinaryIO, suffix: str) -> Callable[[BinaryIO, int], Listing] | None:
    """Choose by what the file begins with, since suffixes are often wrong; by the suffix where that says nothing."""
    head = file.read(12)
    if head[4:8] in (b"ftyp", b"styp"):
        return mp4.look
    if head[:4] == b"\x1a\x45\xdf\xa3":
        return matroska.look
    if head[:4] == b"RIFF" and head[8:] == b"AVI ":
        return avi.look
    return gif.look if head[:4] == b"GIF8" else _SUFFIXES.get(suffix)
