"""How a game's process is started, Minecraft or the voxel server, both through the launcher of `minerl`, and how it is ended."""

import atexit
import fcntl
import os
import select
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from envs.minerl import installation, processes
from envs.minerl.game import GameDied
from foundation.environment import environment_variables
from foundation.errors import UserError

_GRACE = 5.0
"""Seconds that a process has to end by itself before it is killed."""
_LAST_MOMENT = 0.5
_LOG_FOLDER = "MALMO_MINECRAFT_OUTPUT_LOGDIR"
_ROOT = Path(__file__).resolve().parent.parent.parent

# the launcher is configured by class attributes and environment variables of the whole process
_in_this_process = threading.Lock()


class Launched:
    """A running game: `instance` is what `minerl`'s client talks to, `folder` holds its log and is removed at the end.

    `helpers` are the processes that serve it: one that watches over it first, a screen for Minecraft.
    """

    def __init__(self, instance: Any, folder: Path, helpers: Sequence[subprocess.Popen[bytes]] = ()) -> None:
        self.instance = instance
        self._folder = folder
        self._helpers = helpers
        self._ended = False
        atexit.register(self.end)

    def processes(self) -> list[int]:
        """Return the ids of the game's processes that live, and of those that serve it."""
        found = [] if self._ended else _group(self.instance.minecraft_process)
        return found + [helper.pid for helper in self._helpers if helper.poll() is None]

    def last_words(self) -> str:
        """Say whether the process has ended, and what it printed last."""
        # a connection breaks a moment before the process that held it is gone, and its output is read
        status = _exit_status(self.instance.minecraft_process, _LAST_MOMENT)
        if status is not None:
            self.instance._logger_thread.join(_LAST_MOMENT)
        state = "its process lives" if status is None else f"its process has ended with status {status}"
        logs = "".join(path.read_text(errors="replace") for path in self._folder.glob("logs/*.log"))
        return f"{state}{_printed_last(logs)}"

    def end(self) -> None:
        """End the processes and remove what they wrote; a second call does nothing."""
        if self._ended:
            return
        self._ended = True
        atexit.unregister(self.end)
        # the guard first of all: it would otherwise end the same process, whose number may by then be another's
        for helper in self._helpers[:1]:
            _stop(helper)
        _end_group(self.instance.minecraft_process)
        for helper in self._helpers[1:]:
            _stop(helper)
        _forget(self.instance)
        shutil.rmtree(self._folder, ignore_errors=True)


def launch(server: str, timeout: float, headless: bool | None = None) -> Launched:
    """Start a game and wait at most `timeout` seconds until it listens.

    `headless` Minecraft runs under xvfb; None: where there is no display. Raises `GameDied` with what the game printed last, and
    `UserError` where Minecraft or xvfb is not installed.
    """
    from minerl.env.malmo import InstanceManager

    # where a later run finds it, should this one be killed: Minecraft's copy has hundreds of megabytes
    folder = Path(tempfile.mkdtemp(prefix="game-", dir=processes.own_folder()))
    try:
        if server == "voxel":
            return Launched(_launch_stand_in(InstanceManager, folder, timeout), folder)
        installation.check_minecraft()
        return _launch_minecraft(InstanceManager, folder, timeout, needs_xvfb(headless))
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _launch_stand_in(manager: Any, folder: Path, timeout: float) -> Any:
    minecraft, schemas = write_stand_in(folder / "stand-in")
    with _in_this_process, _launcher(manager, minecraft, schemas), environment_variables({_LOG_FOLDER: str(folder)}):
        return _start(manager, "the voxel server", folder, timeout)


def _launch_minecraft(manager: Any, folder: Path, timeout: float, headless: bool) -> Launched:
    screen = _start_screen(folder, timeout) if headless else None
    # minerl 1.0 does not know how to do without a screen, so it gets one, and 0.4.4 too
    variables = {_LOG_FOLDER: str(folder), "MINERL_HEADLESS": "0", **({"DISPLAY": screen[1]} if screen else {})}
    try:
        with _in_this_process, start_lock(timeout), environment_variables(variables):
            instance = _start(manager, "Minecraft", folder, timeout)
    except BaseException:
        if screen:
            _stop(screen[0])
        raise
    screens = [screen[0]] if screen else []
    guard = _watch_over([instance.minecraft_process.pid, *(process.pid for process in screens)])
    return Launched(instance, folder, [guard, *screens])


