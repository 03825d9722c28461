"""Writing a store: episode by episode into a working folder, and by one rename into place."""

import dataclasses
import errno
import json
import mmap
import os
import shutil
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import lmdb
import numpy as np

from foundation.errors import UserError
from foundation.files import exclusive_lock
from frames.curation.duplicates import signatures
from frames.readers.decoding import MOST_PIXELS
from frames.storage import format
from frames.storage.copying import copy_file
from frames.storage.disk_errors import disk_errors
from frames.storage.format import Episode, LeftOut, Split
from frames.storage.lmdb_pages import DamagedLmdb, UnusualLmdb, check_pages
from frames.storage.opening import pages_end, place_of, working_folder
from frames.storage.sweeping import clear, records_of, remove_leftovers, sweep
from frames.store import FrameStore

_FLUSH_BYTES = 16 << 20
# of all threads together; as much again is on its way to the disk
_WAITING_BYTES = 64 << 20
_FIRST_MAP = 64 << 20

_SAID_LATER = ("identities",)
"""What plans of before it was written down do not say: they go on as they were."""

Splitter = Callable[[Iterable[str]], Mapping[str, Split]]


def finished_store(path: Path, plan: Mapping[str, Any]) -> FrameStore | None:
    """Return the store at `path` when the same plan made it, None when there is nothing yet.

    Raises `UserError` when something else is there, naming the first difference.
    """
    if not path.exists() or (path.is_dir() and not any(path.iterdir())):
        return None
    store = FrameStore(path)
    remove_leftovers(path)
    check_plan(path, store.meta["plan"], plan, "choose another store path, or add to this one with --append")
    return store


def _identity_of(path: Path) -> str | None:
    """Return what identifies the content of the store at `path`, None where there is none."""
    return FrameStore(path).identity if (path / "data.mdb").exists() else None


def check_plan(where: Path, found: Mapping[str, Any], plan: Mapping[str, Any], remedy: str) -> None:
    """Raise a `UserError` that names the first difference between two plans, or between what they hold under a key."""
    for key, value in plan.items():
        if isinstance(value, Mapping) and isinstance(found.get(key), Mapping):
            check_plan(where, found[key], value, remedy)
        elif found.get(key) != value and not (key in _SAID_LATER and key not in found):
            raise UserError(f"{where}: made with {key} = {found.get(key)!r}, not {value!r}; {remedy}")


@contextmanager
def store_writer(
    path: Path, plan: Mapping[str, Any], frame_shape: tuple[int, int, int], *, threads: int = 1, onto: FrameStore | None = None
) -> Iterator["StoreWriter"]:
    """Open the working folder `<path>.building` for this process alone, with what an earlier run left in it.

    A `plan` says what makes the store; a working folder of another plan is refused with a `UserError`. `onto` is the finished store at
    `path` that episodes are appended to: a copy of it is written, and takes its place at the end. `threads` will add episodes at a time.
    """
    height, width, _ = frame_shape
    if min(height, width) < 1 or height * width > MOST_PIXELS:
        raise UserError(f"frame size {height} x {width}: height and width must be at least 1, and no larger than 8K together")
    # a rename would take the place of a link, and not of the folder that it leads to
    path = place_of(path)
    working = working_folder(path)
    with exclusive_lock(working, "building a store"):
        _check_still(path, onto)
        writer = StoreWriter(path, working, plan, frame_shape, threads, onto)
        try:
            yield writer
        finally:
            writer.close()
            if writer.finished or writer.abandoned:
                shutil.rmtree(working, ignore_errors=True)


def _check_still(path: Path, onto: FrameStore | None) -> None:
    """Refuse to write when another process has finished here between the look at `path` and the lock."""
    found = _identity_of(path)
    if found != (None if onto is None else onto.identity):
        raise UserError(f"{path}: another process has written it meanwhile; run the same command again")


