"""Whose a folder is: a command writes into an empty one, or into one that holds what it makes itself."""

from pathlib import Path

from foundation.errors import UserError, in_one_line

AGENT, ENCODER, COMPARISON, SEARCH = "an agent's run", "an encoder", "a comparison", "a search"
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
}
"""One of these lies in a folder from its first minute on, whenever its process was killed."""


def refuse_others(folder: str | Path, kind: str) -> None:
    """Raise `UserError` where a folder holds something else than what `kind` makes, or a link through which it would write elsewhere.

    Nothing is touched. Hidden files do not count: locks, and what a killed process has left half written.
    """
    folder = Path(folder)
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
    shown = [name for name in found if not name.startswith(".")]
    if shown and not any(mark in found for mark in _BEGUN[kind]):
        raise UserError(f"{folder}: holds {in_one_line(shown[0])}, and nothing of {kind}; choose another --run")
    link = next((name for name in found if (folder / name).is_symlink()), None)
    if link is not None:
        raise UserError(f"{folder / link}: a link, through which another place would be written to; remove it or choose another --run")
