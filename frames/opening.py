"""Opening the LMDB of a store: what is no sound store is refused before it is mapped."""

import json
import os
import threading
import weakref
from pathlib import Path
from typing import Any

import lmdb

from foundation.errors import UserError
from frames import format
from frames.lmdb_pages import DamagedLmdb, UnusualLmdb, check_pages, pages_end

_UNFINISHED = "still being written; run the command that builds it again"
_FOREIGN = "an LMDB of another program, not a frame store"

# one environment per file and process: LMDB forbids a second one
_environments: weakref.WeakValueDictionary[tuple[int, int], lmdb.Environment] = weakref.WeakValueDictionary()
# when each file that was found sound had last been written, and its size
_sound: dict[tuple[int, int], tuple[int, int]] = {}
_opening = threading.Lock()


def _forget_inherited() -> None:
    """Close what a forked child inherited, which does nothing to its parent: the child opens its own."""
    global _opening
    # another thread of the parent may hold the inherited one for ever
    _opening = threading.Lock()
    for environment in list(_environments.values()):
        environment.close()
    _environments.clear()


os.register_at_fork(after_in_child=_forget_inherited)


def working_folder(path: Path) -> Path:
    """Where the store at `path` is built before it is renamed into place."""
    path = path.absolute()
    return path.with_name(path.name + ".building")


def environment_key(path: Path) -> tuple[int, int]:
    """Say which file the store at `path` is now: a renamed-over store is another one."""
    data = path / "data.mdb"
    try:
        found = data.stat()
    except OSError:
        raise UserError(_missing(path)) from None
    return found.st_dev, found.st_ino


def open_environment(path: Path) -> lmdb.Environment:
    """Return this process's environment of the store at `path`, opened read-only when it is not open yet.

    Raises `UserError` when the file is damaged: its pages are checked, once for as long as it does not change.
    """
    with _opening:
        while True:
            key = environment_key(path)
            _check(path / "data.mdb", key)
            environment = _environments.get(key) or _open(path)
            # an append may put another file there at any moment
            if environment_key(path) == key:
                _environments[key] = environment
                return environment


def _open(path: Path) -> lmdb.Environment:
    try:
        return lmdb.open(str(path), readonly=True, lock=False, create=False, readahead=False, max_dbs=0)
    except lmdb.Error as error:
        raise UserError(f"{path}: not a frame store ({' '.join(str(error).split())})") from error


def read_meta(path: Path, environment: lmdb.Environment) -> dict[str, Any]:
    """Return a store's meta record; raise `UserError` unless it is a finished store of a format we know."""
    try:
        with environment.begin() as transaction:
            content = transaction.get(format.META_KEY)
            building = transaction.get(format.PLAN_KEY) is not None
    except lmdb.Error as error:
        raise UserError(f"{path}: damaged ({' '.join(str(error).split())}); build the store again") from error
    if content is None:
        raise UserError(f"{path}: {_UNFINISHED if building else _FOREIGN}")
    try:
        meta = json.loads(content)
        known = meta["format"] == format.FORMAT
        version = meta["version"]
    except (ValueError, KeyError, TypeError):
        known, version = False, 0
    if not known:
        raise UserError(f"{path}: {_FOREIGN}")
    if isinstance(version, int) and version < format.VERSION:
        raise UserError(f"{path}: a frame store of the older format {version}, not {format.VERSION}; build it again")
    if version != format.VERSION or meta["codec"] != format.CODEC:
        newer = f"format {version}, codec '{meta.get('codec')}'; this version reads format {format.VERSION}, codec '{format.CODEC}'"
        raise UserError(f"{path}: a frame store of {newer}; update this program")
    return meta


def _check(data: Path, key: tuple[int, int]) -> None:
    """Refuse a damaged file: reading what is mapped of it would kill the process."""
    try:
        found = data.stat()
        if _sound.get(key) == (found.st_mtime_ns, found.st_size):
            return
        needed = pages_end(data)
        if found.st_size < needed:
            raise UserError(f"{data}: truncated ({found.st_size:,} of {needed:,} bytes); copy it again or build the store again")
        check_pages(data)
    except DamagedLmdb as error:
        raise UserError(f"{data}: damaged or not a frame store ({error}); copy it again or build the store again") from None
    except UnusualLmdb as error:
        raise UserError(f"{data}: damaged, or {_FOREIGN} ({error})") from None
    except OSError as error:
        raise UserError(f"{data}: cannot be read ({error.strerror})") from error
    _sound[key] = found.st_mtime_ns, found.st_size


def _missing(path: Path) -> str:
    if working_folder(path).exists():
        return f"{path}: {_UNFINISHED}"
    if not path.exists():
        return f"{path}: no such frame store; make one with: python make_frames.py build --source FOLDER --store {path}"
    return f"{path}: not a frame store (it holds no data.mdb)"
