"""What lies side by side: frames with those of other recordings nearest to them in latents, and in pixels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import encoders
from evaluation.judge import Judge, Numbers, at_least

if TYPE_CHECKING:
    import numpy as np

    from evaluation.evaluation import Evaluation
    from evaluation.latent_space import LatentSpace
    from frames import FrameStore

_SHOWN = 10
_NEIGHBOURS = 5
_SCALE = 2


@dataclass(frozen=True)
class NeighboursOptions:
    frames: int = 2000
    """Frames to search, spread over the recordings."""
    queries: int = 200
    """Of them, those whose neighbours are searched for; ten are shown."""

    def __post_init__(self) -> None:
        at_least("neighbours", self, frames=2, queries=1)


class Neighbours(Judge):
    """Frames beside their nearest ones of other recordings, in latents and in pixels; with rewards, how much theirs to come differ."""

    name = "neighbours"
    Options = NeighboursOptions

    def applies(self, model: encoders.Encoder, store: FrameStore) -> str | None:
        from evaluation.sampled import lacks_recordings

        return lacks_recordings(store)

    def judge(self, artifact: encoders.EncoderArtifact, store: FrameStore, options: NeighboursOptions, out: Evaluation) -> Numbers:
        import numpy as np

        from evaluation.latent_space import latent_space, nearest_elsewhere

        space = latent_space(out, options.frames)
        count = min(options.queries, len(space.indices))
        queries = np.linspace(0, len(space.indices) - 1, count).round().astype(int)
        vectors = {"latents": space.latents, "pixels": space.frames}
        found = {name: nearest_elsewhere(one, space.recordings, queries, _NEIGHBOURS) for name, one in vectors.items()}
        shown = np.linspace(0, count - 1, min(_SHOWN, count)).round().astype(int)
        out.picture("neighbours", _picture(space, queries[shown], {name: rows[shown] for name, rows in found.items()}))
        return _differences(space, queries, found, out)


def _picture(space: LatentSpace, queries: np.ndarray, found: dict[str, np.ndarray]) -> np.ndarray:
    import numpy as np

    from foundation.pictures import picture_grid

    gap = np.full((1, *space.store.frame_shape), 255, np.uint8)
    rows = [
        np.concatenate([space.frames[[query]], *(part for near in found.values() for part in (gap, space.frames[near[number]]))])
        for number, query in enumerate(queries)
    ]
    names = [space.store.episode_at(int(space.indices[query])).name for query in queries]
    labels = [f"a frame of '{name}'; of other recordings the nearest to it in latents; and in pixels" for name in names]
    return picture_grid(rows, labels, _SCALE)


def _differences(space: LatentSpace, queries: np.ndarray, found: dict[str, np.ndarray], out: Evaluation) -> dict[str, Any]:
    """Return how much the reward to come differs between frames and their nearest, beside any two frames; {} without rewards."""
    import numpy as np

    if space.to_come is None or np.isnan(space.to_come).all():
        return {}
    to_come, random = space.to_come, np.random.default_rng(0)
    nearest = {name: rows[:, 0] for name, rows in found.items()} | {"any_frame": random.integers(0, len(to_come), len(queries))}
    gaps = {name: float(np.nanmean(np.abs(to_come[queries] - to_come[rows]))) for name, rows in nearest.items()}
    rows = [(name.replace("_", " "), f"{gap:.3f}") for name, gap in gaps.items()]
    title = f"Difference in reward to come of {len(queries):,} frames and the nearest of another recording"
    out.table(title, ("nearest in", "mean difference"), rows)
    return {"queries": len(queries), "searched": len(space.indices), "difference_in_reward_to_come": gaps}
