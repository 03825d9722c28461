"""Reading an .npz that nobody vouches for: what it announces is checked before anything is decompressed."""

import math
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np

from frames.readers.recording import BadRecording

MOST_BYTES = 256 << 20
_MOST_MEMBERS = 1000
# numpy's own headers take 128 bytes, a few more for many dimensions
_LONGEST_HEADER = 2048
_ENCRYPTED = 0x1
_BLOCK = 1 << 20


@dataclass(frozen=True)
class Header:
    """What the header of one array announces; none of it is known to be true."""

    dtype: np.dtype
    shape: tuple[int, ...]
    fortran_order: bool

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


class Npz:
    """An opened .npz: `headers` of all its arrays by key, and `read` for some of them."""

    def __init__(self, name: str, archive: zipfile.ZipFile) -> None:
        self._name, self._archive = name, archive
        self._members = _members(name, archive)
        self.headers = {key: self._header(key) for key in self._members}

    def read(self, keys: Iterable[str]) -> dict[str, np.ndarray]:
        """Return arrays in the machine's byte order, decompressing no more than their headers announce.

        Raises `BadRecording` where they come to more than `MOST_BYTES` together, or one holds Python objects, more or less than it
        announces, or fails its checksum.
        """
        keys = list(keys)
        for key in keys:
            dtype = self.headers[key].dtype
            if dtype.kind not in "biufU" or dtype.itemsize == 0:
                raise self._bad(key, f"is of type {dtype}, neither numbers nor text")
        total = sum(self.headers[key].nbytes for key in keys)
        if total > MOST_BYTES:
            raise BadRecording(f"{self._name} announces {total:,} bytes of arrays, more than {MOST_BYTES:,}")
        return {key: self._read(key) for key in keys}

    def _read(self, key: str) -> np.ndarray:
        header = self.headers[key]
        content = bytearray(header.nbytes)
        with self._archive.open(self._members[key]) as file:
            _read_header(cast(BinaryIO, file))
            # zipfile checks the sum when it meets the end
            if _fill(content, cast(BinaryIO, file)) < len(content) or file.read(1):
                raise self._bad(key, f"does not hold the {header.nbytes:,} bytes of its shape {header.shape}")
        values = np.frombuffer(content, header.dtype)
        values = values.reshape(header.shape[::-1]).T if header.fortran_order else values.reshape(header.shape)
        return np.asarray(values, header.dtype.newbyteorder("="), order="C")

    def _header(self, key: str) -> Header:
        member = self._members[key]
        with self._archive.open(member) as file:
            header = _read_header(cast(BinaryIO, file))
            needed = file.tell() + header.nbytes
        if min(header.shape, default=0) < 0:
            raise self._bad(key, f"announces the shape {header.shape}")
        if not header.dtype.hasobject and needed != member.file_size:
            raise self._bad(key, f"has {member.file_size:,} bytes where its shape {header.shape} needs {needed:,}")
        return header

    def _bad(self, key: str, reason: str) -> BadRecording:
        return BadRecording(f"{self._name}: '{key}' {reason}")


@contextmanager
def open_npz(path: Path) -> Iterator[Npz]:
    """Open an .npz and look at its directory and its headers, at a few kilobytes an array.

    Raises `BadRecording`, here and in the block, for whatever is damaged, encrypted, named twice or no .npy.
    """
    try:
        if path.exists() and not path.is_file():
            raise BadRecording(f"{path.name} is no file")
        with zipfile.ZipFile(path) as archive:
            yield Npz(path.name, archive)
    except BadRecording:
        raise
    # zipfile, zlib and numpy raise a dozen types for a damaged file
    except Exception as error:
        reason = getattr(error, "strerror", None) or " ".join(str(error).split()) or type(error).__name__
        raise BadRecording(f"{path.name} cannot be read ({reason})") from error


def _members(name: str, archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    listed = archive.infolist()
    if len(listed) > _MOST_MEMBERS:
        raise BadRecording(f"{name} holds {len(listed):,} arrays, more than {_MOST_MEMBERS:,}")
    members: dict[str, zipfile.ZipInfo] = {}
    for member in listed:
        key = member.filename.removesuffix(".npy")
        complaint = "is there twice" if key in members else _complaint(member)
        if complaint:
            raise BadRecording(f"{name}: '{key}' {complaint}")
        members[key] = member
    return members


def _complaint(member: zipfile.ZipInfo) -> str | None:
    if not member.filename.endswith(".npy"):
        return "is no .npy array"
    if member.flag_bits & _ENCRYPTED:
        return "is encrypted"
    # the other methods decompress without a bound
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        return f"is compressed by method {member.compress_type}; numpy stores or deflates"
    return None


def _read_header(file: BinaryIO) -> Header:
    """Read a header of .npy version 1.0: later ones, for tables of many columns, may announce headers of gigabytes."""
    version = np.lib.format.read_magic(file)
    if version != (1, 0):
        raise ValueError(f"an array of .npy version {version[0]}.{version[1]}")
    shape, fortran_order, dtype = np.lib.format.read_array_header_1_0(file, max_header_size=_LONGEST_HEADER)
    return Header(dtype, shape, fortran_order)


def _fill(content: bytearray, file: BinaryIO) -> int:
    """Read until `content` is full or the file ends; return how many bytes there were."""
    at = 0
    while at < len(content):
        piece = file.read(min(_BLOCK, len(content) - at))
        if not piece:
            break
        content[at : at + len(piece)] = piece
        at += len(piece)
    return at
