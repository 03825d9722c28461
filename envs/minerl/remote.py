"""A game whose client, the `minerl` package, runs in another interpreter: one with an old numpy and gym, say."""

import os
import secrets
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

from envs.minerl import installation, launching, processes, spaces, worker
from envs.minerl.game import Action, GameDied, Observation
from envs.minerl.local import REPLY_TIMEOUT, START_TIMEOUT, seconds
from envs.minerl.mission import check_stand_in
from foundation.errors import UserError

_HELLO_TIMEOUT = 60.0
_IMPORT_TIMEOUT = 120.0
_ROUNDS = 5
"""How often processes are looked for and ended: one that is being ended may have started another."""


class RemoteGame:
    """A `Game` over the `minerl` of the interpreter `python`, on Minecraft or on the voxel server.

    `timeout`: seconds without a reply after which the game counts as hung; `start_timeout`: seconds it has to start up.
    Raises `UserError` where `python` is no Python, is too old or has no `minerl`, and for a task that its version lacks.
    """

    def __init__(
        self,
        task_id: str,
        python: str | Path,
        server: str = "minecraft",
        timeout: float = REPLY_TIMEOUT,
        start_timeout: float = START_TIMEOUT,
        headless: bool | None = None,
    ) -> None:
        self.task_id = task_id
        self._python, self._server, self._headless = find_interpreter(python), server, headless
        self._timeout, self._start_timeout = seconds("timeout", timeout), seconds("start_timeout", start_timeout)
        self._steps = 0
        self._plays = False
        self._worker: Worker | None = None
        try:
            described = self._hire()
        except GameDied as error:
            raise UserError(f"python='{python}': {error}; docs/minerl.md says how to set it up") from error
        self.observation_space = spaces.dictionary(described["observation_space"])
        self.action_space = spaces.dictionary(described["action_space"])
        self.max_episode_steps = int(described["max_episode_steps"])

    def reset(self, seed: int | None = None) -> Observation:
        """Start the game where it does not run, and begin an episode in the world of `seed`."""
        with self._ends_on_death("reset"):
            if self._worker is None:
                self._hire()
            self._steps = 0
            observation = self._begin(seed)
            return spaces.read_observation(self.observation_space, observation)

    def step(self, action: Action) -> tuple[Observation, float, bool, dict[str, Any]]:
        """Advance one tick."""
        commands = spaces.write_action(self.action_space, action)
        if self._worker is None or not self._plays:
            raise GameDied(f"{self.task_id}: a step before a reset")
        self._steps += 1
        with self._ends_on_death(f"step {self._steps}"):
            observation, reward, done, info = self._worker.ask("step", self._timeout, action=commands)
            return spaces.read_observation(self.observation_space, observation), reward, done, info

    def close(self) -> None:
        """End the interpreter, the game and all that they have started."""
        hired, self._worker, self._plays = self._worker, None, False
        if hired is not None:
            hired.end()

    def processes(self) -> list[int]:
        """Return the ids of the processes that it has started and that live."""
        return [] if self._worker is None else self._worker.processes()

    def _hire(self) -> dict[str, Any]:
        """Start the interpreter and let it import `minerl`; return what it says of the task."""
        self._worker = hired = Worker(self._python)
        try:
            found = hired.ask("open", _IMPORT_TIMEOUT)
            if self.task_id not in found["ids"]:
                raise UserError(f"{self._python}: {installation.unknown_id(self.task_id, found['ids'], found['minerl'])}")
            described = hired.ask("task", _IMPORT_TIMEOUT, task_id=self.task_id)
            if self._server == "voxel":
                check_stand_in(self.task_id, described["mission"])
                minecraft, schemas = launching.write_stand_in(hired.folder / "stand-in")
                hired.ask("stand_in", self._timeout, minecraft=str(minecraft), schemas=str(schemas))
            self._minecraft = found["minecraft"]
            return described
        except BaseException:
            self.close()
            raise

    def _begin(self, seed: int | None) -> Any:
        assert self._worker is not None
        if self._plays:
            return self._worker.ask("reset", self._timeout, seed=seed)
        minecraft = self._server == "minecraft"
        if minecraft:
            self._prepare(self._worker)
        with launching.start_lock(self._start_timeout) if minecraft else nullcontext():
            observation = self._worker.ask("reset", self._start_timeout, seed=seed)
        self._plays = True
        return observation

    def _prepare(self, hired: "Worker") -> None:
        if not self._minecraft:
            problem = f"{self._python}: its minerl was installed without Minecraft (the Java side was not built)"
            raise UserError(f"{problem}: see docs/minerl.md; server='voxel' plays a stand-in that needs no Java")
        if launching.needs_xvfb(self._headless):
            hired.ask("headless", self._timeout)

    @contextmanager
    def _ends_on_death(self, when: str) -> Iterator[None]:
        """End what is left where the game dies, and say when it did; an interrupted conversation cannot be taken up again either."""
        try:
            yield
        except GameDied as error:
            self.close()
            raise GameDied(f"{self.task_id} died at {when}: {error}") from error
        except BaseException:
            self.close()
            raise


