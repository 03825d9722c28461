"""What a hostile input is, the commands that take one, and values that none of them expects."""

import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.hostile.sandbox import AGENT, COMPARE, TRAIN, TUNE

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
ODD: tuple[Any, ...] = (
    *(None, True, -1, 0, 10**9, 10**18, 10**30, 1.5, float("nan"), float("inf"), -1e308, "", "x" * 10_000, "\ud800", "\x1b[2J"),
    *([], {}, [[]], {"a": {}}, [None], "../../etc", "/dev/zero"),
)


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


def written(command: str) -> tuple[str, ...]:
    """Return what a command is told to write into."""
    words = command.split()
    named = [words[index + 1] for index, word in enumerate(words[:-1]) if word in ("--run", "--video")]
    # an encoder's evaluation lies in its folder
    return (*named, *((words[1],) if words[0] == "evaluate_encoder.py" else ()))
