"""Writing a store: episode by episode into a working folder, and by one rename into place."""

import json
import os
import shutil
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import lmdb
import numpy as np

from foundation.errors import UserError
from foundation.files import exclusive_lock
from frames import format
from frames.format import ArrayInfo, Episode, Split
from frames.opening import pages_end, working_folder
from frames.store import FrameStore

_FLUSH_BYTES = 16 << 20
_FIRST_MAP = 64 << 20
_FORBIDDEN = ("Read-only", "Permission denied", "Not a directory", "File exists")

Splitter = Callable[[Iterable[str]], Mapping[str, Split]]


def finished_store(path: Path, plan: Mapping[str, Any]) -> FrameStore | None:
    """Return the store at `path` when the same plan made it, None when there is nothing yet.

    Raises `UserError` when something else is there, naming the first difference.
    """
    if not path.exists() or (path.is_dir() and not any(path.iterdir())):
        return None
    store = FrameStore(path)
    if not (working_folder(path) / "store").exists():
        # left by a kill right after the rename
        shutil.rmtree(working_folder(path), ignore_errors=True)
    _check_plan(path, store.meta["plan"], plan, "another store path")
    return store


@contextmanager
def store_writer(path: Path, plan: Mapping[str, Any], frame_shape: tuple[int, int, int]) -> Iterator["StoreWriter"]:
    """Open the working folder `<path>.building` for this process alone, with what an earlier run left in it.

    A `plan` says what makes the store; a working folder of another plan is refused with a `UserError`.
    """
    if min(frame_shape) < 1:
        raise UserError(f"frame size {frame_shape[:2]}: height and width must be at least 1")
    working = working_folder(path)
    with exclusive_lock(working, "building a store"):
        writer = StoreWriter(path, working, plan, frame_shape)
        try:
            yield writer
        finally:
            writer.close()
            if writer.finished or writer.abandoned:
                shutil.rmtree(working, ignore_errors=True)


class StoreWriter:
    """Takes episodes from any number of threads; what it has taken survives a kill.

    An episode counts once its record is written, which happens after all its frames. `committed` holds the episodes by name,
    those of earlier runs included.
    """

    def __init__(self, path: Path, working: Path, plan: Mapping[str, Any], frame_shape: tuple[int, int, int]) -> None:
        self.path = path
        self.finished = False
        self.abandoned = False
        self._plan = dict(plan)
        self._frame_shape = frame_shape
        self._per_chunk = format.frames_per_chunk(frame_shape)
        self._folder = working / "store"
        self._lock = threading.Lock()
        with _disk_errors(path):
            self._folder.mkdir(exist_ok=True)
            self._env = lmdb.open(str(self._folder), map_size=_FIRST_MAP, lock=False, readahead=False)
        try:
            self._take_up_plan()
            self.committed = self._read_committed()
        except BaseException:
            self._env.close()
            raise

    def add(
        self,
        name: str,
        frames: Iterable[np.ndarray],
        *,
        source: str,
        frames_per_second: float,
        arrays: Callable[[], Mapping[str, np.ndarray]] = dict,
        ordered: bool = True,
        origin: int = 0,
    ) -> Episode:
        """Store an episode from single frames uint8 (H, W, C) of the store's shape, and its per-step arrays.

        `arrays` is called when the frames are exhausted. The last chunks, the arrays and the record go in together. When `frames`
        raises, nothing of the episode counts, and the exception goes on.
        """
        prefix = format.chunk_prefix(name)
        self._clear(prefix)
        length, content, waiting = self._write_chunks(prefix, frames)
        infos = {}
        for key, array in arrays().items():
            waiting.append((format.array_key(name, key), np.ascontiguousarray(array).tobytes()))
            infos[key] = _describe(array)
        episode = Episode(name, source, length, frames_per_second, ordered, content, infos, origin)
        waiting.append((format.record_key(name), format.encode_json(format.episode_to_json(episode))))
        self._write(waiting)
        self.committed[name] = episode
        return episode

    def discard(self, name: str) -> None:
        """Drop an episode of an earlier run whose source has changed."""
        self.committed.pop(name)
        self._delete(format.record_key(name))

    def finish(self, splitter: Splitter, meta: Mapping[str, Any]) -> None:
        """Write the meta record over all committed episodes and rename the store into place."""
        self._sweep()
        names = sorted(self.committed)
        splits = splitter(names)
        episodes = [replace(self.committed[name], split=splits[name]) for name in names]
        record = {
            "format": format.FORMAT,
            "version": format.VERSION,
            "codec": format.CODEC,
            "frame_shape": list(self._frame_shape),
            "frames": sum(episode.length for episode in episodes),
            "frames_per_second": usual_rate(episodes),
            "chunk_frames": self._per_chunk,
            "fingerprint": format.fingerprint(episodes),
            "plan": self._plan,
            **meta,
            "episodes": [format.episode_to_json(episode) for episode in episodes],
        }
        self._write([(format.META_KEY, format.encode_json(record))])
        self.close()
        with _disk_errors(self.path):
            data = self._folder / "data.mdb"
            # LMDB may leave the last pages unwritten when they are free; readers take a short file for a damaged one
            os.truncate(data, max(data.stat().st_size, pages_end(data)))
            self.path.parent.mkdir(parents=True, exist_ok=True)
            os.rename(self._folder, self.path)
        self.finished = True

    def abandon(self) -> None:
        """Leave nothing behind: the working folder goes when the writer closes."""
        self.abandoned = True

    def close(self) -> None:
        self._env.close()

    def _take_up_plan(self) -> None:
        with self._env.begin() as transaction:
            found = transaction.get(format.PLAN_KEY)
            unrelated = found is None and transaction.stat()["entries"] > 0
            finished = transaction.get(format.META_KEY) is not None
        working = self._folder.parent
        if unrelated:
            raise UserError(f"{working}: holds an LMDB of another program; choose another store path")
        if found is not None:
            _check_plan(working, json.loads(found), self._plan, "another store path, or remove that folder")
        if finished:
            # a kill between the meta record and the rename
            self._delete(format.META_KEY)
        self._write([(format.PLAN_KEY, format.encode_json(self._plan))])

    def _read_committed(self) -> dict[str, Episode]:
        episodes = {}
        with self._env.begin() as transaction, transaction.cursor() as cursor:
            cursor.set_range(b"e")
            for key, value in cursor:
                if not key.startswith(b"e"):
                    break
                episode = format.episode_from_json(json.loads(value))
                episodes[episode.name] = episode
        return episodes

    def _write_chunks(self, prefix: bytes, frames: Iterable[np.ndarray]) -> tuple[int, str, list[tuple[bytes, Any]]]:
        """Write frames in chunks, 16 MiB a transaction; return how many, the hash of their bytes, and the chunks not written yet."""
        digest = format.new_digest()
        waiting: list[tuple[bytes, Any]] = []
        length = 0
        for chunk, block in enumerate(_blocks(frames, self._per_chunk, self._frame_shape)):
            digest.update(block)
            waiting.append((format.chunk_key(prefix, chunk), block))
            length += len(block)
            if len(waiting) * block.nbytes >= _FLUSH_BYTES:
                self._write(waiting)
                waiting = []
        return length, digest.hexdigest(), waiting

    def _clear(self, prefix: bytes) -> None:
        """Remove the chunks that an interrupted run left of an episode."""
        with self._lock, _disk_errors(self.path), self._env.begin(write=True) as transaction, transaction.cursor() as cursor:
            found = cursor.set_range(prefix)
            while found and cursor.key().startswith(prefix):
                found = cursor.delete()

    def _sweep(self) -> None:
        """Remove what interrupted and unreadable recordings left."""
        kept = {format.chunk_prefix(name)[1:] for name in self.committed}
        with self._lock, _disk_errors(self.path), self._env.begin(write=True) as transaction, transaction.cursor() as cursor:
            for kind in (b"a", b"f"):
                found = cursor.set_range(kind)
                while found and cursor.key().startswith(kind):
                    stray = cursor.key()[1 : 1 + format.NAME_BYTES] not in kept
                    found = cursor.delete() if stray else cursor.next()

    def _delete(self, key: bytes) -> None:
        with self._lock, _disk_errors(self.path), self._env.begin(write=True) as transaction:
            transaction.delete(key)

    def _write(self, items: list[tuple[bytes, Any]]) -> None:
        """Put all items in one transaction; the map doubles when it is full."""
        with self._lock, _disk_errors(self.path):
            while True:
                try:
                    with self._env.begin(write=True) as transaction:
                        for key, value in items:
                            transaction.put(key, value)
                    return
                except lmdb.MapFullError:
                    self._env.set_mapsize(2 * self._env.info()["map_size"])


