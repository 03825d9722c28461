"""Hostile inputs to whole commands, by kind, each from its number: what is spoilt in a copy of good things, and what is run on it."""

import csv
import hashlib
import json
import os
import random
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
import yaml

from tests.hostile.sandbox import AGENT, COMPARE, ENCODERS, TRAIN, TUNE

Spoil = Callable[[Path], None]


@dataclass(frozen=True)
class Case:
    """One hostile input: `spoil` is done to a copy of the good things, then a command runs there; it may write below `writes`."""

    kind: str
    number: int
    words: tuple[str, ...]
    writes: tuple[str, ...]
    spoil: Spoil = lambda folder: None
    work: bool = False


EVALUATE = "evaluate_encoder.py {} --store store --limit 8 --judges"
TRAIN_ON = f"train_agent.py {AGENT} --encoder {{}} --run new"
RESUMES = {
    "encoder": f"train_encoder.py {TRAIN} --run encoder --steps 6",
    "agent": f"train_agent.py {AGENT} --encoder encoder --run agent --steps 96",
    "comparison": f"compare_encoders.py {COMPARE} --run comparison",
    "search": f"tune_agent.py {TUNE} --run search",
}
PLAY = "play_agent.py agent --video film.mp4"

HUGE = "Q" * 1_000_000
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
VALUES = (
    *("nan", "inf", "-1", "0", "1e400", "-0.5", "9" * 26, "99999999999999", "", "--", "$x$", "\udcff", "../..", "/", "/dev/null"),
    *("[" * 400, "null", "\x1b[2J", "é" * 999, "%s", "notes", "store", "notes/notes.txt", "true", "1,2", "2.5", "{}", ".", "Q" * 70_000),
)
ODD: tuple[Any, ...] = (
    *(None, True, -1, 0, 10**9, 10**18, 10**30, 1.5, float("nan"), float("inf"), -1e308, "", "x" * 10_000, "\ud800", "\x1b[2J"),
    *([], {}, [[]], {"a": {}}, [None], "../../etc", "/dev/zero"),
)
OPTIONS: dict[str, tuple[str, tuple[str, ...], tuple[str, ...]]] = {
    "make_frames.py build": (
        "--source VoxelTreechop-v0 --frames 40 --episode-frames 20 --store new",
        ("new",),
        (
            *("source", "store", "layout", "frame-size", "resize", "window", "split", "val", "test", "manifest", "drop-lead", "drop-tail"),
            *("thin-frozen", "workers", "frames", "episode-frames", "seed", "players", "record", "env.episode_ticks", "env.frame_size"),
        ),
    ),
    "make_frames.py inspect": ("--store store", ("store.png",), ("store", "sheet", "json", "episodes")),
    "make_frames.py export": ("--store store --episode 0 --out clip.gif", ("clip.gif",), ("episode", "out", "start", "frames", "scale")),
    "train_encoder.py": (
        f"{TRAIN} --run new",
        ("new",),
        (
            *("store", "run", "device", "threads", "stride", "frames-in", "precision", "weights", "geco", "workers", "seed", "encoder"),
            *("heads.actions.weight", "heads.actions.count", "heads.inverse.weight", "heads.state.weight", "heads.value.gamma"),
            *("model.latent-dim", "model.encoder", "model.decoder", "model.beta", "model.points", "model.frame-shape"),
            *("training.batch-size", "training.learning-rate", "training.ema-decay", "training.log-every", "training.validation-every"),
        ),
    ),
    "evaluate_encoder.py encoder": (
        "--store store --limit 8 --judges reconstruction",
        ("encoder",),
        (
            *("store", "judges", "split", "limit", "device", "threads", "probes.frames", "probes.above", "fid.images"),
            "likelihood.importance-samples",
        ),
    ),
    "train_agent.py": (
        f"{AGENT} --encoder encoder --run new",
        ("new",),
        (
            *("steps", "device", "policy-device", "threads", "checkpoint-every", "checkpoint-minutes", "run", "encoder", "latents"),
            *("seed", "remote.actors", "remote.timeout-seconds", "ray.cpus", "ray.gpus", "ray.retries", "ray.address", "evaluation.every"),
            *("algorithm.gamma", "algorithm.net-arch", "algorithm.learning-rate", "algorithm.n-envs", "algorithm.batch-size"),
            *("environment.frame-skip", "environment.name", "environment.frame-size", "env.episode_ticks", "env.python", "env.no_such"),
        ),
    ),
    "play_agent.py agent": ("", ("film.mp4",), ("episodes", "video", "world", "seed", "player", "environment", "encoder", "device")),
    "compare_encoders.py": (
        f"{COMPARE} --run new",
        ("new",),
        ("encoders", "controls", "seeds", "first-seed", "workers", "run", "store", "steps", "latents", "evaluation.final-episodes"),
    ),
    "compare_encoders.py join": ("comparison comparison --run new", ("new",), ("run", "no-such")),
    "tune_agent.py": (
        f"{TUNE} --run new",
        ("new",),
        ("space", "trials", "seeds", "scheduler", "first-rung", "reduction", "workers", "encoder-preset", "encoder-steps", "seed", "run"),
    ),
    "check_setup.py": ("--json --no-such", (), ("recordings", "no-such")),
}


