"""What the disk says, in the user's words."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import lmdb

from foundation.errors import UserError
from frames.storage.opening import working_folder

_FORBIDDEN = (errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EEXIST, errno.ENAMETOOLONG)
# LMDB reports a write that a full disk cut short as an input/output error
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn a full or read-only disk into a `UserError`; what was committed before stays."""
    try:
        yield
    except (OSError, lmdb.Error) as error:
        text = " ".join(str(error).split())
        number = error.errno if isinstance(error, OSError) else _number_in(text)
        if number in _FORBIDDEN:
            raise UserError(f"{path}: cannot be written ({text}); choose another folder") from error
        if number in _FULL:
            problem = f"the disk is full or failing ({text})"
            raise UserError(f"{path}: {problem}; free some space and run the same command again: it goes on") from error
        if number == errno.ENOENT:
            raise UserError(f"{path}: its working folder was removed meanwhile ({text}); run the same command again") from error
        remedy = f"if that stays so when the same command runs again, remove {working_folder(path)}"
        raise UserError(f"{path}: cannot be written ({text}); {remedy}") from error


def _number_in(text: str) -> int | None:
    """LMDB gives the system's errors as text only."""
    return next((number for number in (*_FORBIDDEN, *_FULL, errno.ENOENT) if os.strerror(number) in text), None)
