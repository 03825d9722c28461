"""An encoder's memory as bytes: one row a blob that says of which weights it is.

A blob is: 1 byte, the format (1; 0 stands for "before the first frame", and the whole blob is zeros); the first 8 bytes of the weights'
SHA-256; then the row of every tensor of the state, in the order of their names, as little-endian bytes.
"""

import numpy as np
import torch

from encoders.encoder import State
from service.errors import ServiceError, bad_request
from wrappers import FrozenEncoder

FORMAT = 1
DIGEST_BYTES = 8
_HEAD = "(head)"
"""The name of a row's first bytes, which no tensor has."""


class StateRows:
    """Turns states of an encoder into rows of bytes, uint8 (B, `size`), and back; `size` is 0 for encoders without memory."""

    def __init__(self, frozen: FrozenEncoder) -> None:
        self.digest = bytes.fromhex(frozen.info.weights_sha256)[:DIGEST_BYTES]
        self._initial = dict(sorted(frozen.initial_state(1).items()))
        self._device = frozen.device
        fields = [(name, row.cpu().numpy().dtype.newbyteorder("<"), tuple(row.shape[1:])) for name, row in self._initial.items()]
        self._layout = np.dtype([(_HEAD, np.uint8, (1 + DIGEST_BYTES,)), *fields])
        self.size = self._layout.itemsize if fields else 0
        self._head = np.frombuffer(bytes([FORMAT]) + self.digest, np.uint8)

    def fresh(self, rows: int) -> np.ndarray:
        """Return the rows that stand before the first frame."""
        return np.zeros((rows, self.size), np.uint8)

    def pack(self, state: State) -> np.ndarray:
        """Return a state of B rows as bytes (B, size)."""
        packed = np.empty(len(next(iter(state.values()))), self._layout)
        packed[_HEAD] = self._head
        for name in self._initial:
            packed[name] = state[name].cpu().numpy()
        return packed.view(np.uint8).reshape(len(packed), self.size)

    def unpack(self, rows: np.ndarray) -> State:
        """Return the state that rows of bytes (B, size) stand for: anew where they are zeros."""
        if not self.size:
            return {}
        records, fresh = self._records(rows), rows[:, 0] == 0
        state = {name: torch.from_numpy(records[name].copy()).to(self._device) for name in self._initial}
        if fresh.any():
            anew = torch.from_numpy(fresh).to(self._device)
            for name, initial in self._initial.items():
                state[name] = torch.where(anew.reshape(-1, *[1] * (initial.ndim - 1)), initial, state[name])
        return state

    def check(self, rows: np.ndarray) -> None:
        """Raise `ServiceError` for rows that a client sends and that are no state of these weights."""
        if rows.shape[1] != self.size:
            raise bad_request(f"input 'state' has rows of {rows.shape[1]} bytes; those of this model have {self.size}")
        begun = rows[:, 0] != 0
        started = rows if begun.all() else rows[begun]
        if len(started) < len(rows) and rows[~begun].any():
            raise bad_request("input 'state' has a row that begins with 0 and is not all zeros; send what the service returned")
        if (started[:, 0] != FORMAT).any():
            raise bad_request(f"input 'state' has format {started[:, 0].max()}, this service reads {FORMAT}")
        other = (started[:, : 1 + DIGEST_BYTES] != self._head).any(1)
        if other.any():
            of = started[other.argmax(), 1 : 1 + DIGEST_BYTES].tobytes()
            text = f"input 'state' is of the weights {of.hex()}, this model has {self.digest.hex()}: it was replaced since; begin anew"
            raise ServiceError(400, text)
        records = self._records(started)
        if any(self._layout[name].base.kind == "f" and not np.isfinite(records[name]).all() for name in self._initial):
            raise bad_request("input 'state' has values that are not finite numbers")

    def _records(self, rows: np.ndarray) -> np.ndarray:
        """Return rows of bytes (B, size) as B records with a field for every tensor, without a copy where they lie side by side."""
        return np.ascontiguousarray(rows).reshape(-1).view(self._layout)
