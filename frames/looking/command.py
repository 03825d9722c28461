"""The parts of `make_frames.py` that look at a finished store: inspect, verify, export."""

import json
import math
import os
import time
from pathlib import Path

from foundation.errors import UserError
from foundation.files import write_atomically
from frames.looking.exporting import export
from frames.looking.figures import store_figures
from frames.looking.inspecting import contact_sheet, verify
from frames.looking.next_steps import next_commands, with_next
from frames.looking.options import Export, Inspect, Verify
from frames.looking.tables import console, left_out_lines, print_line, store_tables
from frames.storage.format import LeftOut
from frames.store import FrameStore


def inspect(config: Inspect) -> int:
    """Print what a store holds and draw its contact sheet."""
    if config.episodes < 0:
        raise UserError(f"--episodes {config.episodes}: must be 0 or more")
    store = FrameStore(config.store)
    figures = store_figures(store, config.episodes)
    height, width, _ = store.frame_shape
    print_line(f"{store.path}: {len(store):,} frames of {height}x{width} ({store.meta['resize']}), {store.frames_per_second:g} frames/s")
    print_line(f"fingerprint {store.fingerprint}")
    plans = [store.meta["plan"], *store.meta["appended"]]
    print_line(f"made from {', '.join(dict.fromkeys(plan['source'] for plan in plans))}")
    for table in store_tables(figures):
        console.print()
        console.print(table)
    console.print()
    left_out = [LeftOut(**entry) for entry in store.meta["left_out"]]
    for line in left_out_lines(left_out, store.meta["trimmed"], "--json FILE has them all"):
        print_line(line)
    if config.json is not None:
        write_atomically(config.json, json.dumps(figures, indent=1))
        print_line(f"wrote {config.json}")
    path = Path(os.path.abspath(store.path))
    sheet = config.sheet or path.with_name(path.name + ".png")
    contact_sheet(store, sheet)
    print_line(f"wrote {sheet}")
    _print_next(store)
    return 0


def check(config: Verify) -> int:
    """Compare all that a store holds with its hashes; raise `UserError` once every fault is listed."""
    store, began = FrameStore(config.store), time.monotonic()
    damaged = verify(store)
    for name, reason in damaged:
        print_line(f"damaged: {name}: {reason}")
    if damaged:
        raise UserError(f"{store.path}: {len(damaged)} faults; copy the store again or build it again")
    read, seconds = len(store) * math.prod(store.frame_shape) / 1e9, time.monotonic() - began
    print_line(f"{store.path}: {len(store):,} frames of {len(store.episodes):,} episodes are what was written")
    print_line(f"read {read:.2f} GB of frames in {seconds:.1f} s, {read / seconds:.2f} GB/s")
    _print_next(store)
    return 0


def _print_next(store: FrameStore) -> None:
    for line in with_next(*next_commands(store)):
        print_line(line)


def cut(config: Export) -> int:
    """Write a part of one episode to a file."""
    store = FrameStore(config.store)
    written = export(store, config.episode, config.out, start=config.start, frames=config.frames, scale=config.scale)
    print_line(f"wrote {config.out}: {written}")
    return 0
