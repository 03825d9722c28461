"""Pictures of digits: from MNIST's IDX files, or drawn with OpenCV's fonts. Each belongs to one split."""

import hashlib
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from foundation.errors import UserError
from foundation.outside import read_regular
from frames.storage.format import Split

_IMAGES, _LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"
_UNSIGNED_BYTES = 8
_MOST_BYTES = 256 << 20
"""Of a file's content. MNIST's training images have 47 MB."""
_SIZES = (4, 48)
"""Height and width that a picture must have: it is to move in one of 64x64."""
_FOR_VAL, _FOR_TEST, _PARTS = 0, 1, 10
_VARIANTS = 100
_SIZE, _FINE = 28, 4
_FONTS = (
    cv2.FONT_HERSHEY_SIMPLEX,
    cv2.FONT_HERSHEY_DUPLEX,
    cv2.FONT_HERSHEY_COMPLEX,
    cv2.FONT_HERSHEY_TRIPLEX,
    cv2.FONT_HERSHEY_SCRIPT_SIMPLEX,
    cv2.FONT_HERSHEY_SCRIPT_COMPLEX,
)


@dataclass(frozen=True)
class DigitPictures:
    """N pictures uint8 (N, h, w), white on black, and which digits they show, uint8 (N,); None where nothing tells."""

    pictures: np.ndarray
    labels: np.ndarray | None

    @property
    def digest(self) -> str:
        """The hash of the pictures, SHA-256."""
        return hashlib.sha256(self.pictures.tobytes()).hexdigest()

    def of_split(self, split: Split) -> np.ndarray:
        """Return the places int64 of the pictures that a split's episodes show: one tenth for val, one for test, the others for train."""
        part = np.arange(len(self.pictures)) % _PARTS
        chosen = part == _FOR_VAL if split == "val" else part == _FOR_TEST if split == "test" else part > _FOR_TEST
        return np.flatnonzero(chosen)


def read_digits(folder: Path) -> DigitPictures:
    """Read MNIST's training pictures, with their labels if those are there; each file may be packed (.gz).

    Raises `UserError` for a file that is missing or is not exactly what its header announces.
    """
    images = _found(folder, _IMAGES)
    if images is None:
        raise UserError(f"--digits {folder}: no {_IMAGES} or {_IMAGES}.gz there; give the folder with MNIST's files")
    pictures = read_idx(images, 3)
    low, high = _SIZES
    if len(pictures) < _PARTS or not all(low <= side <= high for side in pictures.shape[1:]):
        shape = " x ".join(str(side) for side in pictures.shape)
        raise UserError(f"{images}: holds {shape} numbers; {_PARTS} pictures or more are needed, each from {low} to {high} pixels a side")
    path = _found(folder, _LABELS)
    labels = None if path is None else read_idx(path, 1)
    if labels is not None and (len(labels) != len(pictures) or labels.max() > 9):
        raise UserError(f"{path}: has {len(labels):,} labels up to {labels.max()} for {len(pictures):,} pictures of digits; take both anew")
    return DigitPictures(pictures, labels)