def usual_rate(episodes: Iterable[Episode]) -> float:
    """The frames per second that most frames were recorded at."""
    frames: dict[float, int] = {}
    for episode in episodes:
        frames[episode.frames_per_second] = frames.get(episode.frames_per_second, 0) + episode.length
    return max(frames, key=lambda rate: frames[rate])


def _describe(array: np.ndarray) -> ArrayInfo:
    texts = tuple(np.unique(array).tolist()) if array.dtype.kind == "U" else ()
    return ArrayInfo(array.dtype.str, array.shape, format.content_hash([np.ascontiguousarray(array).tobytes()]), texts)


def _blocks(frames: Iterable[np.ndarray], size: int, frame_shape: tuple[int, int, int]) -> Iterator[np.ndarray]:
    """Gather single frames into new arrays of `size` frames; the last may be short."""
    block = np.empty((size, *frame_shape), np.uint8)
    filled = 0
    for frame in frames:
        block[filled] = frame
        filled += 1
        if filled == size:
            yield block
            block, filled = np.empty_like(block), 0
    if filled:
        yield block[:filled]


def _check_plan(where: Path, found: Mapping[str, Any], plan: Mapping[str, Any], remedy: str) -> None:
    for key, value in plan.items():
        if found.get(key) != value:
            raise UserError(f"{where}: made with {key} = {found.get(key)!r}, not {value!r}; choose {remedy}")


@contextmanager
def _disk_errors(path: Path) -> Iterator[None]:
    """Turn a full or read-only disk into a `UserError`; what was committed before stays."""
    try:
        yield
    except (OSError, lmdb.Error) as error:
        text = " ".join(str(error).split())
        if any(reason in text for reason in _FORBIDDEN):
            raise UserError(f"{path}: cannot be written ({text}); choose another folder") from error
        # LMDB reports a write that a full disk cut short as an input/output error
        problem = "the disk is full or failing"
        raise UserError(f"{path}: {problem} ({text}); free some space and run the same command again: it goes on") from error