def write_stand_in(folder: Path) -> tuple[Path, Path]:
    """Write what `minerl` takes for Minecraft's folder and its schemas: a `launchClient.sh` that starts the voxel server.

    Return both, for `InstanceManager.MINECRAFT_DIR` and `SCHEMAS_DIR`, in whichever interpreter `minerl` runs.
    """
    minecraft, schemas = folder / "Minecraft", folder / "Schemas"
    minecraft.mkdir(parents=True)
    schemas.mkdir()
    script = minecraft / "launchClient.sh"
    command = shlex.join(["env", f"PYTHONPATH={_ROOT}", sys.executable, "-u", "-m", "envs.minerl.voxel_server"])
    script.write_text(f'#!/bin/sh\nexec {command} "$@"\n')
    script.chmod(0o755)
    return minecraft, schemas


def needs_xvfb(headless: bool | None) -> bool:
    """Say whether Minecraft is to run under xvfb; raises `UserError` where that is not installed."""
    wanted = not os.environ.get("DISPLAY") if headless is None else headless
    if wanted and shutil.which("Xvfb") is None:
        raise UserError("Minecraft needs a display: install xvfb (apt-get install xvfb), or set DISPLAY and headless=False")
    return wanted


@contextmanager
def start_lock(timeout: float) -> Iterator[None]:
    """Let one Minecraft of this user start at a time: several at once take each other's ports. Raises `GameDied` after `timeout`."""
    path = processes.own_folder().parent / "start.lock"
    handle = os.open(path, os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW, 0o600)
    try:
        deadline = time.monotonic() + timeout
        while True:
            with suppress(BlockingIOError):
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            if time.monotonic() > deadline:
                raise GameDied(f"another Minecraft of this user has been starting for {timeout:.0f} s; see {path}")
            time.sleep(0.1)
        yield
    finally:
        os.close(handle)


def _start(manager: Any, what: str, folder: Path, timeout: float) -> Any:
    # with an id of its own, since without one the manager may hand out an instance that is somebody else's
    instance = manager.get_instance(os.getpid(), instance_id=manager.ninstances + 1)
    late = threading.Event()

    def give_up() -> None:
        late.set()
        _signal_group(instance.minecraft_process, signal.SIGKILL)

    watchdog = threading.Timer(timeout, give_up)
    watchdog.daemon = True
    watchdog.start()
    try:
        # daemonize: no watcher of minerl's own, which would write a folder of logs into the user's
        with _temporary_folders_in(folder, sys.modules[type(instance).__module__]):
            instance.launch(daemonize=True, replaceable=False)
    except BaseException as error:
        if instance.minecraft_process is not None:
            _end_group(instance.minecraft_process)
        _end_unnoticed(folder)
        _forget(instance)
        if not isinstance(error, Exception):
            raise
        how = f"did not start within {timeout:.0f} s" if late.is_set() else "did not start"
        raise GameDied(f"{what} {how}{_printed_last(str(error))}") from error
    finally:
        watchdog.cancel()
    instance.had_to_clean = False
    return instance


def _printed_last(output: str, lines: int = 3, longest: int = 400) -> str:
    # the launcher's own last sentence says only that it ended
    kept = [line.strip() for line in output.splitlines() if line.strip() and "process finished unexpectedly" not in line]
    said = " | ".join(kept[-lines:])
    return f"; it printed last: {said[-longest:]}" if said else ""


@contextmanager
def _launcher(manager: Any, minecraft: Path, schemas: Path) -> Iterator[None]:
    before = manager.MINECRAFT_DIR, manager.SCHEMAS_DIR
    manager.MINECRAFT_DIR, manager.SCHEMAS_DIR = str(minecraft), str(schemas)
    try:
        yield
    finally:
        manager.MINECRAFT_DIR, manager.SCHEMAS_DIR = before


