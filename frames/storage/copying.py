"""Copying a large file: shared with the old one where the file system can, else checked for space first."""

import errno
import fcntl
import os
import shutil
from pathlib import Path

from foundation.errors import UserError
from foundation.progress import progress_bar

# linux/fs.h: share the blocks of another file until one of the two is written (Btrfs, XFS)
_FICLONE = 0x40049409
_STEP = 64 << 20
_NOT_HERE = (errno.ENOSYS, errno.EXDEV, errno.EINVAL, errno.EOPNOTSUPP, errno.EPERM, errno.EBADF)


def copy_file(source: Path, target: Path) -> None:
    """Copy `source` to the new file `target` in the kernel, with a bar. Raises `UserError` where the disk has no room for it."""
    with open(source, "rb") as old, open(target, "wb") as new:
        try:
            fcntl.ioctl(new.fileno(), _FICLONE, old.fileno())
            return
        except OSError:
            pass
        size = os.fstat(old.fileno()).st_size
        free = shutil.disk_usage(target.parent).free
        if free < size:
            needed = f"a copy of the store needs {size / 1e6:,.0f} MB and {free / 1e6:,.0f} MB are free"
            raise UserError(f"{target.parent}: {needed}; free some space and run the same command again")
        with progress_bar("copying the store", -(-size // 1_000_000), "MB") as advance:
            copied = 0
            while count := _copy_some(old.fileno(), new.fileno(), copied):
                advance((copied + count) // 1_000_000 - copied // 1_000_000)
                copied += count


def _copy_some(old: int, new: int, at: int) -> int:
    """Copy a step from offset `at` on; return how many bytes."""
    if hasattr(os, "copy_file_range"):
        try:
            return os.copy_file_range(old, new, _STEP, at, at)
        except OSError as error:
            if error.errno not in _NOT_HERE:
                raise
    return os.pwrite(new, os.pread(old, _STEP, at), at)
