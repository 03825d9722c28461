"""Reading a store: frames by global index, clips, and the arrays recorded beside them."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lmdb
import numpy as np

from foundation.errors import UserError, nearest
from frames import format
from frames.format import Episode
from frames.opening import open_environment, read_meta
from frames.splits import known_split


class FrameStore:
    """A finished store, read-only. Open it in every process that reads; it also pickles as its path.

    A frame's global index counts over the episodes in the order of `episodes`. Raises `UserError` when the folder is no frame
    store, is damaged, still being written or of a newer format.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._opened: tuple[int, lmdb.Environment] | None = None
        self.meta = read_meta(self.path, self._environment())
        self.frame_shape: tuple[int, int, int] = tuple(self.meta["frame_shape"])
        self.frames_per_second: float = self.meta["frames_per_second"]
        self.fingerprint: str = self.meta["fingerprint"]
        self.episodes = _episodes(self.path, self.meta)
        self._per_chunk: int = self.meta["chunk_frames"]
        self._frame_bytes = int(np.prod(self.frame_shape))
        self._lengths = np.array([episode.length for episode in self.episodes], np.int64)
        self._ends = np.cumsum(self._lengths)
        self._firsts = self._ends - self._lengths
        self._prefixes = [format.chunk_prefix(episode.name) for episode in self.episodes]
        self.action_names = _common_actions(self.episodes)
        self._texts = _texts(self.episodes)

    def __len__(self) -> int:
        return int(self._ends[-1])

    def __reduce__(self) -> tuple[type["FrameStore"], tuple[Path]]:
        return FrameStore, (self.path,)

    def indices(self, split: str) -> np.ndarray:
        """Return the global indices int64 (N,) of all frames of a split: "train", "val", "test", or "all"."""
        return self.starts(split, 1)

    def starts(self, split: str, length: int, stride: int = 1) -> np.ndarray:
        """Return int64 (N,): where a window of `length` frames, `stride` apart, fits into one episode of a split.

        Pictures of an unordered episode make no window longer than one.
        """
        reach = (length - 1) * stride
        ranges = [
            np.arange(episode.first, episode.first + episode.length - reach)
            for episode in self.of_split(split)
            if episode.ordered or length == 1
        ]
        return np.concatenate([np.empty(0, np.int64), *ranges]).astype(np.int64, copy=False)

    def of_split(self, split: str) -> list[Episode]:
        """Return the episodes of a split, or of all."""
        if split == "all":
            return self.episodes
        split = known_split(split)
        return [episode for episode in self.episodes if episode.split == split]

    def frames(self, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        """Return frames uint8 (N, H, W, C) by global index, in the order asked for."""
        wanted = np.asarray(indices, np.int64).reshape(-1)
        if len(wanted) and (wanted.min() < 0 or wanted.max() >= len(self)):
            raise IndexError(f"frame {wanted.min() if wanted.min() < 0 else wanted.max()} of a store with {len(self)} frames")
        output = np.empty((len(wanted), *self.frame_shape), np.uint8)
        if len(wanted):
            self._gather(wanted, output)
        return output

    def windows(self, starts: Sequence[int] | np.ndarray, length: int, stride: int = 1) -> np.ndarray:
        """Return clips uint8 (N, T, H, W, C) that begin at `starts`, with `length` frames `stride` apart."""
        wanted = np.asarray(starts, np.int64)[:, None] + stride * np.arange(length)
        return self.frames(wanted).reshape(*wanted.shape, *self.frame_shape)

    def episode_at(self, index: int) -> Episode:
        """Return the episode that holds a frame."""
        return self.episodes[int(np.searchsorted(self._ends, index, side="right"))]

    def array(self, episode: Episode | int | str, name: str) -> np.ndarray:
        """Return an episode's array by name: "reward" (T,), "action.camera" (T, 2), ... read-only, in the type recorded.

        The episode is given itself, by its number or by its name. Raises KeyError for what it does not have.
        """
        episode = self._find(episode)
        info = episode.arrays[name]
        with self._reading() as transaction:
            found = transaction.get(format.array_key(episode.name, name))
            content = b"" if found is None else bytes(found)
        try:
            return np.ndarray(info.shape, info.dtype, content)
        except TypeError as error:
            raise UserError(f"{self.path}: damaged: '{name}' of {episode.name} is missing; build the store again") from error

    def signatures(self, episode: Episode) -> np.ndarray:
        """Return the signatures of an episode's frames, uint64 (N, 2): what tells duplicates."""
        with self._reading() as transaction:
            found = transaction.get(format.signatures_key(episode.name))
            content = b"" if found is None else bytes(found)
        if len(content) != 16 * episode.length:
            raise UserError(f"{self.path}: damaged: the signatures of {episode.name} are missing; build the store again")
        return np.frombuffer(content, "<u8").reshape(-1, 2)

    def action_windows(self, starts: Sequence[int] | np.ndarray, length: int, stride: int = 1) -> np.ndarray | None:
        """Return float32 (N, T, A): for each frame of the windows the action of the tick that led to it.

        Zeros stand at an episode's first frame. The A numbers follow `action_names`, each array flattened; a value given as
        text counts as its place among the sorted texts of the store. None when any ordered episode lacks actions.
        """
        if self.action_names is None:
            return None
        return np.stack([self._actions(int(start), length, stride) for start in starts])

    def _actions(self, start: int, length: int, stride: int) -> np.ndarray:
        episode = self.episode_at(start)
        ticks = start - episode.first + stride * np.arange(length) - 1
        columns = [self._numbers(episode, name, ticks.clip(0)) for name in self.action_names or ()] if episode.length > 1 else []
        if not columns:
            return np.zeros((length, self.action_size), np.float32)
        actions = np.concatenate(columns, axis=1)
        actions[ticks < 0] = 0
        return actions

    @property
    def action_size(self) -> int:
        """How many numbers an action has: the A of `action_windows`; 0 without actions."""
        arrays = next((e.arrays for e in self.episodes if e.ordered and e.length > 1), {})
        return sum(_width(arrays[name].shape) for name in self.action_names or ())

    def _numbers(self, episode: Episode, name: str, ticks: np.ndarray) -> np.ndarray:
        """Return an array's entries at `ticks` as float32 (T, K): texts by their place, everything else flattened."""
        values = self.array(episode, name)[ticks]
        if values.dtype.kind == "U":
            values = np.searchsorted(self._texts[name], values)
        return values.reshape(len(values), -1).astype(np.float32)

    def _gather(self, wanted: np.ndarray, output: np.ndarray) -> None:
        """Copy the wanted frames into `output`, run by run of neighbours in a chunk, in the order they lie on disk."""
        episodes = np.searchsorted(self._ends, wanted, side="right")
        chunks, offsets = np.divmod(wanted - self._firsts[episodes], self._per_chunk)
        apart = (np.diff(wanted) != 1) | (np.diff(chunks) != 0) | (np.diff(episodes) != 0)
        begins = np.concatenate([[0], np.flatnonzero(apart) + 1])
        ends = np.append(begins[1:], len(wanted))
        order = np.argsort(wanted[begins], kind="stable")
        begins, ends = begins[order], ends[order]
        runs = zip(begins.tolist(), ends.tolist(), *(values[begins].tolist() for values in (episodes, chunks, offsets)), strict=True)
        size, target = self._frame_bytes, output.reshape(-1).data
        with self._reading() as transaction:
            for begin, end, episode, chunk, offset in runs:
                content = transaction.get(format.chunk_key(self._prefixes[episode], chunk))
                if content is None or len(content) < (offset + end - begin) * size:
                    name = self.episodes[episode].name
                    raise UserError(f"{self.path}: damaged: frames of {name} are missing; build the store again")
                target[begin * size : end * size] = content[offset * size : (offset + end - begin) * size]

    @contextmanager
    def _reading(self) -> Iterator[lmdb.Transaction]:
        """One transaction, whose buffers end with it."""
        try:
            with self._environment().begin(buffers=True) as transaction:
                yield transaction
        except lmdb.Error as error:
            raise UserError(f"{self.path}: damaged ({' '.join(str(error).split())}); build the store again") from error

    def _environment(self) -> lmdb.Environment:
        """Return the environment of this process: one opened before a fork is never used after it."""
        if self._opened is None or self._opened[0] != os.getpid():
            self._opened = os.getpid(), open_environment(self.path)
        return self._opened[1]

    def _find(self, episode: Episode | int | str) -> Episode:
        if isinstance(episode, int):
            return self.episodes[episode]
        if isinstance(episode, str):
            names = [known.name for known in self.episodes]
            if episode not in names:
                raise KeyError(f"no episode '{episode}': {nearest(episode, names)}")
            return self.episodes[names.index(episode)]
        return episode


def _episodes(path: Path, meta: dict[str, Any]) -> list[Episode]:
    episodes, first = [], 0
    try:
        for record in meta["episodes"]:
            episodes.append(format.episode_from_json(record, first))
            first += episodes[-1].length
    except (KeyError, TypeError) as error:
        raise UserError(f"{path}: the episode table is damaged ({error}); build the store again") from error
    return episodes


def _common_actions(episodes: list[Episode]) -> tuple[str, ...] | None:
    """The sorted names of the action arrays, when every ordered episode of more than a frame has the same of the same width."""
    layouts = {
        tuple(sorted((name, _width(info.shape)) for name, info in episode.arrays.items() if name.startswith("action")))
        for episode in episodes
        if episode.ordered and episode.length > 1
    }
    layout = layouts.pop() if len(layouts) == 1 else ()
    return tuple(name for name, _ in layout) or None


def _width(shape: tuple[int, ...]) -> int:
    return int(np.prod(shape[1:], dtype=np.int64))


def _texts(episodes: list[Episode]) -> dict[str, list[str]]:
    """Every text that an array of texts holds anywhere in the store, sorted, by the array's name."""
    found: dict[str, set[str]] = {}
    for episode in episodes:
        for name, info in episode.arrays.items():
            found.setdefault(name, set()).update(info.texts)
    return {name: sorted(texts) for name, texts in found.items()}
