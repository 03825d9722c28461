"""Opening the LMDB of a store: what is no sound store is refused before it is mapped."""

import json
import os
import struct
import weakref
from pathlib import Path
from typing import Any

import lmdb

from foundation.errors import UserError
from frames import format

_MAGIC = 0xBEEFC0DE
_META_PAGE = 152
_UNFINISHED = "still being written; run the command that builds it again"
_FOREIGN = "an LMDB of another program, not a frame store"
_PAGE_SIZE_AT, _LAST_PAGE_AT = 40, 136

# one environment per file and process: LMDB forbids a second one
_environments: weakref.WeakValueDictionary[tuple[int, int], lmdb.Environment] = weakref.WeakValueDictionary()


def _forget_inherited() -> None:
    """Close what a forked child inherited, which does nothing to its parent: the child opens its own."""
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
    """Return this process's environment of the store at `path`, opened read-only when it is not open yet."""
    key = environment_key(path)
    environment = _environments.get(key)
    if environment is None:
        _check_size(path / "data.mdb")
        try:
            environment = lmdb.open(str(path), readonly=True, lock=False, create=False, readahead=False, max_dbs=0)
        except lmdb.Error as error:
            raise UserError(f"{path}: not a frame store ({' '.join(str(error).split())})") from error
        _environments[key] = environment
    return environment


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


def pages_end(data: Path) -> int:
    """Return the bytes that an LMDB file must have by its own count; raise ValueError when it is no LMDB file.

    The two meta pages begin with a 16-byte page header; then come magic, version, address, map size, two databases of 48 bytes
    (the first four bytes of the first hold the page size) and the number of the last page (LMDB's MDB_meta).
    """
    ends = []
    with open(data, "rb") as file:
        first = file.read(_META_PAGE)
        page_size = _number(first, "<I", _PAGE_SIZE_AT)
        file.seek(page_size)
        for page in (first, file.read(_META_PAGE)):
            if _number(page, "<I", 16) != _MAGIC:
                raise ValueError("not an LMDB file")
            ends.append((_number(page, "<Q", _LAST_PAGE_AT) + 1) * page_size)
    return max(ends)


def _number(page: bytes, kind: str, at: int) -> int:
    if len(page) < _META_PAGE:
        raise ValueError("too short for an LMDB file")
    return int(struct.unpack_from(kind, page, at)[0])


def _check_size(data: Path) -> None:
    """Refuse a truncated file: reading a mapped page behind its end would kill the process."""
    try:
        needed, size = pages_end(data), data.stat().st_size
    except ValueError as error:
        raise UserError(f"{data}: not a frame store ({error})") from None
    except OSError as error:
        raise UserError(f"{data}: cannot be read ({error.strerror})") from error
    if size < needed:
        raise UserError(f"{data}: truncated ({size:,} of {needed:,} bytes); copy it again or build the store again")


def _missing(path: Path) -> str:
    if working_folder(path).exists():
        return f"{path}: {_UNFINISHED}"
    if not path.exists():
        return f"{path}: no such frame store; make one with: python make_frames.py build --source FOLDER --store {path}"
    return f"{path}: not a frame store (it holds no data.mdb)"
