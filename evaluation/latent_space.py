"""Held-out frames as an agent sees them: their latents, which recording each is from, and what is to be earned after it.

Shapes: M frames, Q queries, D latents, P = H*W*C numbers of a frame.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from evaluation.evaluation import Evaluation
from evaluation.rivals import latents_of
from evaluation.sampled import halves, sampled
from foundation.errors import UserError
from frames import FrameStore
from frames.labels import Labels


@dataclass(frozen=True)
class LatentSpace:
    """Frames by global index (M,), their standardised latents float32 (M, D), and the numbers of their recordings (M,)."""

    store: FrameStore
    indices: np.ndarray
    latents: np.ndarray
    recordings: np.ndarray

    @cached_property
    def to_come(self) -> np.ndarray | None:
        """The reward to come (M,), NaN where it is not known; None for a store without rewards."""
        try:
            return Labels(self.store, {"reward_to_come": {}}).at(self.indices)["reward_to_come"][:, 0]
        except UserError:
            return None

    @cached_property
    def frames(self) -> np.ndarray:
        """The frames, uint8 (M, H, W, C)."""
        return self.store.frames(self.indices)


def latent_space(out: Evaluation, count: int) -> LatentSpace:
    """Read the default reading of about `count` frames, spread over the recordings of the split, or of the store where it has one."""
    shared, artifact, store = halves(out.store, out.split), out.artifact, out.store
    parts = [sampled(store, half, artifact.model, out.stride(store), count // 2) for half in (shared.first, shared.second)]
    with out.progress("reading frames", sum(len(part.indices) for part in parts), "frames") as advance:
        latents = np.concatenate([latents_of(artifact.model, part, out.device, advance) for part in parts])
    mean, deviation = (one.flatten().numpy() for one in artifact.statistics[artifact.model.reading(None)][:2])
    numbers = {episode.first: number for number, episode in enumerate(store.episodes)}
    indices = np.concatenate([part.indices for part in parts])
    recordings = np.array([numbers[store.episode_at(index).first] for index in indices.tolist()])
    return LatentSpace(store, indices, (latents - mean) / deviation, recordings)


def nearest_elsewhere(vectors: np.ndarray, recordings: np.ndarray, queries: np.ndarray, count: int) -> np.ndarray:
    """Return the rows of the `count` vectors (M, D) nearest to each query, nearest first, of other recordings: int64 (Q, count)."""
    x_MD = torch.from_numpy(np.ascontiguousarray(vectors.reshape(len(vectors), -1))).float()
    x_MD = x_MD - x_MD.mean(0)
    distances_QM = torch.cdist(x_MD[queries], x_MD).numpy()
    distances_QM[recordings[queries][:, None] == recordings[None]] = np.inf
    return np.argsort(distances_QM, 1, kind="stable")[:, :count]


def k_means(x_MD: np.ndarray, count: int, seed: int = 0, iterations: int = 100) -> tuple[np.ndarray, np.ndarray]:
    """Return the cluster of every row (M,) and the centres (K, D): Lloyd's algorithm from k-means++ (Arthur and Vassilvitskii 2007)."""
    random = np.random.default_rng(seed)
    x = torch.from_numpy(np.ascontiguousarray(x_MD)).double()
    centres = x[[int(random.integers(len(x)))]]
    while len(centres) < count:
        nearest = torch.cdist(x, centres).min(1).values.square().numpy()
        if nearest.sum() == 0:
            break
        centres = torch.cat([centres, x[[int(random.choice(len(x), p=nearest / nearest.sum()))]]])
    cluster = torch.cdist(x, centres).argmin(1)
    for _ in range(iterations):
        sums = torch.zeros_like(centres).index_add_(0, cluster, x)
        sizes = torch.bincount(cluster, minlength=len(centres))
        centres = torch.where(sizes[:, None] > 0, sums / sizes.clamp_min(1)[:, None], centres)
        following = torch.cdist(x, centres).argmin(1)
        if torch.equal(following, cluster):
            break
        cluster = following
    return cluster.numpy(), centres.numpy()
