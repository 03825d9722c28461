"""An encoder's memory as bytes: one row a blob that says of which weights it is.

A blob is: 1 byte, the format (1; 0 stands for "before the first frame", and the whole blob is zeros); the first 8 bytes of the weights'
SHA-256; then the row of every tensor of the state, in the order of their names, as little-endian bytes.
"""

import math

import numpy as np
import torch

from encoders.encoder import State
from service.errors import ServiceError, bad_request
from wrappers import FrozenEncoder

FORMAT = 1
DIGEST_BYTES = 8
_HEAD = 1 + DIGEST_BYTES


class StateRows:
    """Turns states of an encoder into rows of bytes, uint8 (B, `size`), and back; `size` is 0 for encoders without memory."""

    def __init__(self, frozen: FrozenEncoder) -> None:
        self.digest = bytes.fromhex(frozen.info.weights_sha256)[:DIGEST_BYTES]
        self._initial = dict(sorted(frozen.initial_state(1).items()))
        self._device = frozen.device
        self._kinds = {name: row.cpu().numpy().dtype for name, row in self._initial.items()}
        self._bytes = {name: math.prod(row.shape[1:]) * row.element_size() for name, row in self._initial.items()}
        self.size = _HEAD + sum(self._bytes.values()) if self._initial else 0
        self._head = np.frombuffer(bytes([FORMAT]) + self.digest, np.uint8)

    def fresh(self, rows: int) -> np.ndarray:
        """Return the rows that stand before the first frame."""
        return np.zeros((rows, self.size), np.uint8)

    def pack(self, state: State) -> np.ndarray:
        """Return a state of B rows as bytes (B, size)."""
        parts = [np.ascontiguousarray(state[name].cpu().numpy()) for name in self._initial]
        rows = len(parts[0]) if parts else 0
        flat = [part.reshape(rows, -1).view(np.uint8).reshape(rows, -1) for part in parts]
        return np.concatenate([np.broadcast_to(self._head, (rows, _HEAD)), *flat], 1)

    def unpack(self, rows: np.ndarray) -> State:
        """Return the state that rows of bytes (B, size) stand for: anew where they are zeros."""
        state, at = {}, _HEAD
        fresh = torch.from_numpy(rows[:, 0] == 0) if self.size else None
        for name, initial in self._initial.items():
            # not torch's view of the bytes, which refuses no rows, and one row whose stride is odd
            part = np.array(rows[:, at : at + self._bytes[name]], order="C").view(self._kinds[name])
            tensor = torch.from_numpy(part.reshape(len(rows), *initial.shape[1:])).to(self._device)
            if fresh is not None and fresh.any():
                tensor = torch.where(fresh.to(self._device).reshape(-1, *[1] * (tensor.ndim - 1)), initial, tensor)
            state[name] = tensor
            at += self._bytes[name]
        return state

    def check(self, rows: np.ndarray) -> None:
        """Raise `ServiceError` for rows that a client sends and that are no state of these weights."""
        if rows.shape[1] != self.size:
            raise bad_request(f"input 'state' has rows of {rows.shape[1]} bytes; those of this model have {self.size}")
        started = rows[rows[:, 0] != 0]
        if rows[rows[:, 0] == 0].any():
            raise bad_request("input 'state' has a row that begins with 0 and is not all zeros; send what the service returned")
        if (started[:, 0] != FORMAT).any():
            raise bad_request(f"input 'state' has format {started[:, 0].max()}, this service reads {FORMAT}")
        for row in started:
            if (of := row[1:_HEAD].tobytes()) != self.digest:
                text = f"input 'state' is of the weights {of.hex()}, this model has {self.digest.hex()}: it was replaced since; begin anew"
                raise ServiceError(400, text)
        if len(started) and any(
            tensor.is_floating_point() and not torch.isfinite(tensor).all() for tensor in self.unpack(started).values()
        ):
            raise bad_request("input 'state' has values that are not finite numbers")
