"""Hostile words of a command: options of every door with values that are none."""

import random

from tests.hostile.inputs import Case
from tests.hostile.sandbox import AGENT, COMPARE, TRAIN, TUNE

VALUES = (
    *("nan", "inf", "-1", "0", "1e400", "-0.5", "9" * 26, "99999999999999", "", "--", "$x$", "\udcff", "../..", "/", "/dev/null"),
    *("[" * 400, "null", "\x1b[2J", "é" * 999, "%s", "notes", "store", "notes/notes.txt", "true", "1,2", "2.5", "{}", ".", "Q" * 70_000),
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
