"""How a game's process is started, Minecraft or the voxel server, both through the launcher of `minerl`, and how it is ended."""

import atexit
import fcntl
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from envs.minerl import installation, processes
from envs.minerl.game import GameDied
from foundation.errors import UserError

_GRACE = 5.0
"""Seconds that a process has to end by itself before it is killed."""
_LAST_MOMENT = 0.5
_ROOT = Path(__file__).resolve().parent.parent.parent

# the launcher is configured by class attributes and environment variables of the whole process
_in_this_process = threading.Lock()


class Launched:
    """A running game: `instance` is what `minerl`'s client talks to, `folder` holds its log and is removed at the end."""

    def __init__(self, instance: Any, folder: Path, guard: subprocess.Popen[bytes] | None) -> None:
        self.instance = instance
        self._folder = folder
        self._guard = guard
        self._ended = False
        atexit.register(self.end)

    def processes(self) -> list[int]:
        """Return the ids of the game's processes that live, and of the one that watches over them."""
        import psutil

        found: list[int] = []
        with suppress(psutil.NoSuchProcess):
            game = psutil.Process(self.instance.minecraft_process.pid)
            found += [process.pid for process in (game, *game.children(recursive=True)) if process.status() != psutil.STATUS_ZOMBIE]
        if self._guard is not None and self._guard.poll() is None:
            found.append(self._guard.pid)
        return [] if self._ended else found

    def last_words(self) -> str:
        """Say whether the process has ended, and what it printed last."""
        # a connection breaks a moment before the process that held it is gone, and its output is read
        with _suppressed_timeout():
            self.instance.minecraft_process.wait(_LAST_MOMENT)
            self.instance._logger_thread.join(_LAST_MOMENT)
        status = self.instance.minecraft_process.poll()
        state = "its process lives" if status is None else f"its process has ended with status {status}"
        logs = "".join(path.read_text(errors="replace") for path in self._folder.glob("logs/*.log"))
        return f"{state}{_printed_last(logs)}"

    def end(self) -> None:
        """End the processes and remove what they wrote; a second call does nothing."""
        if self._ended:
            return
        self._ended = True
        atexit.unregister(self.end)
        if self._guard is not None:
            # first of all: it would otherwise end the same process, whose number may by then be another's
            self._guard.kill()
            self._guard.communicate()
        _end_group(self.instance.minecraft_process)
        _forget(self.instance)
        shutil.rmtree(self._folder, ignore_errors=True)


def launch(server: str, timeout: float, headless: bool | None = None) -> Launched:
    """Start a game and wait at most `timeout` seconds until it listens.

    `headless` Minecraft runs under xvfb; None: where there is no display. Raises `GameDied` with what the game printed last, and
    `UserError` where Minecraft or xvfb is not installed.
    """
    from minerl.env.malmo import InstanceManager

    folder = Path(tempfile.mkdtemp(prefix="minerl-"))
    try:
        variables = {"MALMO_MINECRAFT_OUTPUT_LOGDIR": str(folder)}
        if server == "voxel":
            minecraft, schemas = write_stand_in(folder / "stand-in")
            with _in_this_process, _launcher(InstanceManager, minecraft, schemas), _environment(variables):
                return Launched(_start(InstanceManager, server, timeout), folder, None)
        installation.check_minecraft()
        variables["MINERL_HEADLESS"] = "1" if needs_xvfb(headless) else "0"
        with _in_this_process, start_lock(timeout), _environment(variables):
            instance = _start(InstanceManager, server, timeout)
        return Launched(instance, folder, _watch_over(instance.minecraft_process.pid))
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


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
    if wanted and shutil.which("xvfb-run") is None:
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


def _start(manager: Any, server: str, timeout: float) -> Any:
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
        instance.launch(daemonize=True, replaceable=False)
    except Exception as error:
        if instance.minecraft_process is not None:
            _end_group(instance.minecraft_process)
        _forget(instance)
        what = "Minecraft" if server == "minecraft" else "the voxel server"
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
def _environment(variables: dict[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _watch_over(process: int) -> subprocess.Popen[bytes]:
    """Start what ends the game when this process is gone; it sees that by the end of its standard input."""
    guard = Path(__file__).with_name("guard.py")
    return subprocess.Popen([sys.executable, "-I", str(guard), str(process)], stdin=subprocess.PIPE, start_new_session=True)


def _signal_group(process: Any, number: int) -> None:
    """Signal a game and all that it has started: the launcher makes each game the first of a process group."""
    if process is not None and process.returncode is None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)


def _end_group(process: Any) -> None:
    _signal_group(process, signal.SIGTERM)
    with _suppressed_timeout():
        process.wait(_GRACE)
        return
    _signal_group(process, signal.SIGKILL)
    process.wait(_GRACE)


def _suppressed_timeout() -> suppress:
    import psutil

    # a process of minerl's is psutil's or subprocess's, and the two have their own
    return suppress(psutil.TimeoutExpired, subprocess.TimeoutExpired)


def _forget(instance: Any) -> None:
    """Take an instance out of `minerl`'s hands, which would wait three seconds and search for processes of its own."""
    instance.running = instance._starting = False
    reader = getattr(instance, "_logger_thread", None)
    if reader is not None:
        reader.join(_GRACE)
    if instance.minecraft_process is not None:
        instance.minecraft_process.stdout.close()
    shutil.rmtree(instance.instance_dir or "", ignore_errors=True)
    pool = sys.modules[type(instance).__module__].InstanceManager._instance_pool
    if instance in pool:
        pool.remove(instance)
