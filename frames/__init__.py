"""Frame stores: recordings and rollouts in, frames, clips and batches out."""

from typing import TYPE_CHECKING

from foundation.lazy import imports_on_demand

if TYPE_CHECKING:
    from frames.batches import FrameBatch as FrameBatch
    from frames.batches import FrameBatches as FrameBatches
    from frames.batches import in_order as in_order
    from frames.batches import sample_frames as sample_frames
    from frames.batches import sample_sequences as sample_sequences
    from frames.batches import side_by_side as side_by_side
    from frames.building.build import BuildSummary as BuildSummary
    from frames.building.build import build_store as build_store
    from frames.labels import Labels as Labels
    from frames.labels import action_columns_described as action_columns_described
    from frames.labels import state_names as state_names
    from frames.players import WanderingPlayer as WanderingPlayer
    from frames.players import wanders_in as wanders_in
    from frames.rates import Strides as Strides
    from frames.resize import resize_frames as resize_frames
    from frames.rollouts import Player as Player
    from frames.rollouts import RandomPlayer as RandomPlayer
    from frames.rollouts import record as record
    from frames.storage.format import Episode as Episode
    from frames.store import FrameStore as FrameStore

_HOME = {
    "BuildSummary": "building.build",
    "Episode": "storage.format",
    "FrameBatch": "batches",
    "FrameBatches": "batches",
    "FrameStore": "store",
    "Labels": "labels",
    "Player": "rollouts",
    "RandomPlayer": "rollouts",
    "Strides": "rates",
    "WanderingPlayer": "players",
    "action_columns_described": "labels",
    "build_store": "building.build",
    "in_order": "batches",
    "record": "rollouts",
    "resize_frames": "resize",
    "sample_frames": "batches",
    "sample_sequences": "batches",
    "side_by_side": "batches",
    "state_names": "labels",
    "wanders_in": "players",
}
__all__ = list(_HOME)
__getattr__ = imports_on_demand("frames", _HOME)
