"""Hostile inputs from a seed: whatever they are, the readers take them or say in one line what is wrong, and write nothing."""

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from agents.command import read_command
from agents.run.agent_files import read_agent
from agents.run.checkpoint import read_checkpoint
from agents.run.config import AgentRun
from agents.run.metrics import latest
from agents.run.result import read_result
from comparison.config import read_grid
from comparison.encoder_facts import SpeedCache
from comparison.results import read_results
from encoders.artifact import load_encoder
from foundation.errors import UserError
from foundation.presets import read_yaml
from search.config import read_search

VALUES = (
    "nan",
    "inf",
    "-1",
    "0",
    "1e400",
    "9" * 26,
    "99999999999999",
    "",
    "--",
    "$x$",
    "\udcff",
    "../..",
    "[" * 500,
    "null",
    "\x1b[2J",
    "é" * 999,
)
OPTIONS = (
    *("steps", "threads", "seed", "device", "checkpoint-minutes", "ray.cpus", "ray.gpus", "remote.actors", "evaluation.every"),
    *(
        "algorithm.gamma",
        "algorithm.net-arch",
        "algorithm.learning-rate",
        "algorithm.n-envs",
        "environment.frame-skip",
        "env.episode_ticks",
    ),
    *("environment.frame-size", "environment.name", "control", "no-such-option", "agent"),
)
ENVIRONMENT = {"name": "VoxelTreechop-v0", "frame_skip": 4}
SETTINGS = {"environment": ENVIRONMENT, "algorithm": {"kind": "ppo"}, "encoder_sha256": None, "threads": 1, "control": "pixels"}
RESULT = {"steps": 9, "seed": 0, "final_return": 1.0, "final_returns": [1.0], "curve": [{"step": 9, "returns": [1.0]}], "encoder": None}
ROW = {"key": "a", "label": "a", "kind": "encoder", "runs": [{"seed": 0, "steps": 9, "score": 1.0, "returns": [1.0]}]}
TASK = {"name": "n", "settings": SETTINGS, "algorithms": {}, "commands": [], "versions": {}, "rows": [ROW], "source": "s"}
STORE = {"path": "p", "fingerprint": "f", "frames_per_second": 20.0, "resize": "squash"}
ENCODER = {"name": "conv_vae", "hyperparameters": {"latent_dim": 4}, "frame_shape": [64, 64, 3], "latents": {"mean": [4]}, "store": STORE}
CHECKPOINT = {"settings": json.dumps(SETTINGS), "position": {"steps": 3}, "parameters": {}, "counters": {}, "worlds": {"layers": []}}
RANDOM = {"python": 1, "numpy": {"keys": 1, "rest": (1, 1, 1.0)}, "torch": 1, "cuda": []}

DOCUMENTS: dict[str, tuple[Any, Callable[[Path], Any]]] = {
    "agent.json": ({"format": 1, "settings": SETTINGS, "weights_sha256": "", "steps": 9}, lambda path: read_agent(path.parent)),
    "result.json": (RESULT, lambda path: read_result(path.parent)),
    "comparison.json": ({"format": 3, "results": [TASK]}, lambda path: read_results(path.parent)),
    "encoder.json": ({**ENCODER, "steps": 1, "validation": {}, "weights_sha256": "", "format": 1}, lambda path: load_encoder(path.parent)),
    "metrics.jsonl": ({"step": 1, "evaluation/return": 1.0}, lambda path: latest(path.parent, "evaluation/return")),
    "speed.json": ({"a": {"milliseconds": 1.0}}, SpeedCache),
    "preset.yaml": ({"environment": ENVIRONMENT}, read_yaml),
    "resume.pt": ({"format": 1, **CHECKPOINT, "random": RANDOM}, lambda path: read_checkpoint(path.parent)),
}
COMMANDS: dict[str, Callable[[list[str]], Any]] = {
    "train": lambda words: read_command(AgentRun, "", words),
    "compare": lambda words: read_grid("", words),
    "tune": lambda words: read_search([*words, "--space", "debug"]),
}
COUNT = 420
SAMPLED = 120


def mutated(value: Any, rng: random.Random) -> Any:
    """Return a value in which something, somewhere, is of another kind, missing, bottomless or no number."""
    odd: list[Any] = [None, True, -1, 10**30, float("nan"), float("inf"), "", "x" * 10_000, "\ud800", "\x1b[2J", [], {}, [[]], {"a": {}}]
    if isinstance(value, dict) and value and rng.random() < 0.8:
        key = rng.choice(sorted(value))
        rest = {name: one for name, one in value.items() if name != key}
        return rest if rng.random() < 0.15 else {**rest, key: mutated(value[key], rng)}
    if isinstance(value, list) and value and rng.random() < 0.8:
        return [mutated(value[0], rng), *value[1:]]
    return rng.choice(odd)


def write(path: Path, content: Any, rng: random.Random) -> None:
    """Write a mutated document as its kind is written, or bytes that are no document at all."""
    changed = mutated(content, rng)
    if rng.random() < 0.15:
        path.write_bytes(rng.choice([b"", b"[" * 100_000, b"\xff\xfe", b"{", rng.randbytes(500), b"9" * 9000]))
    elif path.suffix == ".pt":
        torch.save(changed, path)
    elif path.suffix == ".yaml":
        path.write_text(yaml.safe_dump(changed), errors="surrogatepass")
    else:
        path.write_text(json.dumps(changed))


def holds(read: Callable[[], Any], folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    before = sorted(path.name for path in folder.iterdir())
    said, status = "", 0
    try:
        read()
    except UserError as error:
        said = str(error)
    except SystemExit as ended:
        status = ended.code or 0
    assert "\n" not in said
    assert status == 0
    assert sorted(path.name for path in folder.iterdir()) == before


def check(number: int, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = random.Random(number)
    if number % 2:
        name = rng.choice(sorted(DOCUMENTS))
        content, read = DOCUMENTS[name]
        write(folder / name, content, rng)
        holds(lambda: read(folder / name), folder, monkeypatch)
    else:
        command = rng.choice(sorted(COMMANDS))
        words = ["debug", "--run", "run"]
        for _ in range(rng.randint(1, 3)):
            words += [f"--{rng.choice(OPTIONS)}", rng.choice(VALUES)]
        holds(lambda: COMMANDS[command](words), folder, monkeypatch)


SOME = random.Random(0).sample(range(COUNT), SAMPLED)


@pytest.mark.parametrize("number", SOME)
def test_a_hostile_input_is_read_or_refused(number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check(number, tmp_path, monkeypatch)


@pytest.mark.extended
@pytest.mark.parametrize("number", sorted(set(range(COUNT)) - set(SOME)))
def test_so_are_all_others(number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check(number, tmp_path, monkeypatch)
