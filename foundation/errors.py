"""The one exception that means "the user can mend this"."""

from __future__ import annotations

import errno
from collections.abc import Iterable, Sequence

LONGEST_TEXT = 300
"""Letters that are shown of a text from outside."""
_LONGEST_LINE = 1500
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
    # here, for few commands need it
    from difflib import get_close_matches

    known = sorted(set(known))
    # to compare a megabyte with anything takes minutes
    name = name[:LONGEST_TEXT]
    close = get_close_matches(name, known, n=1, cutoff=0.5)
    if close:
        return f"did you mean '{close[0]}'?"
    if len(known) <= _SHOWN:
        return "known: " + ", ".join(known) if known else "none is known"
    likeliest = get_close_matches(name, known, n=_SHOWN, cutoff=0.0)
    return f"known: {', '.join(likeliest)} and {len(known) - _SHOWN} more"


def in_one_line(value: object, longest: int = 120) -> str:
    """Return a value's text in one line of at most `longest` characters, without what a terminal obeys: ESC is spelled out as \\x1b.

    Every text from outside goes through this before it is printed: names in files, messages of other programs, paths.
    """
    # no more than is shown is looked at: a name may have a megabyte
    text = without_controls(" ".join(str(value)[: 8 * longest].split()))
    return text if len(text) <= longest and len(str(value)) <= 8 * longest else f"{text[: longest - 4]} ..."


def shown(value: object) -> str:
    """Return a text from outside as it is printed, everywhere: one line of at most 300 characters, without what a terminal obeys."""
    return in_one_line(value, LONGEST_TEXT)


def shown_line(line: str) -> str:
    """Return a line of our own, with texts from outside in it, as it is printed: each word at most 300 characters, all of it 1,500.

    Whatever was put into it unlooked at, it stays one line that a terminal obeys nothing of.
    """
    # blanks stay as they are: some lines are set in columns
    words = without_controls(line[: 8 * _LONGEST_LINE]).split(" ")
    text = " ".join(word if len(word) <= LONGEST_TEXT else f"{word[: LONGEST_TEXT - 3]}..." for word in words)
    return text if len(text) <= _LONGEST_LINE else f"{text[: _LONGEST_LINE - 4]} ..."


def first_names(names: Sequence[str], most: int = 3) -> str:
    """Return the first of some names in words, "a, b, c, ..." where there are more."""
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "")


def figure_label(value: object) -> str:
    """Return a text from outside as a figure shows it: matplotlib takes what stands between two dollars for a formula."""
    return in_one_line(value).replace("$", r"\$")


def without_controls(text: str) -> str:
    """Return a text with everything spelled out that a terminal obeys, line breaks too."""
    return "".join(letter if _shown(letter) else ascii(letter)[1:-1] for letter in text)


def _shown(letter: str) -> bool:
    # here, for few commands need it
    from unicodedata import category

    # controls, marks that turn the direction of what follows, halves of letters, ends of lines
    return (letter < "\x7f" and letter >= " ") or category(letter) not in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")


def csv_cell(value: object) -> object:
    """Return a cell that a spreadsheet takes for no formula: a text that begins as one does gets an apostrophe before it."""
    if not isinstance(value, str):
        return value
    text = shown(value)
    return f"'{text}" if text.startswith(("=", "+", "-", "@")) else text
