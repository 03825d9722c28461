"""An encoder's memory as bytes: one row a blob that says of which weights it is.

A blob is: 1 byte, the format (1; 0 stands for "before the first frame", and the whole blob is zeros); the first 8 bytes of the weights'
SHA-256; then the row of every tensor of the state, in the order of their names, as little-endian bytes.
"""

import numpy as np
import torch

from encoders.encoder import State
from wrappers.picture_encoder import PictureEncoder
from wrappers.side_by_side import SideBySide

FORMAT = 1
DIGEST_BYTES = 8
BLOBS = "state"
"""The name of the one tensor of a memory that a service's client keeps: blobs, uint8 (B, size)."""
_HEAD = "(head)"
"""The name of a row's first bytes, which no tensor has."""


class StateRows:
    """Turns states of an encoder into rows of bytes, uint8 (B, `size`), and back; `size` is 0 for encoders without memory.

    `initial` is its state before the first frame, of one row.
    """

    def __init__(self, initial: State, weights_sha256: str) -> None:
        self.digest = bytes.fromhex(weights_sha256)[:DIGEST_BYTES]
        self.head = np.frombuffer(bytes([FORMAT]) + self.digest, np.uint8)
        self.initial = dict(sorted(initial.items()))
        fields = [(name, row.cpu().numpy().dtype.newbyteorder("<"), tuple(row.shape[1:])) for name, row in self.initial.items()]
        self.layout = np.dtype([(_HEAD, np.uint8, (1 + DIGEST_BYTES,)), *fields])
        self.size = self.layout.itemsize if fields else 0

    def fresh(self, rows: int) -> np.ndarray:
        """Return the rows that stand before the first frame."""
        return np.zeros((rows, self.size), np.uint8)

    def pack(self, state: State) -> np.ndarray:
        """Return a state of B rows as bytes (B, size)."""
        packed = np.empty(len(next(iter(state.values()))), self.layout)
        packed[_HEAD] = self.head
        for name in self.initial:
            packed[name] = state[name].cpu().numpy()
        return packed.view(np.uint8).reshape(len(packed), self.size)

    def unpack(self, rows: np.ndarray) -> State:
        """Return the state that rows of bytes (B, size) stand for: anew where they are zeros."""
        if not self.size:
            return {}
        records, fresh = self.records(rows), rows[:, 0] == 0
        state = {name: torch.from_numpy(records[name].copy()).to(initial.device) for name, initial in self.initial.items()}
        if fresh.any():
            anew = torch.from_numpy(fresh)
            for name, initial in self.initial.items():
                rows_of_it = anew.to(initial.device).reshape(-1, *[1] * (initial.ndim - 1))
                state[name] = torch.where(rows_of_it, initial, state[name])
        return state

    def records(self, rows: np.ndarray) -> np.ndarray:
        """Return rows of bytes (B, size) as B records with a field for every tensor, without a copy where they lie side by side."""
        return np.ascontiguousarray(rows).reshape(-1).view(self.layout)


def memory_for(encoder: PictureEncoder, state: State, rows: int) -> State | None:
    """Return a memory of so many rows as `encoder` takes it, whether one in a folder or one of a service left it.

    None where it is another encoder's: a service's says of which weights it is; of a folder's, the caller must know that they are the same.
    """
    if isinstance(encoder, SideBySide):
        apart = encoder.states_apart(state)
        found = [memory_for(part, own, rows) for part, own in zip(encoder.parts, apart, strict=True)]
        known = [own for own in found if own is not None]
        return encoder.joined_states(known) if len(known) == len(found) and sum(map(len, apart)) == len(state) else None
    expected = encoder.initial_state(rows)
    if _kinds(state) == _kinds(expected):
        return {name: tensor.to(expected[name].device) for name, tensor in state.items()}
    if set(expected) == {BLOBS} and {tensor.shape[:1] for tensor in state.values()} == {(rows,)}:
        layout = StateRows({name: tensor[:1] for name, tensor in state.items()}, encoder.info.weights_sha256)
        return {BLOBS: torch.from_numpy(layout.pack(state))} if layout.size == expected[BLOBS].shape[1] else None
    if set(state) == {BLOBS} and expected:
        layout, blobs = StateRows(encoder.initial_state(1), encoder.info.weights_sha256), state[BLOBS].numpy()
        if blobs.dtype != np.uint8 or blobs.shape != (rows, layout.size):
            return None
        began = blobs[blobs[:, 0] != 0]
        return layout.unpack(blobs) if (began[:, : len(layout.head)] == layout.head).all() else None
    return None


def _kinds(state: State) -> dict[str, tuple[torch.dtype, torch.Size]]:
    return {name: (tensor.dtype, tensor.shape) for name, tensor in state.items()}
