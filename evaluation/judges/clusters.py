"""What kinds of frames the latents tell apart: k-means, a contact sheet, counts and mean rewards."""

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

_COLUMNS = 10
_SCALE = 2


@dataclass(frozen=True)
class ClustersOptions:
    clusters: int = 12
    """Clusters of k-means."""
    frames: int = 4000
    """Frames to cluster, spread over the recordings."""

    def __post_init__(self) -> None:
        at_least("clusters", self, clusters=1, frames=2)


class Clusters(Judge):
    """k-means of the latents: a row of frames a cluster, from the centre outwards, with its size and its mean reward to come."""

    name = "clusters"
    Options = ClustersOptions

    def applies(self, model: encoders.Encoder, store: FrameStore) -> str | None:
        from evaluation.sampled import lacks_recordings

        return lacks_recordings(store)

    def judge(self, artifact: encoders.EncoderArtifact, store: FrameStore, options: ClustersOptions, out: Evaluation) -> Numbers:
        import numpy as np

        from evaluation.latent_space import k_means, latent_space

        space = latent_space(out, options.frames)
        cluster, centres = k_means(space.latents, min(options.clusters, len(space.indices)))
        distance = np.linalg.norm(space.latents - centres[cluster], axis=1)
        members = [np.flatnonzero(cluster == number) for number in range(len(centres))]
        found = [_described(space, rows[np.argsort(distance[rows], kind="stable")]) for rows in members if len(rows)]
        found.sort(key=lambda one: (-(one["mean_reward_to_come"] or 0), -one["frames"]))
        out.picture("clusters", _picture(space, found))
        kept = ("frames", "recordings", "mean_reward_to_come")
        return {"frames": len(space.indices), "clusters": [{name: one[name] for name in kept} for one in found]}


def _described(space: LatentSpace, rows: np.ndarray) -> dict[str, Any]:
    """Describe a cluster whose frames are `rows`, from the centre outwards."""
    import numpy as np

    to_come = None if space.to_come is None else space.to_come[rows]
    mean = None if to_come is None or np.isnan(to_come).all() else float(np.nanmean(to_come))
    return {"rows": rows, "frames": len(rows), "recordings": len(np.unique(space.recordings[rows])), "mean_reward_to_come": mean}


def _picture(space: LatentSpace, found: list[dict[str, Any]]) -> np.ndarray:
    import numpy as np

    from foundation.pictures import picture_grid

    rows, labels = [], []
    for one in found:
        chosen = one["rows"][np.linspace(0, len(one["rows"]) - 1, min(_COLUMNS, len(one["rows"]))).round().astype(int)]
        rows.append(space.frames[chosen])
        mean = one["mean_reward_to_come"]
        share = one["frames"] / len(space.indices)
        said = f"{one['frames']:,} frames ({share:.0%}) of {one['recordings']} recordings, from the centre outwards"
        labels.append(said if mean is None else f"mean reward to come {mean:.2f}: {said}")
    return picture_grid(rows, labels, _SCALE)
