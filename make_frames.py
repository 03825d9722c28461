"""Make frame stores and look at them: recordings or rollouts in, one folder of frames out.

Options of an environment that is played: build ... --env.NAME VALUE, such as --env.server voxel (docs/minerl.md).
"""

import json
import math
import os
import re
import sys
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rich.console import Console

import frames
from foundation.command import run
from foundation.env_options import PREFIX, RUNNING_OPTIONS, Scalar, take_env_options
from foundation.errors import UserError
from foundation.files import write_atomically
from foundation.presets import parse
from frames.curation.cleaning import Cleaning
from frames.looking.exporting import export
from frames.looking.figures import store_figures
from frames.looking.inspecting import contact_sheet, verify
from frames.looking.tables import left_out_lines, printable, store_tables
from frames.resize import ResizeMode
from frames.storage.format import LeftOut

_NOISES = (0.2, 0.6)
_ENVIRONMENT_ID = re.compile(r"([\w.-]+/)?[\w.-]+-v\d+")
_FOR_RECORDINGS = ("layout", "manifest", "drop_lead", "drop_tail", "thin_frozen", "keep_duplicates", "append", "workers")
_FOR_ENVIRONMENTS = ("frames", "episode_frames", "seed")

# piped into a file or a program, lines keep their length
console = Console(highlight=False, width=None if sys.stdout.isatty() else 1000)


@dataclass(frozen=True, kw_only=True)
class Build:
    """Build a store from a folder of recordings, or from an environment that is played."""

    source: str
    """A folder of recordings of any layout (docs/frame_formats.md), a single file, or an environment's id: VoxelTreechop-v0,
    MineRLTreechop-v0, ...; its own options are given as --env.NAME VALUE."""
    store: Path
    """The store to write."""
    layout: str | None = None
    """Look only for recordings of this layout: minerl, vpt, cwvae, malmo, lmdb, npy, hdf5, videos or pictures."""
    frame_size: tuple[int, int] = (64, 64)
    """Height and width that frames are resized to."""
    resize: ResizeMode = "squash"
    """squash changes the aspect ratio, crop cuts the centre."""
    split: Literal["by-recording", "train", "val", "test"] = "by-recording"
    """Put everything into one split, or draw a split for each recording whose source does not say it."""
    val: float = 0.1
    """Share of the recordings to validate on."""
    test: float = 0.0
    """Share of the recordings to test on."""
    manifest: Path | None = None
    """A CSV file that says for each file what to leave out, its split, its frame count and its hash."""
    drop_lead: int = 0
    """Leave out so many frames at the start of every recording that the manifest has no number for."""
    drop_tail: int = 0
    """Leave out so many frames at the end of every recording that the manifest has no number for."""
    thin_frozen: int | None = None
    """Keep at most so many frames of a stretch where nothing moves."""
    keep_duplicates: bool = False
    """Keep recordings that are the same as another or contained in one."""
    append: bool = False
    """Add the recordings of the source to a finished store."""
    workers: int | None = None
    """How many recordings to decode at a time; as many as there are cores if not given."""
    frames: int = 20_000
    """Environment: how many frames to collect."""
    episode_frames: int = 500
    """Environment: how many frames an episode has at most."""
    seed: int = 0
    """Environment: what the worlds and players follow from."""
    debug: bool = False
    """End in seconds: three recordings, or 300 frames."""


@dataclass(frozen=True, kw_only=True)
class Inspect:
    """Print what a store holds and draw a contact sheet."""

    store: Path
    """The store to look at."""
    sheet: Path | None = None
    """Where to write the contact sheet; beside the store if not given."""
    json: Path | None = None
    """Write the same figures as JSON to this file."""
    episodes: int = 20
    """How many episodes to list."""


@dataclass(frozen=True, kw_only=True)
class Verify:
    """Read every frame and array of a store and compare them with the hashes they were written with."""

    store: Path
    """The store to check."""


@dataclass(frozen=True, kw_only=True)
class Export:
    """Write a clip of an episode as mp4 or gif, or its frames and arrays as npz."""

    store: Path
    """The store to take it from."""
    episode: str
    """The episode's name, as inspect lists it."""
    out: Path
    """The file to write; its ending says what: .mp4, .gif or .npz."""
    start: int = 0
    """The first frame."""
    frames: int | None = None
    """How many frames; all that follow if not given."""
    scale: int | None = None
    """Clips: enlarge every pixel so many times; to about 256 rows if not given."""


def main() -> int:
    argv, options = take_env_options(sys.argv[1:])
    command = parse(Build | Inspect | Verify | Export, __doc__ or "", argv)
    if isinstance(command, Build):
        return build(command, options)
    if options:
        raise UserError(f"{PREFIX}{next(iter(options))} is for build from an environment: leave it out")
    if isinstance(command, Inspect):
        return inspect(command)
    return check(command) if isinstance(command, Verify) else cut(command)


def build(config: Build, options: dict[str, Scalar]) -> int:
    environment = not Path(config.source).exists() and _ENVIRONMENT_ID.fullmatch(config.source)
    if options and not environment:
        raise UserError(f"{PREFIX}{next(iter(options))} is for environments, and {config.source} is none: leave it out")
    summary = _from_environment(config, options) if environment else _from_recordings(config)
    for line in left_out_lines(summary.left_out, summary.trimmed, f"python make_frames.py inspect --store {summary.path} --json FILE"):
        _say(line)
    held = f"{summary.frames:,} frames of {summary.episodes:,} episodes"
    if summary.finished_before:
        _say(f"{summary.path} was finished before: {held}; nothing to do")
        if summary.left_out:
            _say("to try again what was left out, build into another store path")
    else:
        before = [f"{summary.held:,} before"] if summary.held else []
        before += [f"{summary.kept:,} from an earlier run"] if summary.kept else []
        parts = f" ({', '.join([f'{summary.decoded:,} decoded', *before])})" if before else ""
        _say(f"wrote {summary.path}: {held}{parts} in {summary.seconds:.0f} s")
    _say(f"next: python make_frames.py inspect --store {summary.path}")
    _say(f"      python train_encoder.py conv_vae_small --store {summary.path} --run RUN")
    return summary.status


