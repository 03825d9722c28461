"""Reading all of a store in a process of its own, so that not even a file that kills its reader stops the check."""

import multiprocessing
import signal
from contextlib import suppress
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path

from foundation.errors import UserError
from foundation.progress import Advance, progress_bar
from frames.inspecting import damage, table_damage
from frames.store import FrameStore

_OF_DAMAGE = ("SIGSEGV", "SIGBUS", "SIGABRT", "SIGFPE", "SIGILL")


def verify_apart(store: FrameStore) -> list[tuple[str, str]]:
    """Do as `inspecting.verify`, with a progress bar; an episode whose reading kills its process is named like any other damage."""
    damaged = []
    with _Reader(store.path) as reader, progress_bar("verifying", len(store), "frames") as advance:
        for number, episode in enumerate(store.episodes):
            damaged += [(episode.name, reason) for reason in reader.damage(number, advance)]
    return damaged + table_damage(store)


class _Reader:
    """One process that reads, and another in its place when it dies."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._process: BaseProcess | None = None

    def __enter__(self) -> "_Reader":
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def damage(self, number: int, advance: Advance) -> list[str]:
        """Return what is damaged of an episode."""
        if self._process is None:
            self._start()
        try:
            self._connection.send(number)
            while True:
                answer = self._connection.recv()
                if isinstance(answer, list):
                    return answer
                advance(answer)
        except (EOFError, BrokenPipeError, ConnectionResetError):
            return [f"reading it kills its reader ({self._death()})"]

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_read, args=(self._path, theirs), daemon=True)
        self._process.start()
        theirs.close()

    def _death(self) -> str:
        """Return the name of the signal that a damaged file sent; raise where it was something else that ended the process."""
        code = self._end()
        if code >= 0:
            raise RuntimeError(f"the reading process ended with status {code}")
        name = signal.Signals(-code).name
        if name not in _OF_DAMAGE:
            raise UserError(f"{self._path}: the reading process was stopped from outside ({name}); run the same command again")
        return name

    def _end(self) -> int:
        """End the process if it lives; return its exit status."""
        process, self._process = self._process, None
        if process is None:
            return 0
        self._connection.close()
        process.join(timeout=5)
        if process.exitcode is None:
            process.kill()
            process.join()
        return process.exitcode or 0


def _read(path: Path, connection: Connection) -> None:
    """Answer the numbers of episodes with what is damaged of them; counts of frames before that tell how far it is."""
    # the parent's to answer
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with suppress(EOFError, BrokenPipeError, ConnectionResetError):
        store = FrameStore(path)
        while True:
            episode = store.episodes[connection.recv()]
            connection.send(list(damage(store, episode, lambda amount=1, note=None, total=None: connection.send(amount))))
