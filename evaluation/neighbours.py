"""Whether a model repeats its training frames: how near samples lie to the nearest of them, beside held-out frames.

Shapes: Q queries, N frames, K neighbours, H height, W width, C channels, D = H*W*C.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from foundation.pictures import picture_grid

_NEIGHBOURS = 9
_PICTURED = (6, 2)
_SCALE = 2


@dataclass(frozen=True)
class Neighbours:
    """The training frames nearest to every query, nearest first."""

    queries: np.ndarray
    """uint8 (Q, H, W, C)."""
    frames: np.ndarray
    """uint8 (Q, K, H, W, C)."""
    distances: np.ndarray
    """Root mean square difference of pixels in grey levels, 0 to 255, float64 (Q, K)."""

    def __getitem__(self, rows: slice) -> "Neighbours":
        return Neighbours(self.queries[rows], self.frames[rows], self.distances[rows])

    def summary(self) -> dict[str, float]:
        nearest = self.distances[:, 0]
        return {"median": float(np.median(nearest)), "smallest": float(nearest.min())}


def nearest_frames(queries: np.ndarray, chunks: Iterable[np.ndarray], count: int = _NEIGHBOURS) -> Neighbours:
    """Find the `count` frames nearest to each of `queries` uint8 (Q, H, W, C) among chunks of frames uint8 (N, H, W, C)."""
    kept = np.zeros((len(queries), 0, *queries.shape[1:]), np.uint8)
    distances = np.zeros((len(queries), 0))
    wanted_QD = _centred(queries)
    for chunk in chunks:
        # candidates by a product in float32, their distances by exact differences
        x_ND = _centred(chunk)
        rough_QN = x_ND.square().sum(1) - 2 * wanted_QD @ x_ND.T
        candidates = chunk[rough_QN.topk(min(count, len(chunk)), largest=False).indices.numpy()]
        kept = np.concatenate([kept, candidates], 1)
        distances = np.concatenate([distances, _distances(queries, candidates)], 1)
        order = np.argsort(distances, 1, kind="stable")[:, :count]
        rows = np.arange(len(queries))[:, None]
        kept, distances = kept[rows, order], distances[rows, order]
    return Neighbours(queries, kept, distances)


def memorisation_report(samples: Neighbours, held_out: Neighbours, searched: int) -> dict[str, Any]:
    """Return what `evaluation.json` holds: distances of samples and of held-out frames to the nearest training frame, and a sentence."""
    ours, theirs = samples.summary(), held_out.summary()
    verdict = (
        f"Of {searched:,} training frames the nearest is {ours['median']:.1f} grey levels (median; least {ours['smallest']:.1f}) from a "
        f"sample, and {theirs['median']:.1f} (least {theirs['smallest']:.1f}) from a held-out frame. "
        + (_NO_NEARER if ours["median"] >= theirs["median"] else _NEARER)
    )
    return {"searched_training_frames": searched, "samples": ours, "held_out_frames": theirs, "verdict": verdict}


_NO_NEARER = "Samples are no nearer: no sign of memorisation."
_NEARER = "Samples are nearer: look whether nearest_frames.png shows copies of training frames, or only smooth pictures."


def neighbours_picture(samples: Neighbours, held_out: Neighbours) -> np.ndarray:
    """Return a picture with a row for each of some samples, and then held-out frames: itself, then the nearest training frames."""
    rows, labels = [], []
    for name, found, shown in zip(("sample", "held-out frame"), (samples, held_out), _PICTURED, strict=True):
        for index in range(min(shown, len(found.queries))):
            rows.append(np.concatenate([found.queries[index][None], found.frames[index]]))
            distances = ", ".join(f"{distance:.1f}" for distance in found.distances[index])
            labels.append(f"{name} {index + 1}, then the training frames nearest to it, {distances} grey levels away (root mean square)")
    return picture_grid(rows, labels, scale=_SCALE)


def _centred(frames: np.ndarray) -> Tensor:
    return torch.from_numpy(frames.reshape(len(frames), -1)).float() - 127.5


def _distances(queries: np.ndarray, candidates: np.ndarray) -> np.ndarray:
    difference = queries[:, None].astype(np.int32) - candidates
    return np.sqrt(np.square(difference).mean((2, 3, 4)))
