"""Recorded action vectors clustered into a few: a discrete set of actions for environments whose actions are obfuscated vectors."""

import hashlib
import zipfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from foundation.errors import UserError
from foundation.files import atomic_write
from foundation.progress import say
from frames.store import FrameStore

VECTOR = "action.vector"
_MOST_VECTORS = 20_000
_RESTARTS = 4
_MOST_ROUNDS = 100


@dataclass(frozen=True)
class ActionCentres:
    """Recorded actions that stand for all others: `vectors` float32 (K, D), the commonest first, and their hash."""

    vectors: np.ndarray

    @property
    def sha256(self) -> str:
        """Return what names exactly these actions in this order."""
        return hashlib.sha256(np.ascontiguousarray(self.vectors, "<f4").tobytes()).hexdigest()


def action_centres(store: str | Path, count: int, seed: int = 0) -> ActionCentres:
    """Return `count` recorded actions, one for each cluster that k-means finds among the store's action vectors.

    Training recordings only, at most 20,000 vectors of them. Each centre is the recorded vector nearest to its cluster's mean, so that it
    is an action somebody took. The result is kept beside the store, by the store's identity, count and seed, and read the next time.
    Raises `UserError` where the store has no action vectors, or fewer distinct ones than `count`.
    """
    if count < 2:
        raise UserError(f"{count} actions: an agent needs at least 2 to choose from")
    opened = FrameStore(store)
    path = _kept_at(opened, count, seed, opened.identity)
    known = _read(path, count)
    if known is not None:
        return known
    recorded = recorded_vectors(opened)
    # kept before there were identities, by the frames alone, for agents that go on only with exactly these
    known = _read(_kept_at(opened, count, seed, opened.fingerprint), count)
    if known is not None and {one.tobytes() for one in known.vectors} <= {one.tobytes() for one in recorded}:
        return known
    say(f"finding {count} actions that stand for those recorded in {opened.path}")
    centres = cluster(recorded, count, seed, str(store))
    try:
        with atomic_write(path) as file:
            np.savez(file, vectors=centres.vectors)
    except UserError as error:
        say(f"the {count} actions are not kept for the next time: {error}")
    return centres


def recorded_vectors(store: FrameStore) -> np.ndarray:
    """Return action vectors float32 (N, D) of the training recordings, evenly spaced where there are more than 20,000."""
    episodes = [episode for episode in store.of_split("train") if VECTOR in episode.arrays and episode.length > 1]
    if not episodes:
        kept = ", ".join(store.action_names or ()) or "none"
        raise UserError(
            f"{store.path}: has no '{VECTOR}' (its actions: {kept}); build a store from recordings of a VectorObf environment, "
            "such as the folder MineRLTreechopVectorObf-v0 of MineRL's data"
        )
    total = sum(len(store.array(episode, VECTOR)) for episode in episodes)
    every = -(-total // _MOST_VECTORS)
    vectors = np.concatenate([store.array(episode, VECTOR)[::every] for episode in episodes])
    if vectors.ndim != 2 or vectors.dtype.kind != "f":
        raise UserError(f"{store.path}: '{VECTOR}' is {vectors.dtype} {vectors.shape[1:]} an action, no vector of numbers")
    return vectors.astype(np.float32)


def cluster(vectors: np.ndarray, count: int, seed: int, where: str = "the store") -> ActionCentres:
    """Cluster vectors float32 (N, D) with k-means, the best of four starts by k-means++ (Arthur and Vassilvitskii 2007)."""
    if not np.isfinite(vectors).all():
        raise UserError(f"{where}: an action vector holds a value that is no number; verify the recordings")
    points, weights = np.unique(vectors, axis=0, return_counts=True)
    if len(points) < count:
        raise UserError(f"{where}: {count} actions were asked for, but it has {len(points)} distinct ones: ask for at most so many")
    random = np.random.default_rng(seed)
    runs = [_lloyd(points, weights, _first_means(points, weights, count, random)) for _ in range(_RESTARTS)]
    means, owner, _ = min(runs, key=lambda run: run[2])
    chosen = [members[np.argmin(_distances(points[members], means[index : index + 1])[:, 0])] for index, members in _members(owner, count)]
    sizes = np.bincount(owner, weights, count)
    return ActionCentres(points[np.array(chosen)][np.argsort(-sizes, kind="stable")])


def _first_means(points: np.ndarray, weights: np.ndarray, count: int, random: np.random.Generator) -> np.ndarray:
    """Draw first means far apart: each next one by its squared distance from those before."""
    chosen = [int(random.choice(len(points), p=weights / weights.sum()))]
    nearest = _distances(points, points[chosen])[:, 0]
    while len(chosen) < count:
        # none twice, however small the distances are
        nearest[chosen] = 0
        odds = weights * nearest
        left = np.setdiff1d(np.arange(len(points)), chosen)
        chosen.append(int(random.choice(len(points), p=odds / odds.sum()) if odds.sum() > 0 else left[0]))
        nearest = np.minimum(nearest, _distances(points, points[chosen[-1:]])[:, 0])
    return points[chosen].astype(np.float64)


def _lloyd(points: np.ndarray, weights: np.ndarray, means: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Move means float64 (K, D) until no point changes its owner; return them, the owners int (N,) and the squared error."""
    count = len(means)
    owner = np.full(len(points), -1)
    for _ in range(_MOST_ROUNDS):
        distances = _distances(points, means)
        before, owner = owner, _without_empty(distances.argmin(1), distances, count)
        if np.array_equal(before, owner):
            break
        sizes = np.bincount(owner, weights, count)
        sums = [np.bincount(owner, weights * column, count) for column in points.T]
        means = np.stack(sums, axis=1) / sizes[:, None]
    error = float((_distances(points, means)[np.arange(len(points)), owner] * weights).sum())
    return means, owner, error


def _without_empty(owner: np.ndarray, distances: np.ndarray, count: int) -> np.ndarray:
    """Give each cluster without a point the point that lies worst where it is, of a cluster that keeps another."""
    owner = owner.copy()
    for empty in np.setdiff1d(np.arange(count), owner):
        spare = np.bincount(owner, minlength=count)[owner] > 1
        own = np.where(spare, distances[np.arange(len(owner)), owner], -1.0)
        owner[own.argmax()] = empty
    return owner


def _members(owner: np.ndarray, count: int) -> list[tuple[int, np.ndarray]]:
    return [(index, np.flatnonzero(owner == index)) for index in range(count)]


def _distances(points: np.ndarray, means: np.ndarray) -> np.ndarray:
    """Return squared distances float64 (N, K)."""
    points, means = points.astype(np.float64), means.astype(np.float64)
    squares = (points**2).sum(1)[:, None] - 2 * points @ means.T + (means**2).sum(1)
    return np.maximum(squares, 0)


def _kept_at(store: FrameStore, count: int, seed: int, digest: str) -> Path:
    return store.path.with_name(f"{store.path.name}.actions-{count}-{seed}-{digest[:12]}.npz")


def _read(path: Path, count: int) -> ActionCentres | None:
    """Return what was kept, or None where there is nothing sound."""
    with suppress(OSError, KeyError, ValueError, EOFError, zipfile.BadZipFile):
        with np.load(path, allow_pickle=False) as content:
            vectors = content["vectors"]
        if vectors.dtype == np.float32 and vectors.ndim == 2 and len(vectors) == count and np.isfinite(vectors).all():
            return ActionCentres(vectors)
    return None
