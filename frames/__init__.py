"""Frame stores: recordings and rollouts in, frames, clips and batches out."""

from frames.batches import FrameBatch, FrameBatches, in_order, sample_frames, sample_sequences, side_by_side
from frames.building.build import BuildSummary, build_store
from frames.players import WanderingPlayer, wanders_in
from frames.rates import Strides
from frames.resize import resize_frames
from frames.rollouts import Player, RandomPlayer, record
from frames.storage.format import Episode
from frames.store import FrameStore

__all__ = [
    "BuildSummary",
    "Episode",
    "FrameBatch",
    "FrameBatches",
    "FrameStore",
    "Player",
    "RandomPlayer",
    "Strides",
    "WanderingPlayer",
    "build_store",
    "in_order",
    "record",
    "resize_frames",
    "sample_frames",
    "sample_sequences",
    "side_by_side",
    "wanders_in",
]
