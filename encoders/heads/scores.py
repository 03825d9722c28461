"""How good heads are on held-out recordings, in numbers that compare across runs.

Shapes: N frames, K columns of a prediction.
"""

from collections.abc import Sequence

import numpy as np
from torch import Tensor


def summarised(name: str, pairs: Sequence[tuple[Tensor, Tensor]]) -> float:
    """Return the score that a name ends in, of predictions and truths (N, K), the mean of the columns that have one; else NaN."""
    predictions, truths = (np.concatenate([pair[which].float().cpu().numpy() for pair in pairs]) for which in (0, 1))
    score = {"auc": area_under_curve, "r2": explained, "accuracy": lambda predicted, truth: float(predicted.mean())}[name.rsplit("_", 1)[1]]
    known = ~np.isnan(truths)
    columns = range(truths.shape[1])
    found = [score(predictions[known[:, k], k], truths[known[:, k], k]) if known[:, k].any() else np.nan for k in columns]
    some = [value for value in found if not np.isnan(value)]
    return float(np.mean(some)) if some else float("nan")


def area_under_curve(scores: np.ndarray, truths: np.ndarray) -> float:
    """Return how often a 1 has a higher score than a 0, ties half; NaN where all are the same (Mann and Whitney 1947)."""
    ones = truths > 0.5
    if ones.all() or not ones.any():
        return float("nan")
    _, place, count = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(count) - (count - 1) / 2)[place]
    positive = int(ones.sum())
    return float((ranks[ones].sum() - positive * (positive + 1) / 2) / (positive * (len(ones) - positive)))


def explained(predictions: np.ndarray, truths: np.ndarray) -> float:
    """Return R^2; NaN where the truth never changes."""
    spread = ((truths - truths.mean()) ** 2).mean()
    return float(1 - ((predictions - truths) ** 2).mean() / spread) if spread > 1e-12 else float("nan")
