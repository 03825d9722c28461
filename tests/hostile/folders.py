"""Hostile folders to write into: they hold something else, or lead to another place."""

import os
import random
import shutil
from pathlib import Path

from tests.hostile.inputs import Case
from tests.hostile.sandbox import AGENT, COMPARE, TRAIN, TUNE

_FOLDERS = ("store", "encoder", "agent", "comparison", "search", "notes", "notes/notes.txt", "env.yaml", "/dev/null", "..", "link")
_MAKERS = {
    "encoder": f"train_encoder.py {TRAIN} --run {{}}",
    "agent": f"train_agent.py {AGENT} --encoder encoder --run {{}}",
    "comparison": f"compare_encoders.py {COMPARE} --run {{}}",
    "search": f"tune_agent.py {TUNE} --run {{}}",
    "join": "compare_encoders.py join comparison second --run {}",
    "build": "make_frames.py build --source VoxelTreechop-v0 --frames 40 --episode-frames 20 --store {}",
}


def folders(number: int, rng: random.Random) -> Case:
    """A folder to write into that holds something else, or through which another place would be written to."""
    kind = sorted(_MAKERS)[number % len(_MAKERS)]
    own = kind if kind in ("encoder", "agent", "comparison", "search") else "joined"
    if rng.random() < 0.5:
        where = rng.choice([name for name in _FOLDERS if name != own])
        return Case("folders", number, tuple(_MAKERS[kind].format(where).split()), ("untouched",), _second_and_links)
    what = rng.randrange(7)
    targets = ("metrics.jsonl", "resume.pt", ".lock", "pictures", "report.html", "comparison.json", "runs", "players", "result.json")
    target = rng.choice(targets)

    def spoil(folder: Path) -> None:
        _second_and_links(folder)
        place = folder / own
        if what == 6:
            # cells that hold something else than a run
            cells = [path.parent for path in (folder / "comparison" / "runs").rglob("result.json")]
            cells += [path.parent for path in (folder / "comparison" / "players").rglob("result.json")]
            cell = rng.choice(sorted(cells))
            shutil.rmtree(cell)
            shutil.copytree(folder / rng.choice(("store", "notes", "search", "encoder")), cell)
            return
        place.mkdir(exist_ok=True)
        path = place / target
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        path.unlink(missing_ok=True)
        if what in (0, 1):
            path.symlink_to(folder / "notes" / "notes.txt")
        elif what == 2:
            path.symlink_to(folder / "notes")
        elif what == 3:
            path.mkdir()
            (path / "mine.txt").write_text("mine")
        elif what == 4:
            os.mkfifo(path)
        else:
            path.write_text("mine")

    command = _MAKERS["comparison" if what == 6 else kind].format("comparison" if what == 6 else own)
    if kind == "encoder":
        command += " --steps 6"
    return Case("folders", number, tuple(command.split()), (own if what != 6 else "comparison",), spoil, work=False)


def _second_and_links(folder: Path) -> None:
    shutil.copytree(folder / "comparison", folder / "second")
    (folder / "link").symlink_to(folder / "notes")
