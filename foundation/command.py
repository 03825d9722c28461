"""How every command starts and ends: status 2 and one line for a user's mistake, 130 for Ctrl-C, no traceback for either.

A root script imports this module and nothing else, and passes `run` a function that imports the command: what goes wrong while the rest
is imported is handled as well. So this module imports next to nothing, and older Pythons than the product's can read it.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from types import FrameType

from foundation.errors import UserError

OLDEST_PYTHON = (3, 11)
_NEEDED_BY_EVERY_COMMAND = ("rich", "tyro", "typing_extensions", "yaml")


def run(main: Callable[[], int | None]) -> None:
    """Call `main` and exit with its status; print a `UserError` as one line and exit 2; Ctrl-C exits 130.

    An interpreter that is too old, or without the project's packages, ends with one line that names the remedy, and status 1. A reader
    of the output that goes away, such as `head`, ends the command with status 0.
    """
    if sys.version_info < OLDEST_PYTHON:
        sys.exit(_wrong_interpreter(f"Python {'.'.join(map(str, sys.version_info[:3]))}"))
    # ignored signals stay ignored, as a shell wants it for what runs in the background
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _interrupt)
    try:
        status = _status(main)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        status = 2
    except BrokenPipeError:
        _discard_output()
        status = 0
    except KeyboardInterrupt:
        status = 128 + signal.SIGINT
    except ModuleNotFoundError as error:
        if error.name not in _NEEDED_BY_EVERY_COMMAND:
            raise
        status = _wrong_interpreter(str(error))
    sys.exit(status)


def _status(main: Callable[[], int | None]) -> int | str | None:
    """Call `main` and return its status, or that of a `SystemExit`, once what it printed is written out.

    A pipe that is closed shows itself then. At the interpreter's own end nobody could handle it any more.
    """
    try:
        status: int | str | None = main() or 0
    except SystemExit as ended:
        status = ended.code
    if sys.stdout is not None:
        sys.stdout.flush()
    return status


def _wrong_interpreter(reason: str) -> str:
    return f"error: this interpreter lacks what the project needs ({reason}); run: make setup, then .venv/bin/python {sys.argv[0]}"


def _interrupt(number: int, frame: FrameType | None) -> None:
    """Raise `KeyboardInterrupt`, but end the process at once in the middle of an import.

    Modules catch an exception there, make another error of it or go on with half of what they need; and nothing is at work yet.
    """
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            os._exit(128 + number)
        frame = frame.f_back
    raise KeyboardInterrupt


def _discard_output() -> None:
    """Let what is still buffered for standard output and error go nowhere, at the interpreter's end too."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(nowhere, stream)
