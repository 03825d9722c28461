"""Tensors as clients send them: a name, a datatype, a shape, and bytes or lists of JSON, each of them anybody's."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from foundation.errors import in_one_line
from service.errors import bad_request

DATATYPES = {"BOOL": np.dtype(bool), "UINT8": np.dtype(np.uint8), "FP32": np.dtype("<f4")}
"""The datatypes of the protocol that a model here takes or gives."""
_NAMES = {dtype: name for name, dtype in DATATYPES.items()}
_MOST_DIMENSIONS = 8
_MOST_NUMBERS = 2**60
"""That an array may have, sizes of 0 left out: of 2**63 bytes and more, numpy makes none, not even an empty one."""
_TEXT_BYTES = {"BOOL": 7, "UINT8": 5, "FP32": 25}
"""The most that a value takes in JSON, with what stands between two: -1.2345678901234567e-05 is as long as one of FP32 gets."""


@dataclass
class SentTensor:
    """A tensor of a request, unread: `content` is its bytes in row-major order, or lists of JSON."""

    name: str
    datatype: Any
    shape: Any
    content: memoryview | bytes | list[Any]


def datatype_of(array: np.ndarray) -> str:
    """Return the protocol's name for an array's type."""
    return _NAMES[array.dtype]


def tensor_bytes(datatype: str, shape: Sequence[int], binary: bool) -> int:
    """Return how many bytes a tensor takes in an answer: as they are, or in JSON at most."""
    return math.prod(shape) * (DATATYPES[datatype].itemsize if binary else _TEXT_BYTES[datatype])


def read_tensor(sent: SentTensor, datatype: str) -> np.ndarray:
    """Return a tensor of this datatype as an array, which may be a view of what was sent; raise `ServiceError` for any other."""
    if sent.datatype != datatype:
        raise bad_request(f"input '{sent.name}' must be {datatype}, got {in_one_line(sent.datatype)}")
    shape = read_shape(sent)
    if isinstance(sent.content, list):
        return _from_json(sent, DATATYPES[datatype], shape)
    dtype = DATATYPES[datatype]
    needed = math.prod(shape) * dtype.itemsize
    if len(sent.content) != needed:
        raise bad_request(f"input '{sent.name}' of shape {list(shape)} has {needed} bytes of {datatype}, got {len(sent.content)}")
    if datatype == "BOOL":
        return np.frombuffer(sent.content, np.uint8).reshape(shape) != 0
    return np.frombuffer(sent.content, dtype).reshape(shape)


def read_shape(sent: SentTensor) -> tuple[int, ...]:
    """Return a shape as it was sent; raise `ServiceError` for numbers that are no sizes."""
    shape = sent.shape
    if not isinstance(shape, (list, tuple)) or not 1 <= len(shape) <= _MOST_DIMENSIONS:
        raise bad_request(f"input '{sent.name}' needs a shape of 1 to {_MOST_DIMENSIONS} sizes, got {in_one_line(shape)}")
    if any(type(size) is not int or size < 0 or size >= 2**63 for size in shape):
        raise bad_request(f"input '{sent.name}' has the shape {in_one_line(shape)}; sizes are whole numbers of 0 or more")
    if math.prod(max(size, 1) for size in shape) > _MOST_NUMBERS:
        raise bad_request(f"input '{sent.name}' has the shape {in_one_line(shape)}, which is larger than any array")
    return tuple(shape)


def _from_json(sent: SentTensor, dtype: np.dtype, shape: Sequence[int]) -> np.ndarray:
    """Read nested or flat lists, in row-major order as the protocol has it."""
    try:
        values = np.array(sent.content)
    # ragged lists, integers beyond every type
    except (ValueError, OverflowError) as error:
        raise bad_request(f"input '{sent.name}': its data are no array of numbers ({error})") from error
    if values.size != math.prod(shape):
        raise bad_request(f"input '{sent.name}' of shape {list(shape)} has {math.prod(shape)} numbers, got {values.size}")
    if not values.size:
        return np.zeros(shape, dtype)
    allowed = {"b": "b", "u": "iu", "f": "iuf"}[dtype.kind]
    if values.dtype.kind not in allowed:
        kind = {"b": "true or false", "u": "whole numbers", "f": "numbers"}[dtype.kind]
        raise bad_request(f"input '{sent.name}': its data must be {kind}")
    if dtype.kind == "u" and (values.min() < 0 or values.max() > 255):
        raise bad_request(f"input '{sent.name}': its data must be whole numbers of 0 to 255")
    with np.errstate(over="ignore"):
        return values.reshape(shape).astype(dtype)
