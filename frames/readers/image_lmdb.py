"""LMDBs of pictures under decimal keys, as NVAE's training reads them: one unordered episode each, read without liblmdb."""

import json
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from foundation.errors import UserError
from frames.readers.decoding import MOST_PIXELS
from frames.readers.pictures import decode_picture
from frames.readers.recording import SPLIT_FOLDERS, BadRecording, ExcludedRecording, Folder, Layout, Recording
from frames.readers.reported import Reported
from frames.storage import format
from frames.storage.lmdb_nodes import HEADER
from frames.storage.lmdb_pages import DamagedLmdb, UnusualLmdb, Values, find_values, is_header

DATA = "data.mdb"
_LOCK = "lock.mdb"
_SUFFIXES = (".lmdb", ".mdb")
_ENCODED = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n")
_SAMPLE = 16
_SMALLEST_SIDE = 8
_LARGEST_VALUE = 3 * MOST_PIXELS
# more digits do not fit into 64 bits
_LONGEST_KEY = 18


@dataclass
class ImageLmdb(Recording):
    """Values are raw uint8 RGB (side, side, 3) or all encoded as PNG or JPEG, in the order of their numbers.

    Keys that are no numbers and values that are no pictures are left out one by one, and named in `skipped`.
    """

    values: int = 0
    ordered = False

    def expected_frames(self) -> int:
        return self.values

    def frames_per_second(self) -> float:
        return 1.0

    def frames(self) -> Iterator[np.ndarray]:
        self.skipped.clear()
        values = _values_of(self.files[0])
        order = self._in_order(values)
        with open(self.files[0], "rb", buffering=0) as file:
            encoded = _are_encoded(os.pread(file.fileno(), 8, int(values.offsets[place])) for place in order[:_SAMPLE])
            for place in order:
                try:
                    yield _picture(_read(file.fileno(), values, place), encoded)
                except BadRecording as error:
                    self.skipped.append((self._name_of(values, place), str(error)))
        if len(self.skipped) == len(values.sizes):
            raise BadRecording(f"none of its {len(self.skipped):,} values is a picture ({self.skipped[0][1]})")

    def _in_order(self, values: Values) -> list[int]:
        """Return the places of the values under numbers, in their order."""
        numbered = _numbered(values)
        self.skipped += [(self._name_of(values, place), "its key is no number") for place in np.flatnonzero(~numbered).tolist()]
        places = np.flatnonzero(numbered)
        return places[np.argsort(values.keys.content[places].astype(np.int64), kind="stable")].tolist()

    def _name_of(self, values: Values, place: int) -> str:
        return f"{self.name}/{_text(values.keys.content[place])}"


def find(folder: Folder) -> list[Recording]:
    """Take LMDBs that are folders, and those that are single files; our own stores are none."""
    files = [file for file in folder.with_suffix(*_SUFFIXES) if file.name != _LOCK]
    found = [_recording(folder, folder.path if file.name == DATA else file, file) for file in files]
    return [recording for recording in found if recording is not None]


LMDB = Layout("lmdb", f"LMDBs of pictures under the keys 0, 1, 2, ... ({DATA})", find)


def _recording(folder: Folder, path: Path, data: Path) -> Recording | None:
    name, split = folder.name() if path == folder.path else folder.name(path.name), SPLIT_FOLDERS.get(path.stem.lower())
    try:
        values = _values_of(data)
        if _is_store(data, values):
            if folder.path == folder.source:
                raise UserError(f"{path}: is a frame store; give the folder of your recordings")
            return None
        return ImageLmdb(name, path, [data], split=split, values=int(_numbered(values).sum()))
    # named by the file: pictures in its folder may be a recording, which is called as the folder is
    except BadRecording as error:
        return Reported(folder.name(data.name), data, [data], split=split, reason=str(error), fault=error.fault)
    except OSError as error:
        return Reported(folder.name(data.name), data, [data], split=split, reason=f"cannot be read ({error.strerror})")


def _is_store(data: Path, values: Values) -> bool:
    """Say whether an LMDB is a frame store, finished or not."""
    keys = values.keys.content
    if (keys == format.PLAN_KEY).any():
        return True
    meta = np.flatnonzero(keys == format.META_KEY)
    if not len(meta):
        return False
    with open(data, "rb", buffering=0) as file:
        content = os.pread(file.fileno(), int(values.sizes[meta[0]]), int(values.offsets[meta[0]]))
    try:
        return bool(json.loads(content)["format"] == format.FORMAT)
    except (ValueError, KeyError, TypeError, RecursionError):
        return False


def _values_of(data: Path) -> Values:
    try:
        return find_values(data)
    except DamagedLmdb as error:
        raise BadRecording(f"{data.name} is damaged: {error}") from None
    except UnusualLmdb as error:
        raise ExcludedRecording(f"an LMDB of another program: {error}") from None


def _numbered(values: Values) -> np.ndarray:
    """Say of each value whether its key is a number, bool (N,); raise `ExcludedRecording` where none is."""
    keys, sizes = values.keys.content, values.keys.sizes
    numbered = np.char.isdigit(keys) & (np.char.str_len(keys) == sizes) & (sizes <= _LONGEST_KEY)
    if not numbered.any():
        held = f"its keys, such as {_text(keys[0])}, are no numbers" if len(keys) else "it is empty"
        raise ExcludedRecording(f"an LMDB of another program: {held}; pictures are expected under 0, 1, 2, ...")
    return numbered


def _read(handle: int, values: Values, place: int) -> bytes:
    size = int(values.sizes[place])
    if size > _LARGEST_VALUE:
        raise BadRecording(f"{size:,} bytes are too many for a picture")
    page = int(values.pages[place])
    ahead = HEADER if page else 0
    content = os.pread(handle, ahead + size, int(values.offsets[place]) - ahead)
    if len(content) < ahead + size or (page and not is_header(content[:HEADER], page)):
        raise BadRecording("its pages are lost or damaged")
    return content[ahead:]


def _are_encoded(sample: Iterator[bytes]) -> bool:
    """Say whether values are encoded pictures, by most of a sample: a raw picture may happen to begin like one."""
    signs = [content.startswith(_ENCODED) for content in sample]
    return 2 * sum(signs) > len(signs)


def _picture(content: bytes, encoded: bool) -> np.ndarray:
    if encoded:
        return decode_picture(content)
    side = math.isqrt(len(content) // 3)
    if side < _SMALLEST_SIDE or 3 * side * side != len(content):
        raise BadRecording(f"its {len(content):,} bytes are no raw square RGB picture")
    return np.frombuffer(content, np.uint8).reshape(side, side, 3)


def _text(key: bytes) -> str:
    return repr(bytes(key[:40]))[2:-1]
