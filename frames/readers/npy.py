"""Arrays of pictures in .npy files: (N, H, W, 3) is one unordered episode, (N, T, H, W, 3) an episode a clip."""

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from frames.readers.decoding import MOST_PIXELS
from frames.readers.npz import Header
from frames.readers.recording import SPLIT_FOLDERS, BadRecording, ExcludedRecording, Folder, Layout, Recording
from frames.readers.reported import Reported

SUFFIX = ".npy"
# numpy's own headers take 128 bytes, a few more for many dimensions
_LONGEST_HEADER = 2048
_SLICE_BYTES = 8 << 20


@dataclass
class NpyPictures(Recording):
    """All pictures of a file, or one of its clips. Nothing tells where a recording ends among pictures, hence unordered."""

    clip: int | None = None
    pictures: int | None = None

    def __post_init__(self) -> None:
        self.ordered = self.clip is not None

    def expected_frames(self) -> int | None:
        return self.pictures

    def frames_per_second(self) -> float:
        return 20.0 if self.ordered else 1.0

    def frames(self) -> Iterator[np.ndarray]:
        """Yield copies, some megabytes in memory at a time."""
        header, offset = read_header(self.path)
        _check_pictures(header)
        try:
            yield from self._mapped(header, offset) if header.fortran_order else self._in_turn(header, offset)
        except (OSError, ValueError) as error:
            raise BadRecording(f"cannot be read ({error})") from error

    def _in_turn(self, header: Header, offset: int) -> Iterator[np.ndarray]:
        """Read one part after the other: were the file mapped, its being cut meanwhile would kill the process."""
        count, *shape = header.shape[-4:]
        each = math.prod(shape)
        step = max(1, _SLICE_BYTES // each)
        with open(self.path, "rb", buffering=0) as file:
            file.seek(offset + (self.clip or 0) * count * each)
            for at in range(0, count, step):
                wanted = min(step, count - at)
                part = np.fromfile(file, np.uint8, wanted * each)
                if part.size < wanted * each:
                    raise BadRecording("was cut while it was read")
                yield from part.reshape(wanted, *shape)

    def _mapped(self, header: Header, offset: int) -> Iterator[np.ndarray]:
        """Gather pictures whose bytes lie all over the file."""
        mapped = np.memmap(self.path, np.uint8, "r", offset, header.shape, "F")
        pictures = mapped if self.clip is None else mapped[self.clip]
        step = max(1, _SLICE_BYTES // pictures[0].nbytes)
        for at in range(0, len(pictures), step):
            yield from np.array(pictures[at : at + step], order="C")


def find(folder: Folder) -> list[Recording]:
    """Take every .npy: one that holds no pictures is listed with the reason."""
    return [recording for file in folder.with_suffix(SUFFIX) for recording in _recordings(folder, file)]


NPY = Layout("npy", f"{SUFFIX} arrays of pictures, uint8 (N, H, W, 3), or of clips (N, T, H, W, 3)", find)


def read_header(path: Path) -> tuple[Header, int]:
    """Return what a .npy announces, and where its values begin; the file has as many bytes as they take.

    Raises `BadRecording` where it is damaged, truncated, or holds Python objects.
    """
    try:
        if not path.is_file():
            raise BadRecording("is no file")
        with open(path, "rb") as file:
            version = np.lib.format.read_magic(file)
            # later ones, for tables of many columns, may announce headers of gigabytes
            if version != (1, 0):
                raise BadRecording(f"is of .npy version {version[0]}.{version[1]}; save it with numpy.save")
            shape, fortran_order, dtype = np.lib.format.read_array_header_1_0(file, max_header_size=_LONGEST_HEADER)
            offset, size = file.tell(), os.fstat(file.fileno()).st_size
    except BadRecording:
        raise
    # numpy raises half a dozen types for a damaged header
    except Exception as error:
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())[:200] or type(error).__name__
        raise BadRecording(f"cannot be read as .npy ({reason})") from error
    header = Header(dtype, shape, fortran_order)
    if dtype.hasobject:
        raise BadRecording("holds Python objects, which are not read: they may run code")
    if min(shape, default=0) < 0 or offset + header.nbytes != size:
        raise BadRecording(f"has {size:,} bytes where its shape {shape} of {dtype} needs {offset + header.nbytes:,}")
    return header, offset


def _recordings(folder: Folder, file: Path) -> Iterator[Recording]:
    name, split = folder.name(file.name), SPLIT_FOLDERS.get(file.stem.lower())
    try:
        header, _ = read_header(file)
        shape = header.shape
        if len(shape) == 5 and shape[0] > 0:
            for clip in range(shape[0]):
                yield NpyPictures(f"{name}/{clip:06d}", file, [file], split=split, clip=clip, pictures=shape[1])
        else:
            _check_pictures(header)
            yield NpyPictures(name, file, [file], split=split, pictures=shape[0])
    except BadRecording as error:
        yield Reported(name, file, [file], split=split, reason=str(error), fault=error.fault)


def _check_pictures(header: Header) -> None:
    shape, dtype = header.shape, header.dtype
    held = f"holds {dtype} {shape}"
    if len(shape) not in (4, 5):
        raise ExcludedRecording(f"{held}: no pictures (N, H, W, 3) and no clips (N, T, H, W, 3)")
    if dtype.kind == "f":
        raise BadRecording(f"{held}, but pictures are uint8; save numbers x in [0, 1] as (255 * x).round().astype(numpy.uint8)")
    if dtype != np.uint8:
        raise BadRecording(f"{held}, but pictures are uint8; save them as .astype(numpy.uint8) when they lie in 0 to 255")
    if shape[-1] != 3:
        remedy = "save numpy.moveaxis(x, -3, -1)" if shape[-3] == 3 else "red, green and blue are expected last"
        raise BadRecording(f"{held}, but pictures are RGB (H, W, 3); {remedy}")
    if min(shape) == 0:
        raise BadRecording(f"{held}: no frame")
    if shape[-3] * shape[-2] > MOST_PIXELS:
        raise BadRecording(f"{held}: pictures larger than 8K")
