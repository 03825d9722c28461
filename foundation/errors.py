"""The one exception that means "the user can mend this"."""

from __future__ import annotations

from collections.abc import Iterable


class UserError(Exception):
    """A mistake in what the user gave: one line with what is wrong, where, and what to do.

    Commands print it without a traceback and exit with status 2.
    """


def nearest(name: str, known: Iterable[str]) -> str:
    """Return a hint for an unknown name: the nearest known one, or all of them."""
    # here, for every command imports this module before it can take a Ctrl-C
    from difflib import get_close_matches

    known = sorted(known)
    close = get_close_matches(name, known, n=1, cutoff=0.5)
    if close:
        return f"did you mean '{close[0]}'?"
    return "known: " + ", ".join(known) if known else "none is known"