@contextmanager
def _temporary_folders_in(folder: Path, module: Any) -> Iterator[None]:
    """Let the launcher copy Minecraft into `folder`."""
    before = module.tempfile
    module.tempfile = SimpleNamespace(mkdtemp=partial(tempfile.mkdtemp, dir=folder))
    try:
        yield
    finally:
        module.tempfile = before


def _watch_over(leaders: Sequence[int]) -> subprocess.Popen[bytes]:
    """Start what ends these process groups when this process is gone; it sees that by the end of its standard input."""
    command = [sys.executable, "-I", str(Path(__file__).with_name("guard.py")), *map(str, leaders)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True)


def _start_screen(folder: Path, timeout: float) -> tuple[subprocess.Popen[bytes], str]:
    """Start an X server without a monitor for the game of `folder`; return it and its DISPLAY."""
    reading, writing = os.pipe()
    command = ["Xvfb", "-displayfd", str(writing), "-screen", "0", "1024x768x24", "-nolisten", "tcp"]
    with os.fdopen(reading) as answer:
        try:
            screen = subprocess.Popen(
                command,
                env={**os.environ, _LOG_FOLDER: str(folder)},
                pass_fds=[writing],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        finally:
            os.close(writing)
        number = answer.readline().strip() if select.select([answer], [], [], timeout)[0] else ""
    if not number:
        status = _exit_status(screen, _LAST_MOMENT)
        _stop(screen)
        raise GameDied(f"Xvfb did not start: {f'no answer within {timeout:.0f} s' if status is None else f'it ended with status {status}'}")
    return screen, f":{number}"


def _stop(helper: subprocess.Popen[bytes]) -> None:
    helper.kill()
    helper.wait()
    if helper.stdin is not None:
        helper.stdin.close()


def _group(process: Any) -> list[int]:
    """Return the living processes of a game: the launcher makes each game the first of a process group."""
    import psutil

    found = []
    for other in psutil.process_iter():
        with suppress(ProcessLookupError, psutil.NoSuchProcess):
            if os.getpgid(other.pid) == process.pid and other.status() != psutil.STATUS_ZOMBIE:
                found.append(other.pid)
    return found


def _signal_group(process: Any, number: int) -> None:
    # until the first of the group is collected, nobody else gets its number
    if process is not None and process.returncode is None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)


def _exit_status(process: Any, timeout: float) -> int | None:
    """Wait until a process has ended, without collecting it; return its status as subprocess has it, None where it lives on."""
    deadline = time.monotonic() + timeout
    while process.returncode is None:
        result = os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        if result is not None:
            return result.si_status if result.si_code == os.CLD_EXITED else -result.si_status
        if time.monotonic() > deadline:
            return None
        time.sleep(0.01)
    return process.returncode


def _end_group(process: Any) -> None:
    _signal_group(process, signal.SIGTERM)
    _exit_status(process, _GRACE)
    _signal_group(process, signal.SIGKILL)
    deadline = time.monotonic() + _GRACE
    while process.returncode is None and _group(process) and time.monotonic() < deadline:
        time.sleep(0.01)
    process.wait()


def _end_unnoticed(folder: Path) -> None:
    """End what was started for `folder` in the moment before an interrupt, of which no object knows yet."""
    import psutil

    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            if child.environ().get(_LOG_FOLDER) == str(folder):
                child.kill()
                child.wait(_GRACE)


def _forget(instance: Any) -> None:
    """Take an instance out of `minerl`'s hands, which would wait three seconds and search for processes of its own."""
    instance.running = instance._starting = False
    reader = getattr(instance, "_logger_thread", None)
    if reader is not None:
        reader.join(_GRACE)
    if instance.minecraft_process is not None:
        instance.minecraft_process.stdout.close()
    pool = sys.modules[type(instance).__module__].InstanceManager._instance_pool
    if instance in pool:
        pool.remove(instance)
