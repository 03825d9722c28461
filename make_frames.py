"""Make frame stores and look at them: recordings or rollouts in, one folder of frames out."""

import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

import frames
from foundation.command import run
from foundation.errors import UserError
from foundation.presets import parse
from frames.format import SPLITS
from frames.inspecting import contact_sheet, look, verify
from frames.resize import ResizeMode

_NOISES = (0.2, 0.6)
_ENVIRONMENT_ID = re.compile(r"([\w.-]+/)?[\w.-]+-v\d+")

# piped into a file or a program, lines keep their length
console = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 200)


@dataclass(frozen=True, kw_only=True)
class Build:
    """Build a store from a folder of recordings, or from an environment that is played."""

    source: str
    """A folder of MineRL recordings, videos or pictures, a single video, or an environment's id (VoxelTreechop-v0)."""
    store: Path
    """The store to write."""
    frame_size: tuple[int, int] = (64, 64)
    """Height and width that frames are resized to."""
    resize: ResizeMode = "squash"
    """squash changes the aspect ratio, crop cuts the centre."""
    split: Literal["by-recording", "train", "val", "test"] = "by-recording"
    """Put everything into one split, or draw a split for each recording."""
    val: float = 0.1
    """Share of the recordings to validate on."""
    test: float = 0.0
    """Share of the recordings to test on."""
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
    episodes: int = 20
    """How many episodes to list."""


@dataclass(frozen=True, kw_only=True)
class Verify:
    """Read every frame of a store and compare it with the hash it was written with."""

    store: Path
    """The store to check."""


def main() -> int:
    command = parse(Build | Inspect | Verify, __doc__ or "")
    if isinstance(command, Build):
        return build(command)
    return inspect(command) if isinstance(command, Inspect) else check(command)


def build(config: Build) -> int:
    environment = not Path(config.source).exists() and _ENVIRONMENT_ID.fullmatch(config.source)
    summary = _from_environment(config) if environment else _from_recordings(config)
    for entry in summary.left_out:
        console.print(f"left out: {_printable(entry.name)}: {entry.reason}", markup=False)
    if summary.finished_before:
        held = f"{summary.frames:,} frames of {summary.episodes} episodes"
        console.print(f"{summary.path} was finished before: {held}; nothing to do", markup=False)
        if summary.left_out:
            console.print("to try again what was left out, build into another store path")
    else:
        kept = f" ({summary.kept} from an earlier run)" if summary.kept else ""
        held = f"{summary.frames:,} frames of {summary.episodes} episodes{kept}"
        console.print(f"wrote {summary.path}: {held} in {summary.seconds:.0f} s", markup=False)
    console.print(f"next: python make_frames.py inspect --store {summary.path}", markup=False)
    console.print(f"      python train_encoder.py conv_vae_small --store {summary.path} --run RUN", markup=False)
    return summary.status


def _from_recordings(config: Build) -> frames.BuildSummary:
    return frames.build_store(
        config.source,
        config.store,
        frame_size=config.frame_size,
        resize=config.resize,
        split=config.split,
        val=config.val,
        test=config.test,
        limit=3 if config.debug else None,
    )


def _from_environment(config: Build) -> frames.BuildSummary:
    """Record three players in turn: two scripted ones, a steady and a wayward one, and a random one, or that alone."""
    # here, for its compiled code takes a second to load
    import envs

    players: list[frames.Player | None] = [None]
    if config.source.startswith("Voxel"):
        players = [*(envs.scripted_player(config.source, noise=noise) for noise in _NOISES), None]
    return frames.record(
        lambda: envs.make_env(config.source),
        players,
        config.store,
        frames=300 if config.debug else config.frames,
        seed=config.seed,
        name=config.source,
        episode_frames=50 if config.debug else config.episode_frames,
        frame_size=config.frame_size,
        resize=config.resize,
        split=config.split,
        val=config.val,
        test=config.test,
    )


def inspect(config: Inspect) -> int:
    store = frames.FrameStore(config.store)
    height, width, _ = store.frame_shape
    resized = f"{height}x{width} ({store.meta['resize']})"
    console.print(f"{store.path}: {len(store):,} frames of {resized}, {store.frames_per_second:g} frames/s", markup=False)
    console.print(f"fingerprint {store.fingerprint}")
    console.print(f"made from {_printable(str(store.meta['plan']['source']))}", markup=False)
    if store.action_names:
        console.print(f"actions ({store.action_size} numbers): {', '.join(store.action_names)}", markup=False)
    console.print(_split_table(store))
    console.print(_episode_table(store, config.episodes))
    for entry in store.meta["left_out"]:
        console.print(f"left out: {_printable(entry['name'])}: {entry['reason']}", markup=False)
    path = Path(os.path.abspath(store.path))
    sheet = config.sheet or path.with_name(path.name + ".png")
    contact_sheet(store, sheet)
    console.print(f"wrote {sheet}", markup=False)
    console.print(f"next: python train_encoder.py conv_vae_small --store {store.path} --run RUN", markup=False)
    return 0


def check(config: Verify) -> int:
    store = frames.FrameStore(config.store)
    damaged = verify(store)
    for name, reason in damaged:
        console.print(f"damaged: {_printable(name)}: {reason}", markup=False)
    if damaged:
        raise UserError(f"{store.path}: {len(damaged)} faults; copy the store again or build it again")
    console.print(f"{store.path}: {len(store):,} frames of {len(store.episodes)} episodes are what was written", markup=False)
    console.print(f"next: python train_encoder.py conv_vae_small --store {store.path} --run RUN", markup=False)
    return 0


def _split_table(store: frames.FrameStore) -> Table:
    table = Table("split", *(_right(name) for name in ("episodes", "frames", "minutes", "brightness", "dark", "frozen")), box=None)
    for split in SPLITS:
        episodes = store.of_split(split)
        if episodes:
            seen = look(store, episodes)
            count = sum(episode.length for episode in episodes)
            minutes = sum(episode.length / episode.frames_per_second for episode in episodes if episode.ordered) / 60
            shares = (f"{seen.brightness:.0f}", f"{seen.dark:.1%}", f"{seen.frozen:.1%}")
            table.add_row(split, f"{len(episodes):,}", f"{count:,}", f"{minutes:.1f}", *shares)
    return table


def _episode_table(store: frames.FrameStore, most: int) -> Table:
    """List the longest episodes: first a reader sees what the store mostly holds."""
    figures = ("frames", "frames/s", "brightness", "dark", "frozen")
    table = Table("episode", "split", *(_right(name) for name in figures), "arrays", box=None)
    for episode in sorted(store.episodes, key=lambda episode: -episode.length)[:most]:
        seen = look(store, [episode], sample=256)
        shares = (f"{seen.brightness:.0f}", f"{seen.dark:.0%}", f"{seen.frozen:.0%}")
        kinds = sorted({name.split(".")[0] for name in episode.arrays})
        name, held = escape(_printable(episode.name)), ", ".join(kinds) or "none"
        table.add_row(name, episode.split, f"{episode.length:,}", f"{episode.frames_per_second:g}", *shares, held)
    if len(store.episodes) > most:
        table.caption = f"the longest {most} of {len(store.episodes):,}; --episodes shows more"
        table.caption_justify = "left"
    return table


def _right(name: str) -> Column:
    return Column(name, justify="right")


def _printable(name: str) -> str:
    """File names may hold bytes that are no text."""
    return name.encode("utf-8", "replace").decode()


if __name__ == "__main__":
    run(main)
