"""Reading a store: frames by global index, clips, and the arrays recorded beside them."""

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from foundation.errors import UserError, nearest
from foundation.limits import free_memory
from frames.action_columns import action_columns, array_width, common_action_names, joined_actions
from frames.curation.splits import known_split
from frames.rates import Strides, common_rate, rates_line, strides_at
from frames.storage import format
from frames.storage.format import Episode
from frames.storage.opening import open_file, read_meta

_LOADED_AT_ONCE = 4096


class FrameStore:
    """A finished store, read-only, for any number of threads. It pickles as its path, and another process opens it again.

    A frame's global index counts over the episodes in the order of `episodes`. `in_memory` reads all frames once and keeps them, which
    serves them faster than the page cache and leaves the disk alone; a pickled store then reads from its file. A store that took the
    path's place meanwhile, after an append for one, is not what was pickled: opening it then is refused, since indices may have moved.
    The file is let go of by `close`, at the end of a `with` block, or with the last reference.

    `frames_per_second` is the rate of clips at stride 1. Where recordings have several rates it is the slowest of which the others are
    multiples: a `stride` goes on by as many frames of this rate in all of them, and those of a rate that is no multiple give no clips.

    Raises `UserError` when the folder is no frame store, is damaged, still being written or of a newer format, or when its frames do not
    fit into the memory that is free.
    """

    def __init__(self, path: str | Path, *, in_memory: bool = False) -> None:
        self.path = Path(path)
        self._file = open_file(self.path)
        self.meta = read_meta(self.path, self._file)
        self._seal = self._file.value(format.SEAL_KEY) or b""
        self.frame_shape: tuple[int, int, int] = tuple(self.meta["frame_shape"])
        self.fingerprint: str = self.meta["fingerprint"]
        self.episodes = _episodes(self.path, self.meta)
        self.frames_per_second: float = common_rate(self.episodes) or self.meta["frames_per_second"]
        self._per_chunk: int = self.meta["chunk_frames"]
        self._frame_bytes = int(np.prod(self.frame_shape))
        self._lengths = np.array([episode.length for episode in self.episodes], np.int64)
        self._ends = np.cumsum(self._lengths)
        self._firsts = self._ends - self._lengths
        chunks = -(-self._lengths // self._per_chunk)
        self._first_chunks = np.cumsum(chunks) - chunks
        self._strides: dict[int, Strides] = {}
        self.action_names = common_action_names(self.episodes)
        self.action_texts = {name: texts for name, texts in _texts(self.episodes).items() if name in (self.action_names or ())}
        self._columns = action_columns(self.episodes, self.action_names or (), self.action_texts)
        # the action that led to each frame, filled in episode by episode as they are asked for
        self._actions = np.zeros((len(self), self.action_size), np.float32)
        self._known_actions: set[int] = set()
        self._held = self._load() if in_memory else None

    def __len__(self) -> int:
        return int(self._ends[-1])

    def __enter__(self) -> "FrameStore":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file and of frames held in memory; what is read afterwards raises `ValueError`. No thread may be reading."""
        self._held = None
        self._file.close()

    def __reduce__(self) -> tuple[Callable[..., "FrameStore"], tuple[Path, bytes, dict[str, list[str]]]]:
        return _opened_again, (self.path.absolute(), self._seal, self.action_texts)

    @cached_property
    def identity(self) -> str:
        """What the store is down to its episodes' names, order, splits and arrays, which the fingerprint does not say: a sha256."""
        return format.identity(self.episodes)

    def indices(self, split: str) -> np.ndarray:
        """Return the global indices int64 (N,) of all frames of a split: "train", "val", "test", or "all"."""
        return self.starts(split, 1)

    def starts(self, split: str, length: int, stride: int | Strides = 1) -> np.ndarray:
        """Return int64 (N,): where a window of `length` frames, `stride` apart, fits into one episode of a split.

        Pictures of an unordered episode make no window longer than one.
        """
        _check_clip(length, stride)
        reaches = [(episode, 0) for episode in self.of_split(split)]
        if length > 1:
            reaches = [(episode, (length - 1) * step) for episode, step in self.strided(split, stride)]
        ranges = [np.arange(episode.first, episode.first + episode.length - reach) for episode, reach in reaches]
        return np.concatenate([np.empty(0, np.int64), *ranges]).astype(np.int64, copy=False)

    def strides(self, stride: int | Strides) -> Strides:
        """Return how many recorded frames of each episode a stride is, which counts in frames of the store's rate."""
        if isinstance(stride, Strides):
            return stride
        if stride not in self._strides:
            self._strides[stride] = self.strides_at(self.frames_per_second / stride)
        return self._strides[stride]

    def strides_at(self, rate: float) -> Strides:
        """Return the strides that give clips of `rate` frames a second, 0 for the episodes that cannot have it."""
        return strides_at(self.episodes, rate)

    def nearest_strides(self, rate: float) -> Strides:
        """Return the strides that give clips of `rate` frames a second, or what comes nearest where no recording can have it.

        This is how an encoder is judged, and a control made, at the rate that it was trained at; the result tells the rate that it is.
        """
        wanted = self.strides_at(rate)
        return wanted if self.strided("all", wanted) else self.strides(max(1, round(self.frames_per_second / rate)))

    def strided(self, split: str, stride: int | Strides) -> list[tuple[Episode, int]]:
        """Return the ordered episodes of a split that have clips at a stride, each with its own: recorded frames from one to the next."""
        steps = self.strides(stride).of_episode.tolist()
        chosen = {episode.first for episode in self.of_split(split) if episode.ordered}
        return [(episode, step) for episode, step in zip(self.episodes, steps, strict=True) if step and episode.first in chosen]

    def rates_line(self, split: str, stride: int | Strides) -> str | None:
        """Return a line about recordings of several rates and those that give no clip at a stride; None where there are none."""
        return rates_line(self.path, self.episodes, self.strides(stride), split)

    def of_split(self, split: str) -> list[Episode]:
        """Return the episodes of a split, or of all."""
        if split == "all":
            return self.episodes
        split = known_split(split)
        return [episode for episode in self.episodes if episode.split == split]

    def frames(self, indices: Sequence[int] | np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """Return frames uint8 (N, H, W, C) by global index, in the order asked for; in `out`, if given.

        `out` is C-contiguous; it may be the numpy view of a pinned tensor. Raises IndexError for a frame that is not there.
        """
        wanted = self._known_indices(indices)
        return self._gather(wanted, (len(wanted), *self.frame_shape), out)

    def windows(
        self, starts: Sequence[int] | np.ndarray, length: int, stride: int | Strides = 1, out: np.ndarray | None = None
    ) -> np.ndarray:
        """Return clips uint8 (N, T, H, W, C) that begin at `starts`, with `length` frames `stride` apart; in `out`, if given.

        Raises IndexError for a clip that leaves its episode.
        """
        wanted = self.window_indices(starts, length, stride)
        return self._gather(wanted.reshape(-1), (*wanted.shape, *self.frame_shape), out)

    def window_indices(self, starts: Sequence[int] | np.ndarray, length: int, stride: int | Strides = 1) -> np.ndarray:
        """Return the global indices int64 (N, T) of clips; raise IndexError for one that leaves its episode, or cannot have the rate."""
        _check_clip(length, stride)
        begins = self._known_indices(starts)
        steps, ends = self._steps(begins, stride), self._ends[np.searchsorted(self._ends, begins, side="right")]
        wrong = np.flatnonzero((begins + (length - 1) * steps >= ends) | (steps == 0) & (length > 1))
        if len(wrong):
            start, step = int(begins[wrong[0]]), int(steps[wrong[0]])
            name, rate = self.episode_at(start).name, self.strides(stride).rate
            if step == 0:
                raise IndexError(f"episode '{name}', of frame {start}, has no clips of {rate:g} frames/s")
            clip = f"a clip of {length} frames, {step} apart, from frame {start}"
            raise IndexError(f"{clip} leaves episode '{name}', which ends at frame {ends[wrong[0]] - 1}")
        return begins[:, None] + steps[:, None] * np.arange(length)

    def episode_at(self, index: int) -> Episode:
        """Return the episode that holds a frame."""
        return self.episodes[int(np.searchsorted(self._ends, index, side="right"))]

    def array(self, episode: Episode | int | str, name: str) -> np.ndarray:
        """Return an episode's array by name: "reward" (T,), "action.camera" (T, 2), ... read-only, in the type recorded.

        The episode is given itself, by its number or by its name. Raises KeyError for what it does not have.
        """
        episode = self._find(episode)
        info = episode.arrays[name]
        content = self._file.value(format.array_key(episode.name, name))
        try:
            dtype = np.dtype(info.dtype)
            if dtype.hasobject:
                # numpy would take the file's bytes for addresses in memory
                raise TypeError(f"type {dtype}")
            return np.ndarray(info.shape, dtype, content or b"")
        except (TypeError, ValueError) as error:
            raise UserError(f"{self.path}: damaged: '{name}' of {episode.name} is missing or no array; build the store again") from error

    def array_rows(self, name: str, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        """Return an array's entries (N, ...) that belong to frames, by global index: only they are read, not the episodes' arrays.

        All their episodes have it in one type and shape. Raises KeyError where one has not, UserError where it is short.
        """
        wanted = self._known_indices(indices)
        numbers = np.searchsorted(self._ends, wanted, side="right")
        first = self.episodes[int(numbers[0]) if len(numbers) else 0].arrays[name]
        rows = np.empty((len(wanted), *first.shape[1:]), first.dtype)
        size, parts = rows[:1].nbytes, []
        for number in np.unique(numbers).tolist():
            episode, of_it = self.episodes[number], np.flatnonzero(numbers == number)
            info = episode.arrays[name]
            if (info.dtype, info.shape[1:]) != (first.dtype, first.shape[1:]):
                raise KeyError(f"'{name}' of {episode.name} has another type or shape than elsewhere")
            offset, stored = self._file.extents.get(format.array_key(episode.name, name), (0, 0))
            places = wanted[of_it] - episode.first
            if len(places) and (places.max() + 1) * size > stored:
                raise UserError(f"{self.path}: damaged: '{name}' of {episode.name} is missing or short; build the store again")
            parts += [(offset + place * size, at * size, (at + 1) * size) for place, at in np.stack([places, of_it], 1).tolist()]
        if parts:
            self._file.read(parts, rows.data.cast("B"))
        return rows

    def signatures(self, episode: Episode) -> np.ndarray:
        """Return the signatures of an episode's frames, uint64 (N, 2): what tells duplicates."""
        content = self._file.value(format.signatures_key(episode.name)) or b""
        if len(content) != 16 * episode.length:
            raise UserError(f"{self.path}: damaged: the signatures of {episode.name} are missing; build the store again")
        return np.frombuffer(content, "<u8").reshape(-1, 2)

    def action_windows(self, starts: Sequence[int] | np.ndarray, length: int, stride: int | Strides = 1) -> np.ndarray | None:
        """Return float32 (N, T, A): for each frame of the windows the actions of the ticks that led to it, from the frame `stride` before.

        Several ticks become one as `foundation.ticks` says: turns are added up, a key is held if it ever was. Zeros stand at an episode's
        first frame, and at pictures without order. The A numbers follow `action_names`, each array flattened; a value given as text
        counts as its place among the sorted texts of the store. None when any ordered episode lacks actions.
        """
        if self.action_names is None:
            return None
        wanted = self.window_indices(starts, length, stride)
        episodes = np.searchsorted(self._ends, wanted[:, 0], side="right")
        if len(self._known_actions) < len(self.episodes):
            for number in np.unique(episodes).tolist():
                self._know_actions(number)
        steps = np.maximum(1, self._steps(wanted[:, 0], stride))
        if (steps == 1).all():
            return self._actions[wanted]
        ticks = np.minimum(steps[:, None], wanted - self._firsts[episodes][:, None])
        return joined_actions(self._actions, self._columns, wanted.reshape(-1), ticks.reshape(-1)).reshape(*wanted.shape, -1)

    @property
    def action_size(self) -> int:
        """How many numbers an action has: the A of `action_windows`; 0 without actions."""
        return sum(self.action_width(name) for name in self.action_names or ())

    def action_width(self, name: str) -> int:
        """Return how many numbers an action array has."""
        return array_width(next(e.arrays[name].shape for e in self.episodes if e.ordered and e.length > 1))

    def number_texts(self, texts: Mapping[str, Sequence[str]]) -> None:
        """Let each text of an action array count, from now on, as its place in a sorted list: such as an encoder's, of other recordings.

        Raises ValueError for a list that lacks a text of the store.
        """
        chosen = {name: list(texts.get(name, known)) for name, known in self.action_texts.items()}
        for name, known in self.action_texts.items():
            if not set(known) <= set(chosen[name]) or chosen[name] != sorted(chosen[name]):
                raise ValueError(f"the texts of '{name}' must be sorted and hold {known}, got {chosen[name]}")
        if chosen != self.action_texts:
            self.action_texts = chosen
            self._columns = action_columns(self.episodes, self.action_names or (), chosen)
            self._known_actions.clear()

    def _steps(self, starts: np.ndarray, stride: int | Strides) -> np.ndarray:
        """Return int64 (N,): how many recorded frames a stride is where each clip begins."""
        return self.strides(stride).of_episode[np.searchsorted(self._ends, starts, side="right")]

    def _know_actions(self, number: int) -> None:
        """Fill in an episode's actions, if not done yet; those of its first frame stay zero."""
        episode = self.episodes[number]
        if number not in self._known_actions and episode.ordered and episode.length > 1:
            columns = [self._numbers(episode, name) for name in self.action_names or ()]
            self._actions[episode.first + 1 : episode.first + episode.length] = np.concatenate(columns, axis=1)
        self._known_actions.add(number)

    def _numbers(self, episode: Episode, name: str) -> np.ndarray:
        """Return an array as float32 (T, K): texts by their place, everything else flattened."""
        values = self.array(episode, name)[: episode.length - 1]
        if values.dtype.kind == "U":
            values = np.searchsorted(self.action_texts[name], values)
        return values.reshape(len(values), -1).astype(np.float32)

    def _known_indices(self, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        """Return indices as int64 (N,), when there are such frames."""
        wanted = np.asarray(indices).reshape(-1)
        if len(wanted) and wanted.dtype.kind not in "iu":
            raise TypeError(f"frames are asked for by whole numbers, not by {wanted.dtype}")
        if len(wanted) and (wanted.min() < 0 or wanted.max() >= len(self)):
            raise IndexError(f"frame {wanted.min() if wanted.min() < 0 else wanted.max()} of a store with {len(self)} frames")
        return wanted.astype(np.int64, copy=False)

    def _gather(self, wanted: np.ndarray, shape: tuple[int, ...], out: np.ndarray | None) -> np.ndarray:
        """Put the wanted frames into an array of `shape`, from memory or from the file."""
        output = np.empty(shape, np.uint8) if out is None else out
        if output.shape != shape or output.dtype != np.uint8 or not output.flags.c_contiguous or not output.flags.writeable:
            raise ValueError(f"out is {output.dtype} {output.shape}; it must be writable, C-contiguous uint8 {shape}")
        flat = output.reshape(len(wanted), self._frame_bytes)
        if self._held is not None:
            np.take(self._held, wanted, axis=0, out=flat, mode="clip")
        elif len(wanted):
            self._copy(wanted, flat)
        return output

    def _copy(self, wanted: np.ndarray, flat: np.ndarray) -> None:
        """Copy frames from the file, those that lie side by side at once, in the order in which they lie on the disk."""
        size = self._frame_bytes
        offsets = self._offsets(wanted)
        begins = np.concatenate([[0], np.flatnonzero(np.diff(offsets) != size) + 1])
        ends = np.append(begins[1:], len(wanted))
        order = np.argsort(offsets[begins], kind="stable")
        runs = np.stack([offsets[begins], begins * size, ends * size])[:, order].T.tolist()
        self._file.read(runs, flat.reshape(-1).data)

    def _offsets(self, wanted: np.ndarray) -> np.ndarray:
        """Return where in the file each frame begins."""
        episodes = np.searchsorted(self._ends, wanted, side="right")
        chunks, within = np.divmod(wanted - self._firsts[episodes], self._per_chunk)
        places = self._chunks[self._first_chunks[episodes] + chunks]
        missing = np.flatnonzero(places < 0)
        if len(missing):
            name = self.episodes[episodes[missing[0]]].name
            raise UserError(f"{self.path}: damaged: frames of {name} are missing; build the store again")
        return places + within * self._frame_bytes

    @cached_property
    def _chunks(self) -> np.ndarray:
        """Where in the file every chunk begins, episode by episode; -1 where one is missing or not as long as it should be."""
        places = np.full(int(self._first_chunks[-1]) + -(-int(self._lengths[-1]) // self._per_chunk), -1, np.int64)
        numbers = {format.chunk_prefix(episode.name): number for number, episode in enumerate(self.episodes)}
        for key, (offset, size) in self._file.extents.items():
            number = numbers.get(key[:-4])
            if number is not None:
                chunk = int.from_bytes(key[-4:], "big")
                frames = min(self._per_chunk, int(self._lengths[number]) - chunk * self._per_chunk)
                if frames > 0 and size == frames * self._frame_bytes:
                    places[self._first_chunks[number] + chunk] = offset
        return places

    def _load(self) -> np.ndarray:
        """Read all frames, uint8 (len(store), H * W * C)."""
        check_memory(str(self.path), len(self) * self._frame_bytes, "open it without in_memory")
        held = np.empty((len(self), self._frame_bytes), np.uint8)
        for first in range(0, len(self), _LOADED_AT_ONCE):
            part = held[first : first + _LOADED_AT_ONCE]
            self._copy(np.arange(first, first + len(part)), part)
        return held

    def _find(self, episode: Episode | int | str) -> Episode:
        if isinstance(episode, int):
            return self.episodes[episode]
        if isinstance(episode, str):
            names = [known.name for known in self.episodes]
            if episode not in names:
                raise KeyError(f"no episode '{episode}': {nearest(episode, names)}")
            return self.episodes[names.index(episode)]
        return episode


def check_memory(where: str, needed: int, remedy: str) -> None:
    """Raise `UserError` when frames of `needed` bytes are more than the memory that is free: to hold them would end the process."""
    free = free_memory()
    if free is not None and needed > free:
        sizes = f"{needed / 2**30:.1f} GiB of frames, {free / 2**30:.1f} GiB of memory free"
        raise UserError(f"{where}: does not fit into memory ({sizes}); {remedy}")


def _opened_again(path: Path, seal: bytes, texts: dict[str, list[str]]) -> FrameStore:
    store = FrameStore(path)
    if store._seal != seal:
        raise UserError(f"{path}: another store took its place since it was opened; start again")
    store.number_texts(texts)
    return store


def _episodes(path: Path, meta: dict[str, Any]) -> list[Episode]:
    episodes, first = [], 0
    try:
        for record in meta["episodes"]:
            episodes.append(format.episode_from_json(record, first))
            first += episodes[-1].length
    except (KeyError, TypeError) as error:
        raise UserError(f"{path}: the episode table is damaged ({error}); build the store again") from error
    return episodes


def _check_clip(length: int, stride: int | Strides) -> None:
    if length < 1 or (isinstance(stride, int) and stride < 1):
        raise ValueError(f"clips of {length} frames, {stride} apart: both must be at least 1")


def _texts(episodes: list[Episode]) -> dict[str, list[str]]:
    """Every text that an array of texts holds anywhere in the store, sorted, by the array's name."""
    found: dict[str, set[str]] = {}
    for episode in episodes:
        for name, info in episode.arrays.items():
            found.setdefault(name, set()).update(info.texts)
    return {name: sorted(texts) for name, texts in found.items()}
