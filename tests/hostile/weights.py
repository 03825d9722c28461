"""Hostile weights, hyperparameters and checkpoints of encoders and agents, under hashes that are right."""

import hashlib
import json
import random
from pathlib import Path
from typing import Any

import safetensors.torch
import torch

from tests.hostile.inputs import EVALUATE, ODD, PLAY, RESUMES, TRAIN_ON, Case, changed, written
from tests.hostile.sandbox import AGENT, ENCODERS, TRAIN


def rewrite(folder: Path, content: bytes | None = None, **info: Any) -> None:
    """Change an encoder as somebody would who wants it to be loaded: the hash is right."""
    weights = folder / "encoder.safetensors"
    if content is not None:
        weights.write_bytes(content)
    values = json.loads((folder / "encoder.json").read_text())
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    (folder / "encoder.json").write_text(json.dumps({**values, **info, "weights_sha256": digest}))


def flipped(content: bytes, rng: random.Random, head: int) -> bytes:
    """Return bytes of which some are others, half of them among the first `head`, or of which the end is missing, or doubled."""
    what = rng.random()
    if what < 0.15:
        return content[: rng.randrange(len(content))]
    if what < 0.2:
        return content + content
    changed = bytearray(content)
    for _ in range(rng.choice((1, 4, 64))):
        at = rng.randrange(min(head, len(content))) if rng.random() < 0.5 else rng.randrange(len(content))
        changed[at] = rng.randrange(256)
    return bytes(changed)


def odd_tensors(tensors: dict[str, torch.Tensor], rng: random.Random) -> dict[str, torch.Tensor]:
    """Return tensors of which one is not finite, of another shape or type, missing, or has another name."""
    name = rng.choice(sorted(tensors))
    old = tensors[name]
    odd = [torch.full_like(old.float(), value) for value in (torch.nan, torch.inf, -torch.inf, 0.0, -1.0, 1e38)]
    odd += [old.flatten()[:-1].clone(), old[None].clone(), old.double(), (old.float() > 0), torch.zeros(0), old.to(torch.int64)]
    rest = {key: value for key, value in tensors.items() if key != name}
    what = rng.random()
    return rest if what < 0.1 else {**rest, name + "x": old} if what < 0.2 else {**rest, name: rng.choice(odd)}


JUDGED = {"critic": "value", "critic_vae": "reconstruction", "encoder": "reconstruction"}
_SLOW = ("efficientmorl", "slot_attention", "nvae", "cwvae")
"""To judge: agents' commands read them alike."""


def _use(name: str, rng: random.Random) -> str:
    evaluated = f"{EVALUATE.format(name)} {JUDGED.get(name, 'probes')} --probes.frames 100"
    compared = f"compare_encoders.py {AGENT} --encoders {name} --seeds 1 --run new"
    return rng.choice((*(() if name in _SLOW else (evaluated,)), TRAIN_ON.format(name), compared))


def weights(number: int, rng: random.Random) -> Case:
    """Weights and statistics of an encoder, or an agent's, that are none; the hashes are right."""
    name = [*sorted(ENCODERS), "encoder", "agent"][number % (len(ENCODERS) + 2)]
    command = PLAY if name == "agent" else _use(name, rng)

    def spoil(folder: Path) -> None:
        path = folder / name / ("agent.safetensors" if name == "agent" else "encoder.safetensors")
        content = path.read_bytes()
        if rng.random() < 0.4:
            content = flipped(content, rng, 2000)
        else:
            content = safetensors.torch.save(odd_tensors(safetensors.torch.load(content), rng))
        if name != "agent":
            return rewrite(folder / name, content)
        path.write_bytes(content)
        values = json.loads((folder / "agent" / "agent.json").read_text())
        (folder / "agent" / "agent.json").write_text(json.dumps({**values, "weights_sha256": hashlib.sha256(content).hexdigest()}))
        return None

    return Case("weights", number, tuple(command.split()), written(command), spoil)


def hyperparameters(number: int, rng: random.Random) -> Case:
    """Hyperparameters, heads and descriptions of an encoder that no model has, the encoders that it stands on included."""
    name = [*sorted(ENCODERS), "encoder"][number % (len(ENCODERS) + 1)]
    command = _use(name, rng)

    def spoil(folder: Path) -> None:
        values = json.loads((folder / name / "encoder.json").read_text())
        part = "heads" if values.get("heads") and rng.random() < 0.5 else "hyperparameters"
        if name == "critic_vae" and rng.random() < 0.5:
            below = json.loads(values["hyperparameters"]["critic"])
            found = {**values["hyperparameters"], "critic": json.dumps(changed(below, rng))}
        else:
            found = changed(values[part], rng)
        rewrite(folder / name, **{part: found})

    return Case("hyperparameters", number, tuple(command.split()), written(command), spoil)


def checkpoints(number: int, rng: random.Random) -> Case:
    """A `resume.pt` whose bytes or content are others."""
    name = ("encoder", "agent")[number % 2]
    command = RESUMES[name]
    if name == "encoder" and rng.random() < 0.3:
        command = f"train_encoder.py {TRAIN} --run new --weights encoder"

    def spoil(folder: Path) -> None:
        path = folder / name / "resume.pt"
        if rng.random() < 0.25:
            path.write_bytes(flipped(path.read_bytes(), rng, 4000))
        else:
            torch.save(odd_content(torch.load(path, weights_only=True), rng), path)

    return Case("checkpoints", number, tuple(command.split()), written(command), spoil, work=name == "agent")


def odd_content(value: Any, rng: random.Random) -> Any:
    """Change something, somewhere, in what a checkpoint holds: nothing that asks for hours of memory."""
    if isinstance(value, dict) and value and rng.random() < 0.93:
        key = rng.choice(sorted(value, key=str))
        rest = {name: one for name, one in value.items() if name != key}
        return rest if rng.random() < 0.1 else {**rest, key: odd_content(value[key], rng)}
    if isinstance(value, (list, tuple)) and value and rng.random() < 0.9:
        at = rng.randrange(len(value))
        return type(value)([*value[:at], odd_content(value[at], rng), *value[at + 1 :]])
    if isinstance(value, torch.Tensor) and rng.random() < 0.8:
        return odd_tensors({"x": value}, rng).get("x", 7)
    return rng.choice(ODD)
