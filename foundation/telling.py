"""Lines for the user from wherever a run is under way: each once, on the terminal of the command that started it."""

import re
import warnings
from collections.abc import Callable
from typing import Any

from foundation.progress import say

Tell = Callable[[str], None]

_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
_WARNING = "WARN: "
"""How gymnasium's warnings begin."""

_told: set[str] = set()
_receiver: Tell = say


def tell(line: str) -> None:
    """Tell the user a line, unless this process has told it before."""
    if line not in _told:
        _told.add(line)
        _receiver(line)


def receiver() -> Tell:
    """Return where this process tells its lines: itself on standard error, unless it works for another."""
    return _receiver


def tell_through(receiver: Tell) -> None:
    """Have this process tell its lines, and gymnasium's warnings, through `receiver` from now on."""
    global _receiver
    if receiver != _receiver:
        _receiver = receiver
        _told.clear()
    _hear_warnings()


def _hear_warnings() -> None:
    """Tell gymnasium's warnings instead of writing them to a log that nobody reads, or once for each environment."""
    shown: Any = warnings.showwarning
    if getattr(shown, "tells", False):
        return

    def show(message: Warning | str, *details: Any, **more: Any) -> None:
        text = " ".join(_COLOURS.sub("", str(message)).split())
        if text.startswith(_WARNING):
            tell(f"gymnasium warns: {text.removeprefix(_WARNING)}")
        else:
            shown(message, *details, **more)

    show.tells = True  # type: ignore[attr-defined]
    warnings.showwarning = show
