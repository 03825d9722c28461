"""A manifest: a CSV file that says of each recording what to drop, where it belongs, and what it must be."""

import csv
import hashlib
import io
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from foundation.errors import UserError
from frames.curation.splits import known_split, strictest_split
from frames.readers.recording import Recording
from frames.storage.format import Split

_HASH_DIGITS = 64


@dataclass(frozen=True, kw_only=True)
class Row:
    """What a line of the manifest says of a file or folder; None where it says nothing.

    `drop_lead` and `drop_tail` are counts of frames, `bytes` is the file's size, `frames` how many frames are read of it.
    """

    drop_lead: int | None = None
    drop_tail: int | None = None
    split: Split | None = None
    group: str | None = None
    frames: int | None = None
    sha256: str | None = None
    bytes: int | None = None


@dataclass(frozen=True, kw_only=True)
class Entry:
    """What the manifest says of a recording, whose files may stand on several lines.

    `frames` is their sum, None where they do not tell. `rows` holds the line of each file that can be checked.
    """

    drop_lead: int | None = None
    drop_tail: int | None = None
    split: Split | None = None
    groups: frozenset[str] = frozenset()
    frames: int | None = None
    rows: Mapping[Path, Row] = field(default_factory=dict)


def read_manifest(path: str | Path) -> dict[Path, Row]:
    """Return the rows of a CSV file by the resolved path of the file or folder that they name.

    The column `file` is needed, relative to the manifest's folder; those of `Row` are used where present, others are passed over.
    Raises `UserError` with the line's number where something is not as it must be.
    """
    path = Path(path)
    try:
        text = manifest_content(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise UserError(f"{path}, line {line}: is not UTF-8; save the manifest as CSV in UTF-8") from error
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    rows: dict[Path, Row] = {}
    try:
        _check_columns(path, list(reader.fieldnames or ()))
        for cells in reader:
            file, row = _read_row(f"{path}, line {reader.line_num}", path.parent, cells)
            if file in rows:
                raise UserError(f"{path}, line {reader.line_num}: names {cells['file']} a second time; keep one of the lines")
            rows[file] = row
    except csv.Error as error:
        raise UserError(f"{path}, line {reader.reader.line_num}: is not CSV ({error})") from error
    return rows


def manifest_content(path: str | Path) -> bytes:
    """Return the bytes of the file, or raise `UserError`."""
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise UserError(f"{path}: the manifest cannot be read ({error.strerror})") from error


def entries(rows: Mapping[Path, Row], recordings: Iterable[Recording]) -> dict[str, Entry]:
    """Return what a manifest says of each recording that it names, by the recording's name."""
    found = {recording.name: _entry(rows, recording) for recording in recordings}
    return {name: entry for name, entry in found.items() if entry is not None}


def missing(rows: Mapping[Path, Row], source: Path) -> list[str]:
    """Return what a manifest names below the folder `source` that is not there: a slip of the pen, or a recording that got lost."""
    top = _resolved(source)
    return [str(file.relative_to(top)) for file in rows if file.is_relative_to(top) and not os.path.exists(file)]


def groups(found: Mapping[str, Entry]) -> list[set[str]]:
    """Return the recordings that share a group of the manifest, as sets of names."""
    members: dict[str, set[str]] = {}
    for name, entry in found.items():
        for group in entry.groups:
            members.setdefault(group, set()).add(name)
    return [names for names in members.values() if len(names) > 1]


def damage(file: Path, row: Row) -> str | None:
    """Return what tells a file from the one that the manifest means, None when it is that one.

    The size counts only without a hash: some manifests give the size of all that belongs to a recording.
    """
    if row.sha256 is not None:
        with file.open("rb") as content:
            found = hashlib.file_digest(content, "sha256").hexdigest()
        return None if found == row.sha256 else f"has another sha256 than the manifest says ({found[:12]}..., not {row.sha256[:12]}...)"
    size = file.stat().st_size
    return None if row.bytes in (None, size) else f"has {size:,} bytes, the manifest says {row.bytes:,}"


def _entry(rows: Mapping[Path, Row], recording: Recording) -> Entry | None:
    files = dict.fromkeys([recording.path, *recording.files])
    named = {file: rows[resolved] for file in files if (resolved := _resolved(file)) in rows}
    if not named:
        return None
    splits = [row.split for row in named.values() if row.split is not None]
    return Entry(
        drop_lead=_largest(row.drop_lead for row in named.values()),
        drop_tail=_largest(row.drop_tail for row in named.values()),
        split=strictest_split(splits) if splits else recording.split,
        groups=frozenset(row.group for row in named.values() if row.group is not None),
        frames=_frames(recording, named),
        rows={file: row for file, row in named.items() if row.bytes is not None or row.sha256 is not None},
    )


def _frames(recording: Recording, named: Mapping[Path, Row]) -> int | None:
    counts = {file: row.frames for file, row in named.items() if row.frames is not None}
    if recording.path in counts:
        return counts[recording.path]
    # pictures count one by one, so that all must be named
    whole = recording.ordered or len(counts) == len(recording.files)
    return sum(counts.values()) if counts and whole else None


def _largest(values: Iterable[int | None]) -> int | None:
    return max((value for value in values if value is not None), default=None)


def _read_row(where: str, folder: Path, cells: Mapping[Any, Any]) -> tuple[Path, Row]:
    if None in cells:
        raise UserError(f"{where}: has more cells than the first line has columns")
    name = (cells["file"] or "").strip()
    if not name or "\0" in name:
        raise UserError(f"{where}: the column 'file' is empty; give the recording's path below {folder}")
    values = {}
    for column, convert in _COLUMNS.items():
        cell = (cells.get(column) or "").strip()
        if cell:
            try:
                values[column] = convert(cell)
            except (ValueError, UserError) as error:
                raise UserError(f"{where}: '{column}' is '{cell}'; {error}") from None
    file = _resolved(folder / name)
    if os.path.isdir(file) and not values.keys().isdisjoint({"sha256", "bytes"}):
        raise UserError(f"{where}: {name} is a folder, which has no sha256 or bytes of its own; name its video")
    return file, Row(**values)


def _check_columns(path: Path, columns: list[str]) -> None:
    if "file" not in columns:
        raise UserError(f"{path}, line 1: no column 'file'; the first line names the columns with commas between, 'file' among them")
    for column in ("file", *_COLUMNS):
        if columns.count(column) > 1:
            raise UserError(f"{path}, line 1: two columns '{column}'; keep one of them")


def _resolved(file: Path) -> Path:
    # Path.resolve raises where links lead in a circle
    return Path(os.path.realpath(file))


def _count(cell: str) -> int:
    if not (cell.isascii() and cell.isdigit()):
        raise ValueError("it must be a whole number of 0 or more")
    return int(cell)


def _hash(cell: str) -> str:
    if len(cell) != _HASH_DIGITS or set(cell.lower()) - set("0123456789abcdef"):
        raise ValueError(f"it must be {_HASH_DIGITS} hexadecimal digits")
    return cell.lower()


_COLUMNS: Mapping[str, Callable[[str], Any]] = {
    "drop_lead": _count,
    "drop_tail": _count,
    "split": known_split,
    "group": str,
    "frames": _count,
    "sha256": _hash,
    "bytes": _count,
}
