"""A request for inference and its answer, as both transports hand them to the core and get them back."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from service.errors import bad_request
from service.tensors import SentTensor

SequenceId = int | str
Binary = dict[str, bool] | bool
"""Which outputs go out as bytes, not as JSON: by name, or all alike."""


@dataclass
class InferRequest:
    """What a client asks for: inputs unread, and which outputs it wants (None: the usual ones)."""

    model: str
    version: str = ""
    id: str = ""
    inputs: list[SentTensor] = field(default_factory=list)
    outputs: list[str] | None = None
    parameters: dict[str, Any] = field(default_factory=dict)
    seconds: float | None = None
    """How long its client waits, where the transport says so."""
    binary: Binary = True

    def is_binary(self, output: str) -> bool:
        return self.binary if isinstance(self.binary, bool) else self.binary[output]


@dataclass
class Answer:
    """What the core gives back: arrays by output name, in the order they were asked for."""

    model: str
    version: str
    id: str
    outputs: dict[str, np.ndarray]
    parameters: dict[str, Any] = field(default_factory=dict)


@dataclass
class Sequence:
    """What a request says of the sequence it belongs to; `id` None is a request by itself."""

    id: SequenceId | None
    start: bool
    end: bool
    keep_state: bool


def read_sequence(parameters: dict[str, Any]) -> Sequence:
    """Read what a request says of its sequence; 0 and "" stand for none, as Triton has it."""
    name = parameters.get("sequence_id")
    if type(name) not in (int, str, type(None)) or (isinstance(name, int) and not 0 <= name < 2**64):
        raise bad_request("sequence_id must be a whole number of at most 64 bits, or a string")
    if isinstance(name, str) and len(name) > 256:
        raise bad_request(f"sequence_id has {len(name)} characters; at most 256 are allowed")
    defaults = {"sequence_start": False, "sequence_end": False, "keep_state": True}
    flags = [_flag(parameters, flag, default) for flag, default in defaults.items()]
    if not name and (flags[0] or flags[1]):
        raise bad_request("sequence_start and sequence_end need a sequence_id")
    return Sequence(name or None, *flags)


def read_timeout(parameters: dict[str, Any]) -> float | None:
    """Return the seconds of the parameter `timeout`, which Triton counts in microseconds; None where there is none."""
    timeout = parameters.get("timeout")
    if timeout in (None, 0):
        return None
    if type(timeout) is not int or not 0 < timeout < 2**63:
        raise bad_request("timeout must be a whole number of microseconds")
    return timeout / 1e6


def _flag(parameters: dict[str, Any], name: str, default: bool) -> bool:
    value = parameters.get(name, default)
    # tritonclient sends false as 0 in some versions
    if value not in (True, False):
        raise bad_request(f"{name} must be true or false")
    return bool(value)
