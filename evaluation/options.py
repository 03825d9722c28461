"""The options of `evaluate_encoder.py`, and those of every judge as a group of their own."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from evaluation.judge import Judge
from foundation.errors import UserError
from foundation.limits import MOST_THREADS, refuse_more

_PROJECTOR = ("--projector.frames", "2000")
_RENAMED = {
    "context": "--open-loop.context",
    "predict": "--open-loop.predict",
    "clips": "--open-loop.clips",
    "samples": "--open-loop.samples",
    "use-obs": "--open-loop.use-obs",
    "perceptual": "--open-loop.weights (LPIPS, FVD) and --fid.weights",
    "fid-images": "--fid.images",
    "importance-samples": "--likelihood.importance-samples",
    "importance-frames": "--likelihood.importance-frames",
    "temperatures": "--hierarchy.temperatures",
}


@dataclass(frozen=True)
class Options:
    run: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """The encoder's folder."""
    store: Path
    """The frame store to judge it on."""
    judges: tuple[str, ...] = ()
    """Judges to ask; by default all that apply to the encoder."""
    split: Literal["auto", "train", "val", "test"] = "auto"
    """Recordings to judge it on; auto: `test`, or `val` where there is no `test`."""
    limit: int | None = None
    """Judge reconstructions on this many frames, spread over the split, rather than all."""
    device: str = "auto"
    """auto, cpu or cuda."""
    threads: int | None = None
    """CPU threads; by default as many as there are CPUs."""

    def __post_init__(self) -> None:
        for name in ("limit", "threads"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UserError(f"--{name} {value}: must be 1 or more")
        refuse_more("--threads", self.threads or 1, MOST_THREADS)


def with_judges(judges: dict[str, Judge]) -> type[Any]:
    """Return `Options` with a field for the options of every judge that has any."""
    groups = [
        (name, Annotated[judge.Options, tyro.conf.arg(help=judge.__doc__)], dataclasses.field(default_factory=judge.Options))
        for name, judge in judges.items()
        if dataclasses.fields(judge.Options)
    ]
    return dataclasses.make_dataclass("Options", groups, bases=(Options,), frozen=True)


def spelled_out(argv: Sequence[str]) -> list[str]:
    """Return the words of a command line with a bare `--projector` as the option of its judge."""
    return [part for word in argv for part in (_PROJECTOR if word == "--projector" else (word,))]


def refuse_old_names(argv: Sequence[str]) -> None:
    """Raise `UserError` for options as they were before every judge had its own."""
    given = {word.partition("=")[0].removeprefix("--").replace("_", "-") for word in argv if word.startswith("--")}
    renamed = [f"--{name} is now {new}" for name, new in _RENAMED.items() if name in given]
    if renamed:
        raise UserError("; ".join(renamed))
