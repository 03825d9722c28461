"""Requests and answers as HTTP carries them: JSON, with the bytes of tensors behind it where a client wants them binary.

The header `Inference-Header-Content-Length` says how many bytes of a body are JSON; the tensors' bytes follow in their order.
"""

import json
from collections.abc import Iterator
from typing import Any

import numpy as np

from foundation.errors import in_one_line
from service.errors import ServiceError, bad_request
from service.loaded_model import described
from service.messages import Answer, Binary, InferRequest
from service.tensors import SentTensor

BINARY_SIZE, BINARY, BINARY_ALL = "binary_data_size", "binary_data", "binary_data_output"
_PIECE = 1 << 12
"""Numbers that are written to JSON at a time, while nothing else of the process runs: about 3 ms."""


def read_request(body: bytes | bytearray, header_length: int | None, model: str, version: str, most_json: int) -> InferRequest:
    """Read a request; raise `ServiceError` for what is none."""
    head = body if header_length is None else body[:header_length]
    if header_length is not None and not 0 <= header_length <= len(body):
        raise bad_request(f"Inference-Header-Content-Length is {header_length}, the body has {len(body)} bytes")
    if len(head) > most_json:
        raise ServiceError(413, f"the request has {len(head)} bytes of JSON, and {most_json} are taken; send tensors as binary data")
    values = _object(read_json(head), "the request")
    parameters = _object(values.get("parameters", {}), "parameters")
    rest = None if header_length is None else memoryview(body)[header_length:]
    inputs = _inputs(_list(values, "inputs"), rest)
    outputs, binary = _outputs(values, parameters)
    return InferRequest(model, version, _text(values.get("id", ""), "id"), inputs, outputs, parameters, binary=binary)


def read_json(text: bytes | bytearray) -> Any:
    """Parse JSON strictly: no NaN, and depth and numbers within reason."""
    try:
        return _DECODER.decode(str(text, "utf-8"))
    except RecursionError as error:
        raise bad_request("the request's JSON is nested too deeply") from error
    # UnicodeDecodeError and JSONDecodeError are ValueErrors; so is what Python says of numbers of thousands of digits
    except ValueError as error:
        raise bad_request(f"the request is not JSON: {in_one_line(error)}") from error


def write_answer(answer: Answer, request: InferRequest) -> tuple[list[bytes | memoryview], int | None]:
    """Return a response's body in parts, and how many bytes of it are JSON where others follow."""
    values: dict[str, Any] = {"model_name": answer.model, "model_version": answer.version}
    if answer.id:
        values["id"] = answer.id
    if answer.parameters:
        values["parameters"] = answer.parameters
    texts, contents = [_opened(values), b', "outputs": ['], list[memoryview]()
    for index, ((name, datatype, shape), array) in enumerate(zip(described(answer.outputs), answer.outputs.values(), strict=True)):
        entry: dict[str, Any] = {"name": name, "datatype": datatype, "shape": shape}
        texts.append(b", " if index else b"")
        if request.is_binary(name):
            content = np.ascontiguousarray(array)
            contents.append(content.reshape(-1).view(np.uint8).data)
            texts += [_opened({**entry, "parameters": {BINARY_SIZE: content.nbytes}}), b"}"]
        else:
            texts += [_opened(entry), b', "data": [', b", ".join(_numbers(array)), b"]}"]
    text = b"".join([*texts, b"]}"])
    return [text, *contents], len(text) if contents else None


def _opened(values: dict[str, Any]) -> bytes:
    """Return an object as JSON without its end, for more to follow."""
    return _ENCODER.encode(values)[:-1].encode()


def _numbers(array: np.ndarray) -> Iterator[bytes]:
    """Yield an array's numbers as JSON, piece by piece: as one list, they would take four times the memory of their text."""
    flat = array.reshape(-1)
    for at in range(0, len(flat), _PIECE):
        yield _ENCODER.encode(flat[at : at + _PIECE].tolist())[1:-1].encode()


def _inputs(entries: list[Any], rest: memoryview | None) -> list[SentTensor]:
    inputs, at = [], 0
    for entry in entries:
        values = _object(entry, "an input")
        name = _text(values.get("name"), "the name of an input")
        size = _object(values.get("parameters", {}), "parameters of input", name).get(BINARY_SIZE)
        if size is None:
            content: Any = values.get("data")
            if not isinstance(content, list):
                raise bad_request(f"input '{in_one_line(name)}' has neither data, as a list, nor {BINARY_SIZE}")
        else:
            if rest is None:
                raise bad_request(f"input '{in_one_line(name)}' is binary, and the header Inference-Header-Content-Length is missing")
            if type(size) is not int or not 0 <= size <= len(rest) - at:
                raise bad_request(f"input '{in_one_line(name)}' has {BINARY_SIZE} {in_one_line(size)}; {len(rest) - at} bytes are left")
            content = rest[at : at + size]
            at += size
        inputs.append(SentTensor(name, values.get("datatype"), values.get("shape"), content))
    if rest is not None and at != len(rest):
        raise bad_request(f"the body has {len(rest)} bytes of binary data, and the inputs {at}")
    return inputs


def _outputs(values: dict[str, Any], parameters: dict[str, Any]) -> tuple[list[str] | None, Binary]:
    everything = parameters.get(BINARY_ALL, False) is True
    if "outputs" not in values:
        return None, everything
    names: dict[str, bool] = {}
    for entry in _list(values, "outputs"):
        asked = _object(entry, "an output")
        name = _text(asked.get("name"), "the name of an output")
        names[name] = _object(asked.get("parameters", {}), "parameters of output", name).get(BINARY, everything) is True
    return (list(names), names) if names else (None, everything)


def _object(value: Any, what: str, name: str = "") -> dict[str, Any]:
    if not isinstance(value, dict):
        raise bad_request(f"{what} '{in_one_line(name)}' must be a JSON object" if name else f"{what} must be a JSON object")
    return value


def _list(values: dict[str, Any], name: str) -> list[Any]:
    if not isinstance(values.get(name), list):
        raise bad_request(f"the request has no list of {name}")
    return values[name]


def _text(value: Any, what: str) -> str:
    if not isinstance(value, str):
        raise bad_request(f"{what} must be a string")
    return value


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON number")


_DECODER = json.JSONDecoder(parse_constant=_refuse_constant)
_ENCODER = json.JSONEncoder(allow_nan=False)