class StoreWriter:
    """Takes episodes from any number of threads; what it has taken survives a kill.

    An episode counts once its record is written, which happens after all its frames. `committed` holds the episodes by name,
    those of earlier runs included, and `parts_left_out` what was left out within them. `complete` says that an earlier run was
    killed when only the rename was missing.
    """

    def __init__(
        self,
        path: Path,
        working: Path,
        plan: Mapping[str, Any],
        frame_shape: tuple[int, int, int],
        threads: int = 1,
        onto: FrameStore | None = None,
    ) -> None:
        self.path = path
        self.finished = False
        self.abandoned = False
        self.complete = False
        self._plan = dict(plan)
        self._onto = onto
        self._frame_shape = frame_shape
        self._per_chunk = format.frames_per_chunk(frame_shape)
        self._flush_bytes = min(_FLUSH_BYTES, _WAITING_BYTES // threads)
        self._folder = working / "store"
        self._lock = threading.Lock()
        self._background = ThreadPoolExecutor(1)
        with disk_errors(path):
            if onto is not None and not (self._folder / "data.mdb").exists():
                self._begin_with(onto)
            self._folder.mkdir(exist_ok=True)
            _check_sound(self._folder)
            self._env = _open(self._folder)
        try:
            with _damage_told(self._folder, _remedy(self._folder)):
                self._take_up_plan()
                self.committed = {episode.name: episode for episode in self._records(b"e", format.episode_from_json)}
                self.parts_left_out = {part["of"]: [LeftOut(**listed) for listed in part["parts"]] for part in self._records(b"l", dict)}
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
        trimmed: Callable[[], Mapping[str, int]] = dict,
        left_out: Callable[[], Sequence[LeftOut]] = list,
        task: str = "",
        ordered: bool = True,
        origin: int = 0,
    ) -> Episode:
        """Store an episode from single frames uint8 (H, W, C) of the store's shape, and its per-step arrays.

        `arrays`, `trimmed` and `left_out` are called when the frames are exhausted. The last chunks, the arrays and the record go in
        together. When `frames` or one of them raises, nothing of the episode counts, and the exception goes on.
        """
        prefix = format.chunk_prefix(name)
        self._transact(lambda transaction: clear(transaction, prefix))
        length, content, waiting, seen = self._write_chunks(prefix, frames)
        infos = {}
        for key, array in arrays().items():
            array = format.stored_array(array)
            waiting.append((format.array_key(name, key), array.tobytes()))
            infos[key] = format.array_info(array)
        told = format.content_hash([seen.tobytes()])
        episode = Episode(name, source, length, frames_per_second, ordered, content, infos, origin, task, dict(trimmed()), told)
        parts = list(left_out())
        if parts:
            listed = {"of": name, "parts": [dataclasses.asdict(part) for part in parts]}
            waiting.append((format.left_out_key(name), format.encode_json(listed)))
        waiting.append((format.signatures_key(name), seen.tobytes()))
        waiting.append((format.record_key(name), format.encode_json(format.episode_to_json(episode))))
        self._write(waiting)
        self.committed[name] = episode
        self.parts_left_out[name] = parts
        return episode

    def discard(self, name: str) -> None:
        """Drop an episode of an earlier run whose source has changed, and what is said of it."""
        self.committed.pop(name)
        self.parts_left_out.pop(name, None)
        self._transact(lambda transaction: [transaction.delete(key(name)) for key in (format.record_key, format.left_out_key)])

    @contextmanager
    def signatures(self) -> Iterator[dict[str, np.ndarray]]:
        """Give the signatures uint64 (N, 2) of all committed episodes by name, mapped from the file for as long as the context lasts."""
        with self._env.begin(buffers=True) as transaction:
            found = {name: transaction.get(format.signatures_key(name), b"") for name in sorted(self.committed)}
            yield {name: np.frombuffer(content, "<u8").reshape(-1, 2) for name, content in found.items()}

    def finish(self, splitter: Splitter, meta: Mapping[str, Any], without: Collection[str] = ()) -> None:
        """Write the meta record over all committed episodes but those in `without`, and rename the store into place."""
        names = sorted(self.committed.keys() - set(without))
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
            "appended": [],
            "trimmed": _summed(episode.trimmed for episode in episodes),
            **meta,
            "episodes": [format.episode_to_json(episode) for episode in episodes],
        }

        def write(transaction: lmdb.Transaction) -> None:
            sweep(transaction, names)
            content = format.encode_json(record)
            transaction.put(format.META_KEY, content)
            transaction.put(format.SEAL_KEY, format.seal(content))

        self._transact(write)
        self.publish()

    def publish(self) -> None:
        """Put the store, complete but for that, into its place."""
        self.close()
        with disk_errors(self.path):
            data = self._folder / "data.mdb"
            # LMDB may leave the last pages unwritten when they are free; readers take a short file for a damaged one
            os.truncate(data, max(data.stat().st_size, pages_end(data)))
            # or else a power failure may leave a store without its last transaction in the place of a whole one
            with open(data, "rb") as file:
                os.fsync(file)
            if self._onto is not None:
                os.replace(data, self.path / "data.mdb")
            else:
                self._rename()
        self.finished = True

    def abandon(self) -> None:
        """Leave nothing behind: the working folder goes when the writer closes."""
        self.abandoned = True

    def close(self) -> None:
        self._background.shutdown()
        self._env.close()

    def _rename(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.rename(self._folder, self.path)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                raise
            problem = "something else was written there meanwhile"
            raise UserError(f"{self.path}: {problem}; move it away and run the same command again") from error

    def _begin_with(self, onto: FrameStore) -> None:
        """Begin with a copy of a finished store; it counts once it is whole and no longer passes for finished."""
        copying = self._folder.with_name("copying")
        shutil.rmtree(copying, ignore_errors=True)
        shutil.rmtree(self._folder, ignore_errors=True)
        with _damage_told(onto.path, "copy it again or build the store again"):
            check_pages(onto.path / "data.mdb")
        copying.mkdir()
        copy_file(onto.path / "data.mdb", copying / "data.mdb")
        with _open(copying) as environment, environment.begin(write=True) as transaction:
            transaction.delete(format.META_KEY)
            transaction.put(format.PLAN_KEY, self._encoded_plan())
        os.rename(copying, self._folder)

    def _encoded_plan(self) -> bytes:
        """What makes this store, as the working folder remembers it: the plan, the format, and the store that is appended to."""
        onto = {} if self._onto is None else {"onto_identity": self._onto.identity}
        fingerprint = None if self._onto is None else self._onto.fingerprint
        return format.encode_json({"version": format.VERSION, "onto": fingerprint, **onto, "plan": self._plan})

    def _take_up_plan(self) -> None:
        with self._env.begin() as transaction:
            content = transaction.get(format.PLAN_KEY)
            unrelated = content is None and transaction.stat()["entries"] > 0
            self.complete = transaction.get(format.META_KEY) is not None
        working = self._folder.parent
        if unrelated:
            raise UserError(f"{working}: holds an LMDB of another program; choose another store path")
        if content is not None:
            found, wanted = json.loads(content), json.loads(self._encoded_plan())
            if found.get("version") != wanted["version"]:
                raise UserError(f"{working}: a build that another version of this program began; remove that folder")
            same = found.get("onto_identity", wanted.get("onto_identity")) == wanted.get("onto_identity")
            if found["onto"] != wanted["onto"] or not same:
                raise UserError(f"{working}: an unfinished append or build of another store; remove that folder")
            check_plan(working, found["plan"], self._plan, "finish that build first, remove that folder, or choose another store path")
        else:
            self._write([(format.PLAN_KEY, self._encoded_plan())])

    def _records(self, kind: bytes, read: Callable[[dict[str, Any]], Any]) -> list[Any]:
        with self._env.begin() as transaction, transaction.cursor() as cursor:
            return [read(json.loads(value)) for value in records_of(cursor, kind)]

    def _write_chunks(self, prefix: bytes, frames: Iterable[np.ndarray]) -> tuple[int, str, list[tuple[bytes, Any]], np.ndarray]:
        """Write frames in chunks, some MiB a transaction; the next ones gather while the disk is at work.

        Return how many there are, the hash of their bytes, the chunks not written yet, and the signatures uint64 (N, 2).
        """
        digest = format.new_digest()
        waiting: list[tuple[bytes, Any]] = []
        length, seen = 0, [np.empty((0, 2), np.uint64)]
        written: Future[None] | None = None
        try:
            for chunk, block in enumerate(_blocks(frames, self._per_chunk, self._frame_shape)):
                digest.update(block)
                seen.append(signatures(block))
                waiting.append((format.chunk_key(prefix, chunk), block))
                length += len(block)
                if len(waiting) * block.nbytes >= self._flush_bytes:
                    if written is not None:
                        written.result()
                    written, waiting = self._background.submit(self._write, waiting), []
        finally:
            # when the frames end early too: nothing of them may come after the sweep
            if written is not None:
                written.result()
        return length, digest.hexdigest(), waiting, np.concatenate(seen)

    def _write(self, items: list[tuple[bytes, Any]]) -> None:
        """Put all items in one transaction."""

        def put(transaction: lmdb.Transaction) -> None:
            for key, value in items:
                transaction.put(key, value)

        self._transact(put)

    def _transact(self, work: Callable[[lmdb.Transaction], Any]) -> None:
        """Do `work` in one transaction; the map doubles when it is full."""
        with self._lock, disk_errors(self.path):
            while True:
                try:
                    with self._env.begin(write=True) as transaction:
                        work(transaction)
                    return
                except lmdb.MapFullError:
                    self._env.set_mapsize(2 * self._env.info()["map_size"])


def usual_rate(episodes: Iterable[Episode]) -> float:
    """The frames per second that most frames were recorded at."""
    frames: dict[float, int] = {}
    for episode in episodes:
        frames[episode.frames_per_second] = frames.get(episode.frames_per_second, 0) + episode.length
    return max(frames, key=lambda rate: frames[rate])


def _check_sound(folder: Path) -> None:
    """Refuse what an earlier run left when it is damaged since: to write into that may kill the process."""
    data = folder / "data.mdb"
    # what a kill or a full disk leaves of LMDB's first write, of two pages: there is nothing in it yet
    if data.exists() and data.stat().st_size < 2 * mmap.PAGESIZE:
        data.unlink()
    if data.exists():
        with _damage_told(folder, _remedy(folder)):
            check_pages(data)


def _remedy(folder: Path) -> str:
    return f"remove {folder.parent} and run the same command again"


@contextmanager
def _damage_told(folder: Path, remedy: str) -> Iterator[None]:
    """Turn what the LMDB in a folder, or a record in it, does not read for into a `UserError`."""
    try:
        yield
    except (DamagedLmdb, UnusualLmdb, ValueError, KeyError, TypeError, AttributeError) as error:
        complaint = f"damaged, or of another program ({' '.join(str(error).split())})"
        raise UserError(f"{folder / 'data.mdb'}: {complaint}; {remedy}") from error


def _open(folder: Path) -> lmdb.Environment:
    # a power failure may undo the last transaction, which costs decoding it again
    return lmdb.open(str(folder), map_size=_FIRST_MAP, lock=False, readahead=False, metasync=False)


def _summed(counts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    total: dict[str, int] = {}
    for count in counts:
        for key, number in count.items():
            total[key] = total.get(key, 0) + number
    return total


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
