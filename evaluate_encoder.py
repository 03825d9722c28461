"""An encoder + a frame store -> numbers, pictures, a verdict: python evaluate_encoder.py RUN --store STORE"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import torch
import tyro
from rich.console import Console
from rich.table import Table

import frames
from encoders import EncoderArtifact, load_encoder
from encoders.training.devices import available_threads, check_threads, choose_device
from encoders.training.evaluation import evaluate, mean_frame
from encoders.training.pictures import spread_clips, write_pictures
from foundation.command import run
from foundation.errors import UserError
from foundation.files import write_atomically
from foundation.presets import parse
from foundation.progress import progress_bar, say

_BATCH = 32
_CHUNK = 2048
_PICTURED = 256


@dataclass(frozen=True)
class Options:
    run: Annotated[Path, tyro.conf.Positional]
    """The encoder's folder."""
    store: Path
    """The frame store to judge it on."""
    split: Literal["auto", "train", "val", "test"] = "auto"
    """Recordings to judge it on; auto: `test`, or `val` where there is no `test`."""
    limit: int | None = None
    """Judge on this many frames, spread over the split, rather than all."""
    device: str = "auto"
    threads: int | None = None


def main() -> None:
    options = parse(Options, "Judge an encoder on recordings it has not seen, beside the mean training frame.")
    check_threads(options.threads)
    if options.limit is not None and options.limit < 1:
        raise UserError(f"--limit {options.limit}: must be 1 or more")
    torch.set_num_threads(options.threads or available_threads())
    device = choose_device(options.device)
    artifact = load_encoder(options.run)
    store = frames.FrameStore(options.store)
    if tuple(store.frame_shape) != tuple(artifact.model.frame_shape):
        raise UserError(f"{options.store}: its frames are {store.frame_shape}, the encoder takes {artifact.model.frame_shape}")
    split = options.split if options.split != "auto" else "test" if len(store.indices("test")) else "val"
    baseline_store = training_store(artifact, store)
    report = {"split": split, "store": str(options.store), "fingerprint": store.fingerprint, "baseline_store": str(baseline_store.path)}
    report |= evaluate(artifact, counted(store, split, artifact, options.limit), mean_frame(chunks(baseline_store)), device)
    clips = spread_clips(frames.in_order(store, split, _BATCH, artifact.model.clip_length, _PICTURED))
    pictures = write_pictures(options.run / "pictures", artifact.model, clips, artifact.statistics, device)
    write_atomically(options.run / "evaluation.json", json.dumps(report, indent=2) + "\n")
    show(report)
    say(f"wrote {options.run / 'evaluation.json'} and {', '.join(str(path) for path in pictures)}")
    say(f"next: python train_agent.py voxel_treechop --encoder {options.run} --run RUN2")


def training_store(artifact: EncoderArtifact, store: frames.FrameStore) -> frames.FrameStore:
    """Open the store that the encoder was trained on, if it is still there with the same content; else return `store`."""
    reference = artifact.info.store
    if store.fingerprint == reference.fingerprint:
        return store
    try:
        trained_on = frames.FrameStore(reference.path)
        if trained_on.fingerprint == reference.fingerprint:
            return trained_on
    except UserError:
        pass
    say(f"{reference.path}: the training store is not there any more; the mean training frame is taken from {store.path}")
    return store


def chunks(store: frames.FrameStore) -> Iterator[np.ndarray]:
    indices = store.indices("train")
    return (store.frames(indices[start : start + _CHUNK]) for start in range(0, len(indices), _CHUNK))


def counted(store: frames.FrameStore, split: str, artifact: EncoderArtifact, limit: int | None) -> Iterator[frames.FrameBatch]:
    clip_length = artifact.model.clip_length
    total = min(len(store.indices(split)), (limit or len(store)) * clip_length)
    with progress_bar(f"evaluating on {split}", total, "frames") as advance:
        for batch in frames.in_order(store, split, _BATCH, clip_length, limit):
            yield batch
            advance(len(batch.frames) * clip_length)


def show(report: dict) -> None:
    """Print the report as a table and its verdict."""
    table = Table(title=f"{report['frames']:,} frames of split '{report['split']}'")
    for column in ("", "PSNR (pooled)", "SSIM"):
        table.add_column(column, justify="left" if not column else "right")
    for row in ("reconstruction", "mean_training_frame"):
        table.add_row(row.replace("_", " "), f"{report[row]['psnr_db']:.2f} dB", f"{report[row]['ssim']:.3f}")
    Console().print(table)
    print(report["verdict"])


if __name__ == "__main__":
    run(main)
