"""The one exception that means "the user can mend this"."""

from __future__ import annotations

import errno
from collections.abc import Iterable

_SHOWN = 5
"""Known names that a hint lists at most."""

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""A full disk, a quota, `ulimit -f`."""


class UserError(Exception):
    """A mistake in what the user gave: one line with what is wrong, where, and what to do.

    Commands print it without a traceback and exit with status 2.
    """


def nearest(name: str, known: Iterable[str]) -> str:
    """Return a hint for an unknown name: the nearest known one, or where none is near at most five of them, none twice."""
    # here, for every command imports this module before it can take a Ctrl-C
    from difflib import get_close_matches

    known = sorted(set(known))
    close = get_close_matches(name, known, n=1, cutoff=0.5)
    if close:
        return f"did you mean '{close[0]}'?"
    if len(known) <= _SHOWN:
        return "known: " + ", ".join(known) if known else "none is known"
    likeliest = get_close_matches(name, known, n=_SHOWN, cutoff=0.0)
    return f"known: {', '.join(likeliest)} and {len(known) - _SHOWN} more"


def in_one_line(value: object, longest: int = 120) -> str:
    """Return a value's text in one line of at most `longest` characters: arrays and spaces are written in many."""
    text = " ".join(str(value).split())
    return text if len(text) <= longest else f"{text[: longest - 4]} ..."
