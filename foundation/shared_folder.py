"""What workers on other nodes share with the command: folders under the same paths, which a file proves that lies there while it lives."""

import dataclasses
import fcntl
import secrets
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from foundation.errors import UserError


@contextmanager
def shared_token(folder: Path | None) -> Iterator[Path | None]:
    """Leave a file in `folder` for the time of the block, and remove what killed commands left; None: nothing is shared.

    Raises `UserError` where the folder cannot be written.
    """
    if folder is None:
        yield None
        return
    token = folder.absolute() / f".ray-{secrets.token_hex(8)}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _remove_stale(folder)
        file = token.open("xb")
    except OSError as error:
        raise UserError(f"{folder}: cannot be written ({error.strerror}); choose another folder") from error
    with file:
        fcntl.flock(file, fcntl.LOCK_EX)
        try:
            yield token
        finally:
            token.unlink(missing_ok=True)


def find_token(token: Path | None) -> None:
    """Raise `UserError` where this node does not see the folder that the command writes to."""
    if token is not None and not token.is_file():
        raise UserError(
            f"{token.parent}: node {socket.gethostname()} cannot see this folder, which the command made: all nodes must "
            "share the file system of --run, of encoders and of stores, under the same paths"
        )


def absolute(argument: Any) -> Any:
    """Return settings with absolute paths, down to those in tuples, lists and dataclasses."""
    if isinstance(argument, Path):
        return argument.absolute()
    if dataclasses.is_dataclass(argument) and not isinstance(argument, type):
        return dataclasses.replace(
            argument, **{one.name: absolute(getattr(argument, one.name)) for one in dataclasses.fields(argument) if one.init}
        )
    if isinstance(argument, (tuple, list)):
        return type(argument)(absolute(one) for one in argument)
    return argument


def _remove_stale(folder: Path) -> None:
    """Remove the files of commands that live no more: a living one holds the lock of its own."""
    for token in folder.glob(".ray-*"):
        with token.open("rb") as file:
            try:
                # shared, which needs no right to write
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            token.unlink(missing_ok=True)
