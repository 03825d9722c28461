"""Hostile documents: JSON and YAML that is wrong somewhere, or no document at all."""

import json
import os
import random
import shutil
from pathlib import Path
from typing import Any

import yaml

from tests.hostile.inputs import EVALUATE, PLAY, RESUMES, TRAIN_ON, Case, changed, written
from tests.hostile.sandbox import AGENT


def no_document(path: Path, rng: random.Random) -> None:
    """Put something in a document's place that is none."""
    path.unlink()
    what = rng.randrange(6)
    if what == 0:
        os.mkfifo(path)
    elif what == 1:
        path.symlink_to("/dev/zero")
    elif what == 2:
        path.mkdir()
    elif what == 3:
        with open(path, "wb") as file:
            file.truncate(2**31)
    else:
        path.write_bytes(rng.choice([b"", b"[" * 100_000, b"\xff\xfe\x00", b"{", rng.randbytes(500), b"9" * 9000, b"null", b"a: &a [*a]"]))


DOCUMENTS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("encoder/encoder.json", (EVALUATE.format("encoder") + " reconstruction", TRAIN_ON.format("encoder"))),
    ("encoder/config.yaml", (RESUMES["encoder"],)),
    ("encoder/metrics.jsonl", (RESUMES["encoder"],)),
    ("encoder/evaluation.json", (EVALUATE.format("encoder") + " reconstruction", RESUMES["comparison"])),
    ("agent/agent.json", (PLAY, RESUMES["agent"])),
    ("agent/result.json", (RESUMES["agent"],)),
    ("agent/attempts.jsonl", (RESUMES["agent"],)),
    ("agent/metrics.jsonl", (RESUMES["agent"],)),
    ("comparison/comparison.json", ("compare_encoders.py join comparison second --run new", RESUMES["comparison"])),
    ("comparison/grid.yaml", (RESUMES["comparison"],)),
    ("comparison/runs/debug/debug/settings.yaml", (RESUMES["comparison"],)),
    ("comparison/encoders/speed.json", (RESUMES["comparison"],)),
    ("comparison/RESULT", (RESUMES["comparison"],)),
    ("search/trials.jsonl", (RESUMES["search"],)),
    ("search/config.yaml", (RESUMES["search"],)),
    ("search/trials/000/trial.json", (RESUMES["search"],)),
    ("env.yaml", (f"train_agent.py env.yaml --control pixels --run new --steps 64 {AGENT.partition('cpu ')[2]}",)),
    ("agent.yaml", (f"train_agent.py {AGENT} --agent agent.yaml --control pixels --run new",)),
    ("encoder.yaml", ("train_encoder.py encoder.yaml --store store --run new --steps 2 --device cpu --threads 1",)),
    ("search.yaml", (f"tune_agent.py {AGENT} --control pixels --trials 2 --space search.yaml --run new",)),
    ("demo.yaml", ("demo.py demo.yaml --recordings none --run new",)),
)
_TRIAL = {"scores": [{"step": 64, "score": 1.0}], "ended": "finished", "message": "", "restarts": 0}


def documents(number: int, rng: random.Random) -> Case:
    """A JSON or YAML document whose content is wrong somewhere, or that is no document."""
    name, commands = DOCUMENTS[number % len(DOCUMENTS)]
    command = rng.choice(commands)

    def spoil(folder: Path) -> None:
        path = document(folder, name)
        if rng.random() < 0.15:
            no_document(path, rng)
        elif path.suffix == ".jsonl":
            lines = [json.loads(line) for line in path.read_text().splitlines()]
            at = rng.randrange(len(lines))
            lines[at] = changed(lines[at], rng)
            path.write_text("".join(json.dumps(line) + "\n" for line in lines))
        elif path.suffix == ".yaml":
            content = changed(yaml.safe_load(path.read_text()), rng)
            path.write_text(yaml.safe_dump(_plain(content)), errors="surrogatepass")
        else:
            path.write_text(json.dumps(changed(json.loads(path.read_text()), rng)))

    return Case("documents", number, tuple(command.split()), written(command), spoil)


def document(folder: Path, name: str) -> Path:
    """Return where a document of that name lies; what only this case needs is made first."""
    if name == "comparison/RESULT":
        return next((folder / "comparison" / "runs").rglob("result.json"))
    path = folder / name
    if name.endswith("trial.json"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(_TRIAL))
    if "comparison.json" in name:
        shutil.copytree(folder / "comparison", folder / "second")
    return path


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    return value
