"""Files that are either whole or absent, and locks that end with their process."""

import errno
import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from foundation.errors import FULL, UserError

_HALF_WRITTEN = ".minerl-perception-half-written"
"""How the names of temporary files end: nobody else gives such a name, and those of killed processes are removed."""


@contextmanager
def atomic_write(path: str | Path) -> Iterator[IO[bytes]]:
    """Open a temporary file for writing that takes the place of `path` on success and vanishes on failure.

    Raises `UserError` when the disk is full or not writable; `path` then still holds what it held before.
    """
    path = Path(path)
    refuse_devices(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}{_HALF_WRITTEN}")
    try:
        make_folder(path.parent)
        with open(temporary, "wb", opener=_new) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        if error.errno in (*FULL, errno.EROFS, errno.EACCES, errno.ENOTDIR, errno.EISDIR, errno.EEXIST):
            raise UserError(f"{path}: cannot be written ({error.strerror}); free some space or choose another folder") from error
        raise
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def make_folder(folder: Path) -> None:
    """Make a folder with those above it; raise `UserError` for a new one at the root of the file system, where an administrator could."""
    missing = next((one for one in reversed([folder, *folder.parents]) if not one.exists()), None)
    if missing is not None and missing.is_absolute() and len(missing.parts) == 2:
        raise UserError(f"{folder}: there is no {missing}; make it first, or choose another place")
    folder.mkdir(parents=True, exist_ok=True)


def own_file(path: Path) -> Path:
    """Make sure that a file to append to is this folder's own, there or not, and return it.

    Raises `UserError` for a link, whose target would be written to. A second name of another file, as a copy by links has it, becomes a
    file of its own.
    """
    if path.is_symlink() or (path.exists() and not path.is_file()):
        raise UserError(f"{path}: a link or no file, and what is written there would land elsewhere; remove it or choose another folder")
    if path.exists() and path.stat().st_nlink > 1:
        write_atomically(path, path.read_bytes())
    return path


def _new(path: str, flags: int) -> int:
    # a link of that name, or what a killed process of the same number left, is not written through
    with suppress(FileNotFoundError):
        os.unlink(path)
    return os.open(path, flags | os.O_EXCL | os.O_NOFOLLOW, 0o666)


def refuse_devices(path: Path) -> None:
    """Raise `UserError` for a device or a pipe, whose place a renamed file would take: /dev/stdout would be gone for all programs."""
    if path.exists() and not path.is_file() and not path.is_dir():
        raise UserError(f"{path}: not a regular file; choose another name")


def write_atomically(path: str | Path, content: bytes | memoryview | str) -> None:
    """Write `content` to `path` in one step: a reader sees the old file or the new one, never a part."""
    with atomic_write(path) as file:
        file.write(content.encode() if isinstance(content, str) else content)


def remove_half_written(folder: Path) -> None:
    """Remove what killed processes were about to write in a folder where nobody else writes now."""
    for stale in folder.glob(f".*{_HALF_WRITTEN}"):
        if stale.is_file() or stale.is_symlink():
            stale.unlink()


@contextmanager
def exclusive_lock(folder: str | Path, purpose: str, wait_seconds: float = 0.0) -> Iterator[None]:
    """Hold `folder` for this process; a second process is refused with a `UserError`, once it has waited for so long.

    The lock is the kernel's, so a killed process leaves none behind.
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder / ".lock", os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW, 0o644)
    except OSError as error:
        raise UserError(f"{folder}: cannot be written ({error.strerror}); choose another folder") from error
    try:
        try:
            _flock(handle, time.monotonic() + wait_seconds)
        except BlockingIOError:
            raise UserError(f"{folder}: another process is {purpose} here; wait for it or choose another folder") from None
        if not _is_at(handle, folder / ".lock"):
            raise UserError(f"{folder}: another process has just finished {purpose} here; run the same command again")
        remove_half_written(folder)
        yield
    finally:
        os.close(handle)


def _flock(handle: int, deadline: float) -> None:
    while True:
        try:
            return fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                raise
            time.sleep(0.1)


def _is_at(handle: int, path: Path) -> bool:
    """Say whether an open file is still the one at `path`: who held the lock before may have removed the folder."""
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except FileNotFoundError:
        return False
