"""Frame stores: recordings and rollouts in, frames, clips and batches out."""

from frames.building import BuildSummary, build_store
from frames.format import Episode
from frames.store import FrameStore

__all__ = ["BuildSummary", "Episode", "FrameStore", "build_store"]