def read_idx(path: Path, dimensions: int) -> np.ndarray:
    """Return the unsigned bytes of an IDX file with so many dimensions; raise `UserError` unless it is exactly what its header says.

    The format: two zero bytes, the type, the number of dimensions, each dimension's size as a big-endian number, the values
    (LeCun, Cortes and Burges, "The MNIST database"). A packed file is unpacked no further than its header announces.
    """
    try:
        content = read_regular(path, _MOST_BYTES)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    head = 4 + 4 * dimensions
    unpacked = _Unpacked(path, content) if path.suffix == ".gz" else None
    header = content[:head] if unpacked is None else unpacked.take(head)
    if len(header) < head or header[:4] != bytes((0, 0, _UNSIGNED_BYTES, dimensions)):
        kind = f"an IDX file of unsigned bytes in {dimensions} dimension{'s' if dimensions > 1 else ''}"
        raise UserError(f"{path}: is not {kind} (it begins with {header[:4].hex() or 'nothing'}); take it anew")
    shape = struct.unpack(f">{dimensions}I", header[4:])
    size = 1
    for side in shape:
        size *= side
    if not 0 < size <= _MOST_BYTES:
        raise UserError(f"{path}: announces {size:,} values, and 1 to {_MOST_BYTES:,} are read of such a file")
    if unpacked is None:
        held, body = len(content) - head, content[head:]
    else:
        # a byte more than there may be: a file that goes on is another one
        body = unpacked.take(size + 1)
        held = len(body)
        unpacked.check_end(held <= size)
    if held != size:
        raise UserError(f"{path}: announces {size:,} values and holds {'more' if held > size else f'{held:,}'}; take it anew")
    return np.frombuffer(body, np.uint8).reshape(shape)


def drawn_digits() -> DigitPictures:
    """Draw 100 pictures of every digit with OpenCV's fonts: turned, slanted, thick and thin, always the same ones."""
    random = np.random.default_rng(0)
    pictures = [_drawn(random, digit) for _ in range(_VARIANTS) for digit in range(10)]
    # by variant, so that every split has all digits
    order = np.arange(len(pictures)).reshape(_VARIANTS // _PARTS, _PARTS, 10).transpose(0, 2, 1).reshape(-1)
    return DigitPictures(np.stack(pictures)[order], (order % 10).astype(np.uint8))


class _Unpacked:
    """A gzip stream, unpacked as far as asked for."""

    def __init__(self, path: Path, content: bytes) -> None:
        self.path, self._rest = path, content
        self._stream = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)

    def take(self, count: int) -> bytes:
        """Return the next `count` bytes, or fewer at the end."""
        taken = b""
        try:
            while len(taken) < count and not self._stream.eof and (self._rest or not taken):
                taken += self._stream.decompress(self._rest, count - len(taken))
                if self._rest == self._stream.unconsumed_tail:
                    break
                self._rest = self._stream.unconsumed_tail
        except zlib.error as error:
            raise UserError(f"{self.path}: is damaged, or no gzip file ({error}); take it anew") from error
        return taken

    def check_end(self, should_end: bool) -> None:
        """Raise `UserError` where the stream should have ended, checksum included, and has not, or where more follows it."""
        if should_end and (not self._stream.eof or self._stream.unused_data):
            what = "something follows its end" if self._stream.eof else "it ends too early"
            raise UserError(f"{self.path}: is damaged ({what}); take it anew")


def _found(folder: Path, name: str) -> Path | None:
    return next((path for path in (folder / name, folder / f"{name}.gz") if path.exists()), None)


def _drawn(random: np.random.Generator, digit: int) -> np.ndarray:
    """Draw a digit about 20 pixels high in the middle of 28x28, four times as fine at first."""
    side = _SIZE * _FINE
    font = int(random.choice(_FONTS)) | (cv2.FONT_ITALIC if random.random() < 0.3 else 0)
    thickness = int(random.integers(4, 11))
    scale = 3.0
    (width, height), _ = cv2.getTextSize(str(digit), font, scale, thickness)
    fine = np.zeros((side, side), np.uint8)
    cv2.putText(fine, str(digit), ((side - width) // 2, (side + height) // 2), font, scale, 255, thickness, cv2.LINE_AA)
    turn = cv2.getRotationMatrix2D((side / 2, side / 2), float(random.normal(0, 8)), float(random.uniform(0.85, 1.1)))
    turn[0] += float(random.normal(0, 0.15)) * (turn[1] - np.array([0, 0, side / 2]))
    turned = cv2.warpAffine(fine, turn, (side, side), flags=cv2.INTER_LINEAR)
    return cv2.resize(turned, (_SIZE, _SIZE), interpolation=cv2.INTER_AREA).astype(np.uint8)
