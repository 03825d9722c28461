"""The command `check_setup.py`, behind its door: what of this machine the product can use."""

import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.progress import Progress
from rich.table import Table

from foundation.errors import UserError
from foundation.presets import parse
from foundation.progress import PlainConsole, cells, console, say, tell_result
from foundation.setup_check import (
    Finding,
    check_java,
    check_minerl,
    check_python,
    check_ray,
    check_torch,
    check_xvfb,
    run_program,
)

CHECK = """Say what of this machine the product can use, and the one command that helps where something is missing: make check"""

_ROOT = Path(__file__).resolve().parents[1]
_RECORDINGS_SECONDS = 60.0
_COUNT = "import sys, frames.readers as r; from pathlib import Path; print(len(r.find_recordings(Path(sys.argv[1]))))"


@dataclass(frozen=True, kw_only=True)
class Check:
    """Say for Python, torch, CUDA, Ray, minerl, Java 8, xvfb and recordings whether they can be used."""

    python: str | None = None
    """Another interpreter to look for minerl in."""
    recordings: Path | None = None
    """A folder of recordings; MINERL_DATA_ROOT if not given."""
    json: bool = False
    """Print JSON instead of a table."""


def check(argv: Sequence[str]) -> int:
    """Print what there is; return the exit status: 1 where something is missing that nothing runs without."""
    config = parse(Check, CHECK, argv)
    found = list(_findings(config))
    missing = [finding for finding in found if finding.required and not finding.usable]
    if config.json:
        print(json.dumps({"usable": not missing, "findings": [asdict(finding) for finding in found]}, indent=2))
    else:
        _show(found)
        for finding in missing:
            say(f"error: {finding.name} cannot be used, and nothing runs without it: {finding.remedy}")
        if not missing:
            tell_result("next: make demo, or python train_agent.py voxel_treechop --help")
    return 1 if missing else 0


def check_recordings(folder: Path | None) -> Finding:
    """Count the recordings in a folder, or in the one that MINERL_DATA_ROOT names."""
    named = str(folder) if folder is not None else os.environ.get("MINERL_DATA_ROOT", "")
    if not named:
        return Finding("recordings", False, "no folder named (MINERL_DATA_ROOT, --recordings)", "python check_setup.py --recordings FOLDER")
    if not Path(named).is_dir():
        return Finding("recordings", False, f"{named}: no such folder", "python check_setup.py --recordings FOLDER")
    ran = run_program([sys.executable, "-c", _COUNT, os.path.abspath(named)], _RECORDINGS_SECONDS, str(_ROOT))
    if ran.status is None:
        return Finding("recordings", False, f"{named}: {ran.errors}", "name a folder further down: --recordings FOLDER")
    if ran.status != 0:
        reason = ran.errors.strip().splitlines()[-1].partition("UserError: ")[2] or ran.errors.strip().splitlines()[-1]
        return Finding("recordings", False, reason.partition(";")[0], "see docs/frame_formats.md for the layouts that are read")
    return Finding("recordings", True, f"{int(ran.output):,} in {named}")


def _findings(config: Check) -> Iterator[Finding]:
    if config.python is not None and not config.python.strip():
        raise UserError("--python is empty: name an interpreter, or leave it out")
    checks: list[tuple[str, Callable[[], Finding | list[Finding]]]] = [
        ("Python", check_python),
        ("torch", check_torch),
        ("Ray (it is started once)", check_ray),
        ("minerl", lambda: check_minerl(config.python)),
        ("Java", check_java),
        ("xvfb", check_xvfb),
        ("recordings", lambda: check_recordings(config.recordings)),
    ]
    with Progress(console=console, transient=True) as progress:
        task = progress.add_task("looking", total=len(checks))
        for name, look in checks:
            progress.update(task, description=f"looking at {name}")
            found = look()
            yield from found if isinstance(found, list) else [found]
            progress.advance(task)


def _show(found: list[Finding]) -> None:
    table = Table(box=None, pad_edge=False)
    for column in ("", "usable", "found", "the command that helps"):
        table.add_column(column, overflow="fold")
    for finding in found:
        answer = "yes" if finding.usable else "NO" if finding.required else "no"
        table.add_row(*cells([finding.name, answer, finding.found, finding.remedy]), style=None if finding.usable else "yellow")
    # piped into a file, lines keep their length
    PlainConsole(width=None if sys.stdout.isatty() else 250).print(table)
