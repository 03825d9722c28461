"""The command `make_frames.py`, behind its door: its `build`, from recordings or from an environment, and the way to its other parts."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from foundation.env_options import PREFIX, Scalar, take_env_options
from foundation.errors import UserError
from foundation.places import Place
from foundation.presets import parse
from frames.looking.options import Export, Inspect, Verify

if TYPE_CHECKING:
    from frames import BuildSummary

MAKE = """Make frame stores and look at them: recordings or rollouts in, one folder of frames out.

Options of an environment that is played: build ... --env.NAME VALUE, such as --env.server voxel (docs/minerl.md)."""

_FOR_RECORDINGS = ("layout", "window", "manifest", "drop_lead", "drop_tail", "thin_frozen", "keep_duplicates", "workers")
_FOR_PLAYERS = ("players", "shares", "deterministic", "encoder", "record")
_FOR_ENVIRONMENTS = ("frames", "episode_frames", "seed", *_FOR_PLAYERS)
_FRAME_SIZE = (64, 64)


@dataclass(frozen=True, kw_only=True)
class Build:
    """Build a store from a folder of recordings, from an environment that is played, or of scenes that are drawn.

    Environments are VoxelTreechop-v0, MineRLTreechop-v0, ale_py:ALE/Breakout-v5 and so on, with options of their own as --env.NAME VALUE;
    scenes are Tetrominoes, MultiDSprites and MovingDigits. Layouts of recordings: docs/frame_formats.md.
    """

    source: str
    """A folder of recordings of any layout, a single file, an environment's id, or what is drawn."""
    store: Path
    """The store to write."""
    layout: str | None = None
    """Look only for recordings of this layout: minerl, vpt, cwvae, malmo, lmdb, npy, hdf5, videos or pictures."""
    frame_size: tuple[int, int] | None = None
    """Height and width that frames are resized to: 64 64 if not given; scenes are drawn in their own."""
    resize: Literal["squash", "crop"] = "squash"
    """squash changes the aspect ratio, crop cuts the centre."""
    window: tuple[int, int, int, int] | None = None
    """Take only this part of every picture, before it is resized: first row, first column, height, width (CLEVR: 29 64 192 192)."""
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
    """Add the recordings of the source, or rollouts of another seed, to a finished store."""
    workers: int | None = None
    """How many recordings to decode at a time; as many as there are cores if not given."""
    frames: int = 20_000
    """Environment, scenes: how many frames to collect or draw."""
    episode_frames: int = 500
    """Environment, scenes: how many frames an episode has at most."""
    seed: int = 0
    """Environment, scenes: what the worlds and players, or the scenes, follow from."""
    players: Annotated[tuple[str, ...], tyro.conf.arg(aliases=("--player",))] = ()
    """Environment: scripted (knows where things are), seeing, wandering, random or an agent's run; default: all that suit but seeing."""
    shares: tuple[float, ...] = ()
    """Environment: how many of the episodes each of the players gets, such as 2 1 for two of three; as many as the others if not given."""
    deterministic: bool = False
    """Environment: agents take the likeliest action instead of sampling."""
    encoder: Place | None = None
    """Environment: the agents' encoder, if its folder has moved or a service has it."""
    record: tuple[Literal["state", "segmentation"], ...] = ()
    """Environment: what to record beside its observations: the numbers of its state, and the kind of block that every pixel shows."""
    digits: Path | None = None
    """MovingDigits: a folder with MNIST's train-images-idx3-ubyte (or .gz), and the labels beside it; drawn with fonts if not given."""
    debug: bool = False
    """End in seconds: three recordings, or 300 frames."""


@dataclass(frozen=True, kw_only=True)
class Merge:
    """Make one store of several finished ones, such as one for each of several environments."""

    stores: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="STORE")]
    """The stores whose episodes go in; they stay as they are."""
    store: Path
    """The store to write."""


def make(argv: Sequence[str]) -> int:
    """Build, merge, inspect, verify or export a store; return the exit status: 1 where some recordings were left out."""
    words, options = take_env_options(argv)
    command = parse(Build | Merge | Inspect | Verify | Export, MAKE, words)
    if isinstance(command, Build):
        return build(command, options)
    if options:
        raise UserError(f"{PREFIX}{next(iter(options))} is for build from an environment: leave it out")
    if isinstance(command, Merge):
        return merge(command)
    # here and below, for OpenCV takes a while to import
    from frames.looking.command import check, cut, inspect

    if isinstance(command, Inspect):
        return inspect(command)
    return check(command) if isinstance(command, Verify) else cut(command)


def build(config: Build, options: dict[str, Scalar]) -> int:
    """Build a store and say what went in and what did not; return the exit status."""
    from envs.registry import is_environment_id
    from frames.scenes.building import DRAWN

    there = Path(config.source).exists()
    drawn = not there and config.source in DRAWN
    environment = not there and is_environment_id(config.source)
    if not (there or drawn or environment):
        others = f"no environment's (Name-v0, or module:Name-v0) or of what is drawn ({', '.join(DRAWN)})"
        raise UserError(f"--source {config.source}: no file or folder of that name, and {others}")
    if options and not environment:
        raise UserError(f"{PREFIX}{next(iter(options))} is for environments, and {config.source} is none: leave it out")
    summary = _from_environment(config, options) if environment else _drawn(config) if drawn else _from_recordings(config)
    return _told(summary)


