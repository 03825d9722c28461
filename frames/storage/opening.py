"""Opening the file of a store: what is no sound and finished store is refused with the reason."""

import json
import os
from pathlib import Path
from typing import Any

from foundation.errors import UserError
from frames.storage import format
from frames.storage.lmdb_pages import DamagedLmdb, UnreadableLmdb, pages_end
from frames.storage.reading import StoreFile

_UNFINISHED = "still being written; run the command that builds it again"
_FOREIGN = "an LMDB of another program, not a frame store"


def place_of(path: Path) -> Path:
    """Return the folder that is the store at `path`: where a link leads, else `path` itself; raise `UserError` for a circle of links."""
    if not path.is_symlink():
        return path
    # Path.resolve raises where links lead in a circle, and this ends at one of them
    place = Path(os.path.realpath(path))
    if place.is_symlink():
        raise UserError(f"{path}: leads to a link that leads back to it; remove it or choose another folder")
    return place


def working_folder(path: Path) -> Path:
    """Where the store at `path` is built before it is renamed into place; raise `UserError` for the root of all folders."""
    path = place_of(path).absolute()
    if not path.name:
        raise UserError(f"{path}: cannot be a frame store; give a folder of its own, such as {path / 'store'}")
    return path.with_name(path.name + ".building")


def open_file(path: Path) -> StoreFile:
    """Return the file of the store at `path`, its pages checked; raise `UserError` when it is missing, truncated or damaged."""
    data = path / "data.mdb"
    try:
        while True:
            found, needed = data.stat(), pages_end(data)
            if found.st_size >= needed:
                return StoreFile(data)
            # unless an append put another file in its place in between
            if os.path.samestat(found, data.stat()):
                raise UserError(f"{data}: truncated ({found.st_size:,} of {needed:,} bytes); copy it again or build the store again")
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(_missing(path)) from None
    except OSError as error:
        raise UserError(f"{data}: it cannot be read: {error.strerror}") from error
    except UnreadableLmdb as error:
        raise UserError(f"{data}: {error}") from error
    except DamagedLmdb as error:
        raise UserError(f"{data}: damaged or not a frame store ({error}); copy it again or build the store again") from None


def read_meta(path: Path, file: StoreFile) -> dict[str, Any]:
    """Return a store's meta record; raise `UserError` unless it is a finished store of a format we know."""
    content, building = file.value(format.META_KEY), format.PLAN_KEY in file.extents
    if content is None:
        raise UserError(f"{path}: {_UNFINISHED if building else _FOREIGN}")
    try:
        meta = json.loads(content)
        known = meta["format"] == format.FORMAT
        version = meta["version"]
    except (ValueError, KeyError, TypeError, RecursionError):
        known, version = False, 0
    if not known:
        raise UserError(f"{path}: {_FOREIGN}")
    if isinstance(version, int) and version < format.VERSION:
        raise UserError(f"{path}: a frame store of the older format {version}, not {format.VERSION}; build it again")
    if version != format.VERSION or meta.get("codec") != format.CODEC:
        newer = f"format {version}, codec '{meta.get('codec')}'; this version reads format {format.VERSION}, codec '{format.CODEC}'"
        raise UserError(f"{path}: a frame store of {newer}; update this program")
    if file.value(format.SEAL_KEY) != format.seal(content):
        raise UserError(f"{path}: damaged (its meta record is not what was written); copy it again or build the store again")
    return meta


def _missing(path: Path) -> str:
    if working_folder(path).exists():
        return f"{path}: {_UNFINISHED}"
    if not path.exists():
        return f"{path}: no such frame store; make one with: python make_frames.py build --source FOLDER --store {path}"
    return f"{path}: not a frame store (it holds no data.mdb)"
