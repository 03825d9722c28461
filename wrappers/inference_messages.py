"""Messages of the Open Inference Protocol v2 with its binary tensor extension: a JSON text, then the tensors' bytes in its order.

https://github.com/kserve/open-inference-protocol and Triton's "binary tensor data extension".
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from foundation.documents import parse
from foundation.errors import UserError, in_one_line

LENGTH_HEADER = "Inference-Header-Content-Length"
Wanted = dict[str, tuple[type[np.generic], tuple[int, ...]]]
"""Outputs by name: their type and shape."""
_DATATYPES = {np.dtype(np.float32): "FP32", np.dtype(np.uint8): "UINT8", np.dtype(bool): "BOOL"}


def infer_request(inputs: Mapping[str, np.ndarray], outputs: Sequence[str], parameters: Mapping[str, Any]) -> tuple[bytes, int]:
    """Return the body that asks for `outputs`, all of them in binary, and the length of its JSON text."""
    described = [
        {"name": name, "shape": tensor.shape, "datatype": _DATATYPES[tensor.dtype], "parameters": {"binary_data_size": tensor.nbytes}}
        for name, tensor in inputs.items()
    ]
    wanted = [{"name": name, "parameters": {"binary_data": True}} for name in outputs]
    head = json.dumps({"inputs": described, "outputs": wanted, "parameters": parameters}).encode()
    return b"".join([head, *(np.ascontiguousarray(tensor).data for tensor in inputs.values())]), len(head)


class BadAnswer(Exception):
    """An answer that is none of the protocol's, or not the one that was asked for."""


def infer_answer(body: bytes, head_length: str | None, wanted: Wanted) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Return the `wanted` outputs of an answer as new arrays, and its parameters; `head_length` is the length of its JSON text.

    Raises `BadAnswer` for an answer that lacks one, or has it in another type, shape or length.
    """
    if head_length is None or not head_length.isdecimal() or int(head_length) > len(body):
        raise BadAnswer(f"{LENGTH_HEADER} is {in_one_line(head_length)} for {len(body):,} bytes")
    at = int(head_length)
    try:
        head = parse(body[:at], "the answer")
        found, parameters = {}, dict(head.get("parameters") or {})
        for one in head["outputs"]:
            size = one["parameters"]["binary_data_size"]
            found[one["name"]] = one["datatype"], tuple(one["shape"]), memoryview(body)[at : at + size]
            at += size
    except (UserError, AttributeError, KeyError, TypeError, ValueError) as error:
        raise BadAnswer(f"its outputs cannot be read ({type(error).__name__}: {in_one_line(error)})") from error
    arrays: dict[str, np.ndarray] = {}
    for name, (kind, shape) in wanted.items():
        datatype = _DATATYPES[np.dtype(kind)]
        got = found.get(name, (None, None, b""))
        count = int(np.prod(shape, dtype=np.int64)) * np.dtype(kind).itemsize
        if got[:2] != (datatype, shape) or len(got[2]) != count:
            raise BadAnswer(f"output '{name}' is {in_one_line(got[0])} {in_one_line(got[1])}, not {datatype} {shape}")
        # copied: torch wants arrays that it may write to
        arrays[name] = np.frombuffer(got[2], kind).reshape(shape).copy()
    return arrays, parameters