def _from_recordings(config: Build) -> frames.BuildSummary:
    if Path(config.source).exists():
        _refuse(config, _FOR_ENVIRONMENTS, f"is for environments, and {config.source} holds recordings")
    if config.workers is not None and config.workers < 1:
        raise UserError(f"--workers {config.workers}: must be at least 1")
    return frames.build_store(
        config.source,
        config.store,
        layout=config.layout,
        frame_size=config.frame_size,
        resize=config.resize,
        split=config.split,
        val=config.val,
        test=config.test,
        limit=3 if config.debug else None,
        workers=config.workers,
        cleaning=Cleaning(
            manifest=config.manifest,
            drop_lead=config.drop_lead,
            drop_tail=config.drop_tail,
            thin_frozen=config.thin_frozen,
            keep_duplicates=config.keep_duplicates,
        ),
        append=config.append,
    )


def _from_environment(config: Build, options: dict[str, Scalar]) -> frames.BuildSummary:
    _refuse(config, _FOR_RECORDINGS, f"is for recordings, and {config.source} is an environment")
    # here, for its compiled code takes a second to load
    import envs

    seen = [f"{name}={value}" for name, value in sorted(options.items()) if name not in RUNNING_OPTIONS]
    return frames.record(
        lambda: envs.make_env(config.source, **options),
        _players(config.source, options),
        config.store,
        frames=300 if config.debug else config.frames,
        seed=config.seed,
        name=config.source + (f" ({', '.join(seen)})" if seen else ""),
        episode_frames=50 if config.debug else config.episode_frames,
        frame_size=config.frame_size,
        resize=config.resize,
        split=config.split,
        val=config.val,
        test=config.test,
    )


def _players(source: str, options: dict[str, Scalar]) -> list[frames.Player | None]:
    """Choose who takes turns: two scripted players in voxel tasks, a wandering one in MineRL's; and a random one, or that alone."""
    import envs

    if source.startswith("Voxel"):
        return [*(envs.scripted_player(source, noise=noise) for noise in _NOISES), None]
    if source.startswith("MineRL"):
        # nothing starts before the first reset
        with closing(envs.make_env(source, **options)) as env:
            if frames.wanders_in(env.action_space):
                return [frames.WanderingPlayer(env.action_space), None]
    return [None]


def _refuse(config: Build, options: Sequence[str], why: str) -> None:
    for name in options:
        if getattr(config, name) != getattr(Build, name):
            raise UserError(f"--{name.replace('_', '-')} {why}: leave it out")


def inspect(config: Inspect) -> int:
    if config.episodes < 0:
        raise UserError(f"--episodes {config.episodes}: must be 0 or more")
    store = frames.FrameStore(config.store)
    figures = store_figures(store, config.episodes)
    height, width, _ = store.frame_shape
    _say(f"{store.path}: {len(store):,} frames of {height}x{width} ({store.meta['resize']}), {store.frames_per_second:g} frames/s")
    _say(f"fingerprint {store.fingerprint}")
    plans = [store.meta["plan"], *store.meta["appended"]]
    _say(f"made from {', '.join(dict.fromkeys(plan['source'] for plan in plans))}")
    for table in store_tables(figures):
        console.print()
        console.print(table)
    console.print()
    left_out = [LeftOut(**entry) for entry in store.meta["left_out"]]
    for line in left_out_lines(left_out, store.meta["trimmed"], "--json FILE has them all"):
        _say(line)
    if config.json is not None:
        write_atomically(config.json, json.dumps(figures, indent=1))
        _say(f"wrote {config.json}")
    path = Path(os.path.abspath(store.path))
    sheet = config.sheet or path.with_name(path.name + ".png")
    contact_sheet(store, sheet)
    _say(f"wrote {sheet}")
    _say(f"next: python train_encoder.py conv_vae_small --store {store.path} --run RUN")
    return 0


def check(config: Verify) -> int:
    store, began = frames.FrameStore(config.store), time.monotonic()
    damaged = verify(store)
    for name, reason in damaged:
        _say(f"damaged: {name}: {reason}")
    if damaged:
        raise UserError(f"{store.path}: {len(damaged)} faults; copy the store again or build it again")
    read, seconds = len(store) * math.prod(store.frame_shape) / 1e9, time.monotonic() - began
    _say(f"{store.path}: {len(store):,} frames of {len(store.episodes):,} episodes are what was written")
    _say(f"read {read:.2f} GB of frames in {seconds:.1f} s, {read / seconds:.2f} GB/s")
    _say(f"next: python train_encoder.py conv_vae_small --store {store.path} --run RUN")
    return 0


def cut(config: Export) -> int:
    store = frames.FrameStore(config.store)
    written = export(store, config.episode, config.out, start=config.start, frames=config.frames, scale=config.scale)
    _say(f"wrote {config.out}: {written}")
    return 0


def _say(line: str) -> None:
    console.print(printable(line), markup=False, soft_wrap=True)


if __name__ == "__main__":
    run(main)
