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


@contextmanager
def atomic_write(path: str | Path) -> Iterator[IO[bytes]]:
    """Open a temporary file for writing that takes the place of `path` on success and vanishes on failure.

    Raises `UserError` when the disk is full or not writable; `path` then still holds what it held before.
    """
    path = Path(path)
    refuse_devices(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "wb") as file:
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


def refuse_devices(path: Path) -> None:
    """Raise `UserError` for a device or a pipe, whose place a renamed file would take: /dev/stdout would be gone for all programs."""
    if path.exists() and not path.is_file() and not path.is_dir():
        raise UserError(f"{path}: not a regular file; choose another name")


def write_atomically(path: str | Path, content: bytes | memoryview | str) -> None:
    """Write `content` to `path` in one step: a reader sees the old file or the new one, never a part."""
    with atomic_write(path) as file:
        file.write(content.encode() if isinstance(content, str) else content)


@contextmanager
def exclusive_lock(folder: str | Path, purpose: str, wait_seconds: float = 0.0) -> Iterator[None]:
    """Hold `folder` for this process; a second process is refused with a `UserError`, once it has waited for so long.

    The lock is the kernel's, so a killed process leaves none behind.
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder / ".lock", os.O_CREAT | os.O_RDWR, 0o644)
    except OSError as error:
        raise UserError(f"{folder}: cannot be written ({error.strerror}); choose another folder") from error
    try:
        try:
            _flock(handle, time.monotonic() + wait_seconds)
        except BlockingIOError:
            raise UserError(f"{folder}: another process is {purpose} here; wait for it or choose another folder") from None
        if not _is_at(handle, folder / ".lock"):
            raise UserError(f"{folder}: another process has just finished {purpose} here; run the same command again")
        # what a killed process was about to write; nobody else writes here now
        for stale in folder.glob(".*.tmp"):
            stale.unlink()
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