def arguments(number: int, rng: random.Random) -> Case:
    """One to three options of a command with values that are none."""
    door = sorted(OPTIONS)[number % len(OPTIONS)]
    words, writes, options = OPTIONS[door]
    given: list[str] = []
    for _ in range(rng.randint(1, 3)):
        option, value = rng.choice(options), rng.choice(VALUES)
        given += [f"--{option}={value}"] if rng.random() < 0.3 else [f"--{option}", value]
    # what is not there yet, and was named, may be made
    named = {word.rpartition("=")[2] for word in given} - {"", ".", "/", "../..", "notes", "store", "notes/notes.txt"}
    return Case("arguments", number, (*door.split(), *words.split(), *given), (*writes, *sorted(named)))


def changed(value: Any, rng: random.Random) -> Any:
    """Return a value in which something, somewhere, is of another kind, missing, bottomless or no number."""
    if isinstance(value, dict) and value and rng.random() < 0.85:
        key = rng.choice(sorted(value, key=str))
        rest = {name: one for name, one in value.items() if name != key}
        return rest if rng.random() < 0.15 else {**rest, key: changed(value[key], rng)}
    if isinstance(value, (list, tuple)) and value and rng.random() < 0.85:
        at = rng.randrange(len(value))
        return [*value[:at], changed(value[at], rng), *value[at + 1 :]]
    return rng.choice(ODD)


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
        path = _document(folder, name)
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

    return Case("documents", number, tuple(command.split()), _written(command), spoil)


def _document(folder: Path, name: str) -> Path:
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


def _written(command: str) -> tuple[str, ...]:
    words = command.split()
    named = [words[index + 1] for index, word in enumerate(words[:-1]) if word in ("--run", "--video")]
    # an encoder's evaluation lies in its folder
    return (*named, *((words[1],) if words[0] == "evaluate_encoder.py" else ()))


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

    return Case("weights", number, tuple(command.split()), _written(command), spoil)


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

    return Case("hyperparameters", number, tuple(command.split()), _written(command), spoil)


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

    return Case("checkpoints", number, tuple(command.split()), _written(command), spoil, work=name == "agent")


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


def _store_with(name: str, arrays: dict[str, np.ndarray]) -> Spoil:
    """Replace the store by one that the writer makes of hostile names and arrays."""

    def spoil(folder: Path) -> None:
        from frames.curation.splits import assign_splits
        from frames.storage.writer import store_writer

        shutil.rmtree(folder / "store")
        rng = np.random.default_rng(0)
        with store_writer(folder / "store", {"source": name}, (64, 64, 3)) as writer:
            names = [f"{number} {name}"[:200] for number in range(4)]
            for one in names:
                frames = rng.integers(0, 256, (40, 64, 64, 3)).astype(np.uint8)
                writer.add(one, frames, source=name, frames_per_second=20.0, arrays=lambda: arrays, task=name)
            splits = dict(zip(names, ("train", "train", "val", "test"), strict=True))
            writer.finish(lambda found: assign_splits(found, given=splits), {"resize": "squash", "left_out": []})

    return spoil


