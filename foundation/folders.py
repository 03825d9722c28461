"""Whose a folder is: a command writes into an empty one, or into one that holds what it makes itself."""

from collections.abc import Iterable
from pathlib import Path

from foundation.errors import UserError, shown

AGENT, ENCODER, COMPARISON, SEARCH, PLAYER = "an agent's run", "an encoder", "a comparison", "a search", "a player's episodes"
_MARKS = {
    "a frame store": ("data.mdb",),
    COMPARISON: ("grid.yaml", "comparison.json"),
    SEARCH: ("trials.jsonl", "search.json"),
    ENCODER: ("encoder.json",),
    AGENT: ("agent.json", "attempts.jsonl"),
}
"""What a folder holds and one of another kind does not; the first kind found is named."""
_BEGUN = {
    AGENT: ("agent.json", "attempts.jsonl", "resume.pt", "result.json", "failed.json", "encoder"),
    ENCODER: ("encoder.json", "resume.pt", "config.yaml"),
    COMPARISON: ("grid.yaml", "comparison.json"),
    SEARCH: ("trials.jsonl", "search.json"),
    PLAYER: ("pictures", "result.json", "failed.json", "environment_error.log"),
}
"""One of these lies in a folder from its first minute on, whenever its process was killed."""


def refuse_others(folder: str | Path, kind: str) -> None:
    """Raise `UserError` where a folder holds something else than what `kind` makes, or a link through which it would write elsewhere.

    Nothing is touched. Hidden files do not count: locks, and what a killed process has left half written.
    """
    folder = Path(folder)
    try:
        str(folder).encode()
    except UnicodeEncodeError:
        raise UserError(f"{shown(folder)}: its name is no UTF-8, which what is written there needs; choose another --run") from None
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder}: a file, not a folder; choose another --run")
    try:
        found = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    except OSError as error:
        raise UserError(f"{folder}: cannot be read ({error.strerror}); choose another --run") from error
    for other, marks in _MARKS.items():
        mark = next((mark for mark in marks if mark in found), None)
        if mark is not None and other != kind and mark not in _BEGUN[kind]:
            raise UserError(f"{folder}: holds {other} ({mark}); choose another --run")
    visible = [name for name in found if not name.startswith(".")]
    if visible and not any(mark in found for mark in _BEGUN[kind]):
        raise UserError(f"{folder}: holds {shown(visible[0])}, and nothing of {kind}; choose another --run")
    refuse_links(folder / name for name in found)


def refuse_links(paths: Iterable[Path]) -> None:
    """Raise `UserError` for the first of these paths that is a link."""
    for path in paths:
        if path.is_symlink():
            raise UserError(f"{path}: a link, through which another place would be written to; remove it or choose another --run")