def merge(config: Merge) -> int:
    """Merge stores, and say what went in and what could not; return the exit status."""
    from frames.building.merging import merge_stores
    from frames.looking.tables import print_line

    merged = merge_stores(config.stores, config.store)
    for name, why in merged.dropped.items():
        print_line(f"left out {name}: {why}")
    return _told(merged.built)


def _told(summary: "BuildSummary") -> int:
    """Say what a store holds and which commands come next; return the exit status."""
    from frames.looking.next_steps import next_commands, one_split_line, with_next
    from frames.looking.tables import left_out_lines, print_line
    from frames.store import FrameStore

    for line in left_out_lines(summary.left_out, summary.trimmed, f"python make_frames.py inspect --store {summary.path} --json FILE"):
        print_line(line)
    held = f"{summary.frames:,} frames of {summary.episodes:,} episodes"
    if summary.finished_before:
        print_line(f"{summary.path} was finished before: {held}; nothing to do")
        if summary.left_out:
            print_line("to try again what was left out, build into another store path")
    else:
        before = [f"{summary.held:,} before"] if summary.held else []
        before += [f"{summary.kept:,} from an earlier run"] if summary.kept else []
        parts = f" ({', '.join([f'{summary.decoded:,} decoded', *before])})" if before else ""
        print_line(f"wrote {summary.path}: {held}{parts} in {summary.seconds:.0f} s")
    store = FrameStore(summary.path)
    if one_split := one_split_line(store):
        print_line(one_split)
    for line in with_next(f"python make_frames.py inspect --store {summary.path}", *next_commands(store)):
        print_line(line)
    return summary.status


def _from_recordings(config: Build) -> "BuildSummary":
    if Path(config.source).exists():
        _refuse(config, _FOR_ENVIRONMENTS, f"is for environments, and {config.source} holds recordings")
        _refuse(config, ("digits",), f"is for MovingDigits, and {config.source} holds recordings")
    if config.workers is not None and config.workers < 1:
        raise UserError(f"--workers {config.workers}: must be at least 1")
    from frames import build_store
    from frames.curation.cleaning import Cleaning

    return build_store(
        config.source,
        config.store,
        layout=config.layout,
        frame_size=config.frame_size or _FRAME_SIZE,
        resize=config.resize,
        window=config.window,
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


def _from_environment(config: Build, options: dict[str, Scalar]) -> "BuildSummary":
    _refuse(config, _FOR_RECORDINGS, f"is for recordings, and {config.source} is an environment")
    _refuse(config, ("digits",), f"is for MovingDigits, and {config.source} is an environment")
    from collecting.players import Who, collect

    who = Who(names=config.players, shares=config.shares, deterministic=config.deterministic, encoder=config.encoder)
    try:
        return collect(
            config.source,
            options,
            who,
            path=config.store,
            frames=300 if config.debug else config.frames,
            seed=config.seed,
            episode_frames=50 if config.debug else config.episode_frames,
            frame_size=config.frame_size or _FRAME_SIZE,
            resize=config.resize,
            split=config.split,
            val=config.val,
            test=config.test,
            beside=config.record,
            append=config.append,
        )
    except UserError as error:
        if not str(error).startswith("unknown environment"):
            raise
        raise UserError(f"--source {config.source}: no file or folder of that name, and {error}") from error


def _drawn(config: Build) -> "BuildSummary":
    _refuse(config, _FOR_RECORDINGS, f"is for recordings, and {config.source} are drawn")
    _refuse(config, ("frame_size", "resize"), f"is for recordings and environments, and {config.source} are drawn in their own size")
    _refuse(config, ("append",), f"is for recordings and environments, and {config.source} are drawn as a store of their own")
    _refuse(config, _FOR_PLAYERS, f"is for environments, and {config.source} are drawn")
    from frames.scenes.building import MOVING_DIGITS, build_moving_digits, build_scenes

    if config.source == MOVING_DIGITS:
        build: Callable[..., BuildSummary] = partial(build_moving_digits, digits=config.digits)
    else:
        _refuse(config, ("digits",), f"is for {MOVING_DIGITS}")
        build = partial(build_scenes, config.source)
    return build(
        config.store,
        frames=300 if config.debug else config.frames,
        seed=config.seed,
        episode_frames=50 if config.debug else config.episode_frames,
        split=config.split,
        val=config.val,
        test=config.test,
    )


def _refuse(config: Build, options: Sequence[str], why: str) -> None:
    for name in options:
        if getattr(config, name) != getattr(Build, name):
            raise UserError(f"--{name.replace('_', '-')} {why}: leave it out")