_ARRAYS: tuple[dict[str, np.ndarray], ...] = tuple(
    [{"reward": np.full(39, value, np.float32)} for value in (np.nan, np.inf, -np.inf, 3e38, -1.0)]
    + [{"reward": np.zeros((39, 7), np.float32)}, {"reward": np.ones(3, np.float32)}, {"reward": np.full(39, "x")}]
    + [{"observation.segmentation": np.full((40, 64, 64), value, np.uint8)} for value in (0, 255)]
    + [{"observation.segmentation": np.zeros(shape, np.uint8)} for shape in ((40, 8, 8), (40,), (39, 64, 64), (40, 64, 64, 9))]
    + [{"observation.segmentation": np.full((40, 64, 64), -7, np.int64)}, {"observation.segmentation": np.full((40, 64, 64), np.nan)}]
    + [{"observation.state.bearing": np.full(40, value, np.float32)} for value in (np.nan, np.inf, 3e38)]
    + [{"action.attack": np.full(39, value)} for value in (np.nan, np.inf, 1e300, -(2**62))]
    + [{"action.camera": np.zeros((39, 10_000), np.float32)}, {"action.word": np.full(39, "\x1b[2J")}]
    + [{"observation.factors": np.full((40, 5, 3), np.nan, np.float32)}]
)
_LOOK = (
    "make_frames.py inspect --store store",
    "make_frames.py verify --store store",
    f"train_encoder.py {TRAIN} --run new",
    "train_encoder.py critic_debug --store store --run new --steps 2 --device cpu --threads 1 --training.validation-frames 16",
    EVALUATE.format("encoder") + " probes --probes.frames 100",
    EVALUATE.format("critic") + " value masks",
)


def stores(number: int, rng: random.Random) -> Case:
    """A frame store whose bytes are others, or whose rewards, masks, state and actions are none."""
    command = _LOOK[number % len(_LOOK)]
    spoil: Spoil
    if rng.random() < 0.45:

        def spoil(folder: Path) -> None:
            path = folder / "store" / "data.mdb"
            path.write_bytes(flipped(path.read_bytes(), rng, 20_000))
    else:
        name = "plain"
        spoil = _store_with(name, {key: value for arrays in rng.sample(_ARRAYS, 2) for key, value in arrays.items()})
    return Case("stores", number, tuple(command.split()), (*_written(command), "store.png"), spoil)


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


def names(number: int, rng: random.Random) -> Case:
    """Names that a terminal, markup, a spreadsheet or a figure would obey, wherever there is one."""
    name = NAMES[number % len(NAMES)]
    places = sorted(_NAMED)
    place = places[(number // len(NAMES) + number) % len(places)]
    command, spoil = _NAMED[place]
    short = name[:60].replace("/", "_")
    words = tuple(word.replace("NAME", short) for word in command.split())
    return Case("names", number, words, (*_written(" ".join(words)), short, "store.png"), lambda folder: spoil(folder, name))


def _edit(path: str, edit: Callable[[Any, str], Any]) -> Callable[[Path, str], None]:
    def spoil(folder: Path, name: str) -> None:
        found = _document(folder, path)
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
    "store's names": ("make_frames.py inspect --store store", lambda folder, name: _store_with(name, _named_arrays(name, False))(folder)),
    "store's names when verified": ("make_frames.py verify --store store", lambda folder, name: _store_with(name, {})(folder)),
    "store's tasks": (f"train_encoder.py {TRAIN} --run new", lambda folder, name: _store_with(name, _named_arrays(name, True))(folder)),
    "manifest": ("make_frames.py build --source notes --manifest list.csv --store new", _list),
}

KINDS: dict[str, tuple[Callable[[int, random.Random], Case], int]] = {
    "arguments": (arguments, 88),
    "documents": (documents, 63),
    "weights": (weights, 44),
    "hyperparameters": (hyperparameters, 60),
    "checkpoints": (checkpoints, 40),
    "stores": (stores, 42),
    "folders": (folders, 42),
    "names": (names, 57),
}
"""By kind: what makes a case of a number, and how many there are."""


def case(kind: str, number: int) -> Case:
    """Return a kind's case of that number, the same wherever it is made."""
    return KINDS[kind][0](number, random.Random(f"{kind} {number}"))

