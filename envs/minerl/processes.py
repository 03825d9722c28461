"""Processes that games started: which live, which a crashed run left behind, and how they are ended.

A process is known by its id and its start time, so that another one with a recycled id is never taken for it.
"""

import atexit
import json
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from foundation.errors import UserError
from foundation.files import write_atomically

MARK = "MINERL_PERCEPTION_GAME"
"""An environment variable that every process of a game in another interpreter inherits; its value is the game's own."""

_PROC = Path("/proc")


class Started(NamedTuple):
    """A process: its id, and when it started in clock ticks since boot."""

    pid: int
    since: int


def identify(pid: int) -> Started | None:
    """Return a living process, or None where there is none of this id; one that waits to be collected does not live."""
    try:
        # the name in parentheses may hold spaces
        fields = (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except (OSError, UnicodeDecodeError):
        return None
    return None if fields[0] in "ZX" else Started(pid, int(fields[19]))


def lives(process: Started) -> bool:
    """Whether this very process lives."""
    return identify(process.pid) == process


def marked(value: str) -> list[Started]:
    """Return the living processes of this user whose environment holds `MARK` with `value`, this process left out."""
    entry = f"{MARK}={value}".encode()
    found = [process for process in _all() if process.pid != os.getpid() and entry in _environment(process.pid)]
    # one that was about to end has ended by now
    return [process for process in found if lives(process)]


def descendants(pid: int) -> list[Started]:
    """Return the living processes below a process, children before their own."""
    children: dict[int, list[Started]] = {}
    for process in _all():
        with suppress(OSError, UnicodeDecodeError):
            parent = int((_PROC / str(process.pid) / "stat").read_text().rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(process)
    found, todo = [], [pid]
    while todo:
        below = children.pop(todo.pop(), [])
        found += below
        todo += [process.pid for process in below]
    return found


def end(processes: Iterable[Started], patience: float = 5.0) -> None:
    """Kill processes and wait until they are gone, `patience` seconds at most. Those that stand still end too."""
    left = [process for process in processes if lives(process)]
    for process in left:
        with suppress(ProcessLookupError, PermissionError):
            os.kill(process.pid, signal.SIGKILL)
    until = time.monotonic() + patience
    while left and time.monotonic() < until:
        time.sleep(0.01)
        left = [process for process in left if lives(process)]


def own_folder() -> Path:
    """Return this process's folder for what its games write, which goes when it ends, or when a later run finds it dead.

    Raises `UserError` where the folder of all this user's runs belongs to somebody else.
    """
    folder = _home() / _name(_this())
    if not folder.is_dir():
        folder.mkdir(mode=0o700)
        atexit.register(_leave, folder, os.getpid())
    return folder


def write_down(game: str, processes: Iterable[Started]) -> None:
    """Record what a game of this process has started, for a later run to end should this process be killed; nothing: forget it."""
    path, processes = own_folder() / f"{game}.json", list(processes)
    if processes:
        write_atomically(path, json.dumps(processes))
    else:
        path.unlink(missing_ok=True)


def end_stale() -> list[Started]:
    """End what this user's dead runs on this machine have left, and remove their folders; return the processes ended."""
    ended = []
    for folder in sorted(_home().iterdir()):
        driver = _driver(folder)
        if driver is None or lives(driver):
            continue
        recorded = {process for path in folder.glob("*.json") for process in _recorded(path) if lives(process)}
        left = sorted(recorded | _writing_in(folder))
        end(left)
        ended += left
        shutil.rmtree(folder, ignore_errors=True)
    return ended


def _all() -> Iterator[Started]:
    """Go through the living processes of this user."""
    for entry in _PROC.iterdir() if _PROC.is_dir() else ():
        with suppress(OSError):
            if entry.name.isdecimal() and entry.stat().st_uid == os.getuid() and (process := identify(int(entry.name))):
                yield process


def _writing_in(folder: Path) -> set[Started]:
    """Return the processes that were told to write into `folder`: those of games that were not recorded yet when their run was killed."""
    inside = f"={folder}/".encode()
    others = (process for process in _all() if process.pid != os.getpid())
    return {process for process in others if any(inside in entry for entry in _environment(process.pid))}


def _environment(pid: int) -> list[bytes]:
    try:
        return (_PROC / str(pid) / "environ").read_bytes().split(b"\0")
    except OSError:
        return []


def _home() -> Path:
    """Return the folder of this user's runs, which nobody else may write to: what it lists is killed."""
    folder = Path(tempfile.gettempdir()) / f"minerl-perception-{os.getuid()}"
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    status = folder.lstat()
    if folder.is_symlink() or not folder.is_dir() or status.st_uid != os.getuid() or status.st_mode & 0o022:
        raise UserError(f"{folder}: belongs to or is writable by others; remove it, or set TMPDIR to a folder of your own")
    return folder


def _this() -> Started:
    return identify(os.getpid()) or Started(os.getpid(), 0)


def _name(driver: Started) -> str:
    return f"{_machine()}.{driver.pid}.{driver.since}"


def _machine() -> str:
    """Name this boot of this machine and this container: process ids mean nothing elsewhere."""
    try:
        boot = (_PROC / "sys/kernel/random/boot_id").read_text().strip()
        return f"{boot}.{os.stat('/proc/self/ns/pid').st_ino}"
    except OSError:
        return f"{os.uname().nodename}.0"


def _driver(folder: Path) -> Started | None:
    """Return which process's folder this is, or None for one of another machine."""
    machine, _, rest = folder.name.partition(f"{_machine()}.")
    pid, _, since = rest.partition(".")
    return Started(int(pid), int(since)) if not machine and pid.isdecimal() and since.isdecimal() else None


def _recorded(path: Path) -> list[Started]:
    """Read a record; one that a full disk has cut off lists nothing."""
    try:
        return [Started(int(pid), int(since)) for pid, since in json.loads(path.read_text())]
    except (OSError, ValueError, TypeError):
        return []


def _leave(folder: Path, pid: int) -> None:
    # a forked child inherits the call, but the folder is its parent's
    if os.getpid() == pid:
        shutil.rmtree(folder, ignore_errors=True)
