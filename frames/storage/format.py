"""What a frame store holds on disk: keys, chunks and the `meta` record (docs/frame_store.md)."""

import dataclasses
import hashlib
import json
import re
import struct
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

FORMAT = "minerl-perception frames"
VERSION = 2
CODEC = "raw"
META_KEY = b"meta"
SEAL_KEY = b"seal"
PLAN_KEY = b"plan"
NAME_BYTES = 16
CHUNK_FRAMES = 32
CHUNK_BYTES = 512 * 1024
MASKS = "observation.masks"
"""Which pixels belong to what: uint8 (F, K, H, W, 1), 0 or 255, the background first."""
RANDOM_PLAYER = "random"
"""How the source of a rollout names the player that acts at random, after a comma."""
_ROLLOUT = re.compile(r"(?:^|/)seed (\d{1,20})/(\d{6,20})(?: |$)", re.ASCII)

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = ("train", "val", "test")


@dataclass(frozen=True)
class ArrayInfo:
    """A per-step array of an episode: numpy type, shape, the hash of its bytes, and the texts it holds if it is of text."""

    dtype: str
    shape: tuple[int, ...]
    content: str
    texts: tuple[str, ...] = ()


@dataclass(frozen=True)
class Episode:
    """One recording or rollout: `length` consecutive frames, and what was recorded beside them.

    `ordered` is False for picture folders, whose neighbours are no clip. `content` is the hash of its frames, `origin` the size in bytes
    of what it was read from, `task` what was played as far as its source tells, `trimmed` how many frames were left out of it ("lead",
    "tail", "frozen"), `signatures` the hash of what tells duplicates, `first` the global index of its first frame.
    """

    name: str
    source: str
    length: int
    frames_per_second: float
    ordered: bool
    content: str
    arrays: dict[str, ArrayInfo] = field(default_factory=dict)
    origin: int = 0
    task: str = ""
    trimmed: dict[str, int] = field(default_factory=dict)
    signatures: str = ""
    split: Split = "train"
    first: int = 0

    @property
    def rollout(self) -> tuple[int, int] | None:
        """Seed and number of the world that a rollout was played in, which its name tells, of a merged one too; None for recordings."""
        found = None if self.origin else _ROLLOUT.search(self.name)
        return None if found is None else (int(found[1]), int(found[2]))


@dataclass(frozen=True)
class LeftOut:
    """What did not go into a store, and why; `frames` of it where known.

    `fault` says that it could not be read, and is not just unwanted. `origin` is the size in bytes of what it was read from, `source`
    where: when either has changed, an append tries it again.
    """

    name: str
    reason: str
    frames: int | None = None
    fault: bool = True
    origin: int = 0
    source: str = ""


def frames_per_chunk(frame_shape: tuple[int, int, int]) -> int:
    """Frames in a full chunk: 32, or as many as 512 KiB hold, at least one."""
    return max(1, min(CHUNK_FRAMES, CHUNK_BYTES // int(np.prod(frame_shape))))


def new_digest() -> Any:
    """The hash of all contents: sha256."""
    return hashlib.sha256()


def content_hash(content: Iterable[Any]) -> str:
    """Hash buffers one after the other: sha256, hexadecimal."""
    digest = new_digest()
    for piece in content:
        digest.update(piece)
    return digest.hexdigest()


def stored_array(values: np.ndarray) -> np.ndarray:
    """Return a per-step array as a store holds it: little-endian, in C order."""
    return np.asarray(values, values.dtype.newbyteorder("<"), order="C")


def array_info(array: np.ndarray) -> ArrayInfo:
    """Describe a contiguous per-step array."""
    texts = tuple(np.unique(array).tolist()) if array.dtype.kind == "U" else ()
    return ArrayInfo(array.dtype.str, array.shape, content_hash([array.tobytes()]), texts)


def seal(meta: bytes) -> bytes:
    """Return what stands beside a meta record, whose hashes tell damage to everything else: its own hash, sha256."""
    return hashlib.sha256(meta).digest()


def fingerprint(episodes: Iterable[Episode]) -> str:
    """The store's fingerprint: the hash of the sorted content hashes, so that neither order nor names matter."""
    return content_hash([" ".join(sorted(episode.content for episode in episodes)).encode()])


def identity(episodes: Iterable[Episode]) -> str:
    """What tells apart stores of the same frames: the hash of the episodes in their order, with all that is said and recorded of each.

    Where recordings were read from does not count, nor what was left out of them; a rollout's source does, since it names the player.
    """
    return content_hash([encode_json([_identifying(episode) for episode in episodes])])


def _identifying(episode: Episode) -> dict[str, Any]:
    told = ("name", "task", "split", "length", "frames_per_second", "ordered", "content")
    arrays = {name: [info.dtype, info.shape, info.content] for name, info in episode.arrays.items()}
    played = "" if episode.origin else episode.source
    return {**{name: getattr(episode, name) for name in told}, "arrays": arrays, "played": played}


def chunk_prefix(episode: str) -> bytes:
    """The first bytes of the keys of an episode's chunks. LMDB keys are short, names are not: hence the hash."""
    return b"f" + _short(episode)


def chunk_key(prefix: bytes, chunk: int) -> bytes:
    return prefix + struct.pack(">I", chunk)


def array_key(episode: str, array: str) -> bytes:
    return b"a" + _short(episode) + _short(array)


def signatures_key(episode: str) -> bytes:
    """Where the signatures of an episode's frames are: what tells duplicates."""
    return b"d" + _short(episode)


def left_out_key(episode: str) -> bytes:
    """Where a build keeps what it left out of an episode."""
    return b"l" + _short(episode)


def record_key(episode: str) -> bytes:
    """Where a build keeps an episode's record; its presence says that the episode is complete."""
    return b"e" + _short(episode)


def episode_to_json(episode: Episode) -> dict[str, Any]:
    record = dataclasses.asdict(episode)
    del record["first"]
    return record


def episode_from_json(record: dict[str, Any], first: int = 0) -> Episode:
    """Read an episode's record; raises KeyError or TypeError where it is damaged."""
    arrays = {
        name: ArrayInfo(info["dtype"], tuple(info["shape"]), info["content"], tuple(info["texts"]))
        for name, info in record["arrays"].items()
    }
    return Episode(**{**record, "arrays": arrays, "first": first})


def encode_json(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True).encode()


def _short(name: str) -> bytes:
    return hashlib.blake2b(name.encode("utf-8", "surrogateescape"), digest_size=NAME_BYTES).digest()
