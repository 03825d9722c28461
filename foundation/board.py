"""TensorBoard's record of a run, written by a thread of its own: what fails there is told once, by whoever writes next."""

import threading
from pathlib import Path
from typing import Any


def open_board(folder: Path, purge_step: int | None = None) -> Any:
    """Return a `SummaryWriter` for `folder`; readers drop what an earlier one wrote from `purge_step` on.

    A full disk raises `OSError` at the next number or picture that is added, and prints no traceback of the thread.
    """
    # here, for it takes seconds to import
    from torch.utils.tensorboard import SummaryWriter

    _hand_over()
    return SummaryWriter(str(folder), purge_step=purge_step)


def _hand_over() -> None:
    """Print nothing of an `OSError` in the writer's thread, which keeps it for the next call, and say there what could not be written."""
    before = threading.excepthook
    if getattr(before, "hands_over", False):
        return

    def hand_over(end: threading.ExceptHookArgs) -> None:
        if type(end.thread).__name__ == "_AsyncWriterThread" and isinstance(end.exc_value, OSError):
            end.exc_value.filename = end.exc_value.filename or "TensorBoard's record"
        else:
            before(end)

    hand_over.hands_over = True  # type: ignore[attr-defined]
    threading.excepthook = hand_over
