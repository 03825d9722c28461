"""The memory that clients send with their requests: looked at before an encoder goes on from it."""

import numpy as np

from service.errors import ServiceError, bad_request
from wrappers.state_rows import DIGEST_BYTES, FORMAT, StateRows


class SentStates(StateRows):
    """Rows of an encoder's memory, any of which may come from a client."""

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
        other = (started[:, : 1 + DIGEST_BYTES] != self.head).any(1)
        if other.any():
            of = started[other.argmax(), 1 : 1 + DIGEST_BYTES].tobytes()
            text = f"input 'state' is of the weights {of.hex()}, this model has {self.digest.hex()}: it was replaced since; begin anew"
            raise ServiceError(400, text)
        # not by torch, which the encoder's thread keeps busy
        records = self.records(started)
        if any(self.layout[name].base.kind == "f" and not np.isfinite(records[name]).all() for name in self.initial):
            raise bad_request("input 'state' has values that are not finite numbers")
