"""Hostile names: what a terminal, markup, a spreadsheet or a figure would obey, wherever a name is read."""

import csv
import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tests.hostile.documents import document
from tests.hostile.inputs import EVALUATE, HUGE, PLAY, RESUMES, TRAIN_ON, Case, written
from tests.hostile.sandbox import AGENT, COMPARE, TRAIN
from tests.hostile.stores import store_with
from tests.hostile.weights import rewrite

NAMES = (
    "\x1b[2J\x1b]0;owned\x07",
    "two\nlines\r\rand more",
    "[red]bold[/red]",
    "[/]",
    "$x_{$",
    "half \udce9",
    "\u202eright to left",
    "=1+2",
    HUGE,
    "\u2028\x85\x9b31m",
)
"""What a terminal, markup, a formula or an encoder of letters would take for something else."""


def names(number: int, rng: random.Random) -> Case:
    """Names that a terminal, markup, a spreadsheet or a figure would obey, wherever there is one."""
    name = NAMES[number % len(NAMES)]
    places = sorted(_NAMED)
    place = places[(number // len(NAMES) + number) % len(places)]
    command, spoil = _NAMED[place]
    short = name[:60].replace("/", "_")
    words = tuple(word.replace("NAME", short) for word in command.split())
    return Case("names", number, words, (*written(" ".join(words)), short, "store.png"), lambda folder: spoil(folder, name))


def _edit(path: str, edit: Callable[[Any, str], Any]) -> Callable[[Path, str], None]:
    def spoil(folder: Path, name: str) -> None:
        found = document(folder, path)
        # JSON of half a letter is no text
        content = edit(json.loads(found.read_text()), name.replace("\udce9", "e"))
        found.write_text(json.dumps(content))
        if path == "encoder/encoder.json":
            rewrite(folder / "encoder")

    return spoil


def _renamed_rows(content: Any, name: str) -> Any:
    for task in content["results"]:
        task["name"] = task["source"] = task["variant"] = name
        task["commands"] = [name]
        for row in task["rows"]:
            row["label"] = f"{row['label']} {name}"
            row["failures"] = [name]
            if row["encoder"]:
                row["encoder"]["name"] = row["encoder"]["folder"] = name
    return content


_PROBE = {"linear": 0.5, "mlp": 0.6}


def _probes(name: str) -> dict[str, Any]:
    return {"reading": "mean", "probes": {name: {"metric": name, "encoder": _PROBE}}}


def _nothing(folder: Path, name: str) -> None:
    pass


def _preset(kind: str) -> Callable[[Path, str], None]:
    def spoil(folder: Path, name: str) -> None:
        shutil.copy(folder / f"{kind}.yaml", folder / f"{name[:60].replace('/', '_')}.yaml")

    return spoil


def _failed(folder: Path, name: str) -> None:
    run = next(path.parent for path in (folder / "comparison" / "runs").rglob("result.json"))
    (run / "result.json").unlink()
    (run / "failed.json").write_text(json.dumps({"message": name.replace("\udce9", "e"), "details": ""}))


def _named_arrays(name: str, rewarded: bool) -> dict[str, np.ndarray]:
    arrays = {"reward": np.ones(39, np.float32)} if rewarded else {}
    return {**arrays, f"action.{name[:200]}": np.zeros(39)}


def _list(path: Path, name: str) -> None:
    with open(path / "list.csv", "w", newline="", errors="surrogateescape") as file:
        csv.writer(file).writerows([["recording", "split"], [name[:90_000], "val"]])


_NAMED: dict[str, tuple[str, Callable[[Path, str], None]]] = {
    "encoder's name": (EVALUATE.format("encoder") + " reconstruction", _edit("encoder/encoder.json", lambda c, n: {**c, "name": n})),
    "encoder's reading": (TRAIN_ON.format("encoder"), _edit("encoder/encoder.json", lambda c, n: {**c, "latents": {n: [16]}})),
    "encoder's store": (
        EVALUATE.format("encoder") + " reconstruction",
        _edit("encoder/encoder.json", lambda c, n: {**c, "store": {**c["store"], "path": n, "fingerprint": "other"}}),
    ),
    "encoder's card": (
        EVALUATE.format("encoder") + " reconstruction",
        _edit("encoder/encoder.json", lambda c, n: {**c, "store": {**c["store"], "tasks": [n], "saw": [n]}}),
    ),
    "encoder's resize": (
        EVALUATE.format("encoder") + " reconstruction",
        _edit("encoder/encoder.json", lambda c, n: {**c, "store": {**c["store"], "resize": n}}),
    ),
    "encoder's hyperparameter": (TRAIN_ON.format("encoder"), _edit("encoder/encoder.json", lambda c, n: {**c, "hyperparameters": {n: 1}})),
    "comparison's rows": ("compare_encoders.py join comparison second --run new", _edit("comparison/comparison.json", _renamed_rows)),
    "comparison's failure": (RESUMES["comparison"], _failed),
    "agent's task": (
        PLAY,
        _edit(
            "agent/agent.json",
            lambda c, n: {**c, "settings": {**c["settings"], "environment": {**c["settings"]["environment"], "name": n}}},
        ),
    ),
    "agent's encoder": (PLAY, _edit("agent/agent.json", lambda c, n: {**c, "encoder_folder": n})),
    "search's failure": (RESUMES["search"], _edit("search/trials/000/trial.json", lambda c, n: {**c, "ended": "failed", "message": n})),
    "probe": (
        RESUMES["comparison"],
        _edit("encoder/evaluation.json", lambda c, n: {**c, "probes": _probes(n)}),
    ),
    "run": (f"train_encoder.py {TRAIN} --run NAME", _nothing),
    "agent's run": (f"train_agent.py {AGENT} --control pixels --run NAME", _nothing),
    "preset": (f"compare_encoders.py NAME.yaml --agent debug {COMPARE.partition(' ')[2]} --run new", _preset("env")),
    "store's names": ("make_frames.py inspect --store store", lambda folder, name: store_with(name, _named_arrays(name, False))(folder)),
    "store's names when verified": ("make_frames.py verify --store store", lambda folder, name: store_with(name, {})(folder)),
    "store's tasks": (f"train_encoder.py {TRAIN} --run new", lambda folder, name: store_with(name, _named_arrays(name, True))(folder)),
    "manifest": ("make_frames.py build --source notes --manifest list.csv --store new", _list),
}
