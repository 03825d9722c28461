"""What a hostile input may do to a command: nothing but a status, a line or two, and files in the folder that was named."""

import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.hostile.forking import LIMIT_SECONDS, Forks
from tests.hostile.inputs import HUGE, Case
from tests.hostile.sandbox import tree

_LONGEST_NAME = 300
_LONGEST_LINE = 2000
# what a terminal obeys: controls but line breaks, marks that turn the direction, ends of lines that are none of ours
_OBEYED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e]")
_TRACEBACK = "Traceback (most recent call last)"


@dataclass(frozen=True)
class Ended:
    """How a case ended, and what did not hold."""

    status: int
    output: str
    seconds: float
    faults: tuple[str, ...]


def ended(case: Case, forks: Forks, good: Path, place: Path) -> Ended:
    """Run a case in a copy of the good things below `place`, and look at all that it did."""
    shutil.rmtree(place, ignore_errors=True)
    folder = place / "home" / "user" / "work"
    shutil.copytree(good, folder, symlinks=True)
    (place / "home" / "others.txt").write_text("not mine")
    case.spoil(folder)
    before = tree(place)
    ran = forks.run(folder, list(case.words), case.work)
    found = _faults(case, ran, before, tree(place), str(folder.relative_to(place)))
    return Ended(ran["status"], ran["output"], ran["seconds"], tuple(found))


def _faults(case: Case, ran: dict[str, Any], before: dict[str, Any], after: dict[str, Any], folder: str) -> list[str]:
    found, output = [], ran["output"]
    if ran["status"] < 0:
        found.append(f"killed by signal {-ran['status']}")
    elif ran["status"] not in (0, 1, 2) and not 128 < ran["status"] < 160:
        found.append(f"status {ran['status']}")
    if _TRACEBACK in output or "Fatal Python error" in output:
        found.append("traceback")
    elif ran["status"] == 1 and not output.strip():
        found.append("status 1 without a word")
    if ran["seconds"] > LIMIT_SECONDS:
        found.append(f"{ran['seconds']:.0f} s")
    if _OBEYED.search(output.replace("\r\n", "\n")):
        found.append("printed what a terminal obeys")
    if HUGE[: _LONGEST_NAME + 1] in output or any(len(line) > _LONGEST_LINE for line in output.splitlines()):
        found.append("printed an endless name")
    touched = sorted(path for path in before.keys() | after.keys() if before.get(path) != after.get(path))
    found += [f"touched {path[:200]}" for path in touched if not _named(case, path, folder)][:3]
    return found


def _named(case: Case, path: str, folder: str) -> bool:
    """Say whether a path lies in what the command was told to write into."""
    within = path.removeprefix(folder + "/")
    return within != path and any(within == one or within.startswith((f"{one}/", f"{one}.")) for one in case.writes)