class Worker:
    """An interpreter that runs `worker.py`: asks it, and ends it with all that it has started.

    `folder` holds what it writes, its output included. Raises `UserError` where `python` cannot run it.
    """

    def __init__(self, python: Path) -> None:
        self.python = python
        self.mark = secrets.token_hex(8)
        self.folder = processes.own_folder() / self.mark
        self.folder.mkdir()
        ours, theirs = socket.socketpair()
        self._channel = worker.Channel(ours)
        try:
            with theirs:
                self.process = self._start(theirs.fileno())
        except OSError as error:
            self._channel.close()
            shutil.rmtree(self.folder)
            raise UserError(f"python='{python}': cannot be run ({error.strerror}); name an interpreter that has minerl") from error
        self._greet()

    def ask(self, call: str, timeout: float, **arguments: Any) -> Any:
        """Return the answer to a call of one of the worker's methods; raises `GameDied` where none comes within `timeout` seconds."""
        try:
            self._channel.send({"call": call, **arguments}, timeout)
            answer = self._channel.receive(timeout)
        except TimeoutError as error:
            raise GameDied(f"no answer within {timeout:g} s{self._last_words()}") from error
        except (OSError, EOFError, ValueError) as error:
            raise GameDied(f"the interpreter {self._end_of_process()}{self._last_words()}") from error
        if "error" in answer:
            raise GameDied(f"{answer['error']}{self._last_words()}")
        return answer["value"]

    def processes(self) -> list[int]:
        """Return the ids of the interpreter and of all that it has started and that lives."""
        return [process.pid for process in processes.marked(self.mark)]

    def end(self) -> None:
        """End them all, and remove what they wrote."""
        self._channel.close()
        # by itself first: until it is gone, it can start more
        self.process.kill()
        self.process.wait()
        for _ in range(_ROUNDS):
            if not (left := processes.marked(self.mark)):
                break
            processes.end(left)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _start(self, handle: int) -> "subprocess.Popen[bytes]":
        theirs = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")}
        theirs |= {processes.MARK: self.mark, "TMPDIR": str(self.folder), "MALMO_MINECRAFT_OUTPUT_LOGDIR": str(self.folder)}
        command = [str(self.python), "-W", "ignore", worker.__file__, str(handle)]
        with open(self.folder / "output", "wb") as output:
            # a session of its own, so that Ctrl-C ends the game by our hand and not in the middle of a message
            return subprocess.Popen(
                command,
                cwd=self.folder,
                env=theirs,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                pass_fds=[handle],
                start_new_session=True,
            )

    def _greet(self) -> None:
        """Wait until the interpreter runs `worker.py`; raises `UserError` where it does not."""
        try:
            version = tuple(self._channel.receive(_HELLO_TIMEOUT)["python"])
            if version < worker.OLDEST_PYTHON:
                found, needed = (".".join(map(str, numbers)) for numbers in (version, worker.OLDEST_PYTHON))
                raise UserError(f"python='{self.python}': is Python {found}, but {needed} or newer is needed")
        except (OSError, EOFError, ValueError, TypeError, KeyError) as error:
            problem = f"is no Python with numpy: it {self._end_of_process()}{self._last_words()}"
            self.end()
            raise UserError(f"python='{self.python}': {problem}; name an interpreter that has minerl") from error
        except BaseException:
            self.end()
            raise

    def _end_of_process(self) -> str:
        with suppress(subprocess.TimeoutExpired):
            return f"ended with status {self.process.wait(1)}"
        return "does not answer"

    def _last_words(self) -> str:
        """Quote what was printed last: by the game where it has printed something, else by the interpreter."""
        logs = [*self.folder.glob("logs/*.log"), self.folder / "output"]
        texts = [text for path in logs if (text := path.read_text(errors="replace").strip())]
        said = " | ".join(line.strip() for line in texts[0].splitlines()[-3:]) if texts else ""
        return f"; it printed last: {said[-400:]}" if said else ""


def find_interpreter(python: str | Path) -> Path:
    """Return the path of an interpreter named by its path or, as a shell would, by its name; raises `UserError` for neither."""
    path = Path(python).expanduser()
    if path.is_dir():
        raise UserError(f"python='{python}': is a folder; name the interpreter in it, such as {path / 'bin' / 'python'}")
    found = shutil.which(path)
    if found is None:
        raise UserError(f"python='{python}': is no program; name the Python interpreter that has minerl, such as /path/to/venv/bin/python")
    # not resolved: a virtual environment's link is what makes it that environment's
    return Path(found).absolute()
