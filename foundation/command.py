"""How every command starts and ends: status 2 and one line for a user's mistake, 130 for Ctrl-C, no traceback for either.

A root script imports this module and nothing else, and passes `run` a function that imports the command: what goes wrong while the rest
is imported is handled as well. So this module imports next to nothing, and older Pythons than the product's can read it.
"""

from __future__ import annotations

import os
import signal
import sys

TYPE_CHECKING = False
"""As in `typing`, which takes as long to import as all else here."""
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    from foundation.output import Lasting

OLDEST_PYTHON = (3, 11)
_LONGEST_ERROR = 1500
"""Letters of an error: of the texts from outside in it, each has at most 300."""
_NEEDED_BY_EVERY_COMMAND = ("rich", "tyro", "typing_extensions", "yaml")


def run(main: Callable[[], int | None]) -> None:
    """Call `main` and exit with its status; print a `UserError` as one line and exit 2; Ctrl-C exits 130, SIGTERM 143.

    An interpreter that is too old, or without the project's packages, ends with one line that names the remedy, and status 1. A reader
    of the output that goes away, such as `head`, ends no work: a training behind it goes on to its end.
    """
    # before the next import: whoever stops a command is as likely to do it now as later
    heeded = _heed(_stop)
    if sys.version_info < OLDEST_PYTHON:
        sys.exit(_wrong_interpreter(f"Python {'.'.join(map(str, sys.version_info[:3]))}"))
    try:
        from foundation.output import lasting_output

        with lasting_output() as streams:
            status = _flushed(streams, _status(main))
    except KeyboardInterrupt:
        status = 128 + signal.SIGINT
    # what is left is the interpreter's own, and nothing catches an exception there
    _heed(_end, heeded)
    sys.exit(status)


def _status(main: Callable[[], int | None]) -> int | str | None:
    """Call `main` and return its status, or that of what ended it; what is the user's to mend is said in one line."""
    from foundation.errors import FULL, UserError

    try:
        return main() or 0
    except SystemExit as ended:
        return ended.code
    except UserError as error:
        return _said(str(error))
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except MemoryError:
        return _said("this machine has not enough memory for that; ask for less, or end other programs")
    except ModuleNotFoundError as error:
        if error.name not in _NEEDED_BY_EVERY_COMMAND:
            raise
        return _wrong_interpreter(str(error))
    except OSError as error:
        if error.errno not in FULL:
            raise
        return _said(f"{error.filename or 'a file'}: cannot be written ({error.strerror}); free some space and run the command again")


def _said(mistake: str) -> int:
    from foundation.errors import in_one_line

    print(f"error: {in_one_line(mistake, _LONGEST_ERROR)}", file=sys.stderr)
    return 2


def _flushed(streams: list[Lasting], status: int | str | None) -> int | str | None:
    """Write out what was printed; return the status, or 2 where some of it could not be written for want of space.

    At the interpreter's own end nobody could handle a stream that fails. That a reader such as `head` has gone is no error.
    """
    for stream in streams:
        stream.flush()
    failed = [stream.failure for stream in streams if stream.failure is not None and not isinstance(stream.failure, BrokenPipeError)]
    if not failed or status:
        return status
    return _said(f"the output could not be written ({failed[0].strerror}); the work itself is done")


def _wrong_interpreter(reason: str) -> str:
    return f"error: this interpreter lacks what the project needs ({reason}); run: make setup, then .venv/bin/python {sys.argv[0]}"


def _heed(handler: Callable[[int, FrameType | None], None], numbers: tuple[int, ...] | None = None) -> tuple[int, ...]:
    """Let a handler receive these signals, by default those that ask to stop and that nobody has set: return which."""
    if numbers is None:
        # ignored signals stay ignored, as a shell wants it for what runs in the background
        unset = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}
        numbers = tuple(number for number, default in unset.items() if signal.getsignal(number) is default)
    for number in numbers:
        signal.signal(number, handler)
    return numbers


def _stop(number: int, frame: FrameType | None) -> None:
    """Raise `KeyboardInterrupt` or, for SIGTERM, `SystemExit`, but end the process at once in the middle of an import.

    Modules catch an exception there, make another error of it or go on with half of what they need; and nothing is at work yet.
    """
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            _end(number)
        frame = frame.f_back
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    raise SystemExit(128 + number)


def _end(number: int, frame: FrameType | None = None) -> None:
    os._exit(128 + number)
