"""How often a run's training was started, and how each time ended: lines in its folder, which outlive workers and commands."""

import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

from agents.jobs import Stopped
from foundation.documents import read_lines
from foundation.errors import UserError
from foundation.files import own_file

_DYING_SECONDS = 10.0
_LEASE_SECONDS = 120.0
"""Network file systems keep a lost node's locks for a minute and more."""


@contextmanager
def attempt(folder: Path, steps: int) -> Iterator[None]:
    """Write to `attempts.jsonl` that training starts here at `steps`, and how it ends; a start without an end was killed."""
    _append(folder, {"event": "start", "host": socket.gethostname(), "process": os.getpid(), "steps": steps})
    try:
        yield
    except BaseException as error:
        end = {"event": "stopped"} if isinstance(error, Stopped) else {"event": "failed", "error": f"{type(error).__name__}: {error}"}
        # where the disk is full, the error that says so is not to be hidden by another
        with suppress(OSError, UserError):
            _append(folder, end)
        raise
    _append(folder, {"event": "finished"})


def attempts(folder: Path) -> int:
    """Return how often the training in `folder` was started; one that was finished and got more steps goes on, and is no new start."""
    events = [line["event"] for line in _lines(folder)]
    return sum(event == "start" and before != "finished" for before, event in pairwise(["none", *events]))


def lock_patience(folder: Path) -> float:
    """Return for how many seconds the process of an earlier attempt, dying or on a lost node, may still hold the folder's lock."""
    last = (_lines(folder) or [{"event": "none"}])[-1]
    return _LEASE_SECONDS if last["event"] == "start" and last.get("host") != socket.gethostname() else _DYING_SECONDS


def _append(folder: Path, line: dict[str, Any]) -> None:
    content = json.dumps({"time": datetime.now(UTC).isoformat(timespec="seconds"), **line}).encode() + b"\n"
    path = own_file(folder / "attempts.jsonl")
    before = path.read_bytes() if path.is_file() else b""
    half = before and not before.endswith(b"\n")
    # one write to the end: a killed process leaves whole lines
    with path.open("ab") as file:
        file.write(b"\n" + content if half else content)


def _lines(folder: Path) -> list[dict[str, Any]]:
    # a full disk or a lost machine leaves half of one
    return [line for line in read_lines(folder / "attempts.jsonl") if "event" in line]
