"""Disentanglement, completeness and informativeness (Eastwood & Williams, 2018), with trees that tell which number says what.

Shapes: N objects, D numbers of a code, F factors.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from foundation.progress import Advance

SPLIT_SEED = 5


@dataclass(frozen=True, eq=False)
class Target:
    """What is to be told from a code: classes, a number, or an angle as its two numbers."""

    name: str
    values: np.ndarray
    """int (N,) classes; or float (N,); or float (N, 2), the cosine and the sine of an angle."""

    @property
    def kind(self) -> str:
        """class, number or angle."""
        return "class" if self.values.dtype.kind == "i" else "number" if self.values.ndim == 1 else "angle"

    @property
    def as_numbers(self) -> np.ndarray:
        """The values as one number each, float64 (N,): a class's number, an angle in radians."""
        return np.arctan2(self.values[:, 1], self.values[:, 0]) if self.kind == "angle" else self.values.astype(np.float64)


@dataclass(frozen=True)
class Told:
    """How well codes tell one target, and by which of their numbers."""

    importance: np.ndarray
    """float (D,), sums to 1 unless nothing says anything."""
    score: float
    """The accuracy of classes, R^2 of numbers, 0 at least."""
    chance: float
    """The share of the class that is most frequent in training; 0 for numbers."""


def judged(codes_ND: np.ndarray, targets: Sequence[Target], images_N: np.ndarray, trees: int, advance: Advance) -> dict[str, Any]:
    """Return D, C and I of codes beside the published way to compute them, and what each target has of that; {} where none varies.

    Trees are fitted on the objects of half of the images and tested on the others. `advance` counts targets, each twice.
    """
    kinds = np.unique(images_N)
    train = np.isin(images_N, np.random.default_rng(SPLIT_SEED).permutation(kinds)[: (len(kinds) + 1) // 2])
    varying = [target for target in targets if all(len(np.unique(target.values[rows], axis=0)) > 1 for rows in (train, ~train))]
    if not varying:
        return {}
    found = {}
    for target in varying:
        found[target.name] = told(codes_ND, target, train, trees)
        advance(1)
    reference = reference_scores(codes_ND, varying, train, trees)
    advance(len(varying))
    return {
        **scores(list(found.values())),
        "factors": {
            target.name: {"kind": target.kind, "informativeness": found[target.name].score, "chance": found[target.name].chance}
            for target in varying
        },
        "left_out": [target.name for target in targets if target not in varying],
        "reference": reference,
    }


def disentanglement(importance_DF: np.ndarray) -> float:
    """Return how far each number of a code tells one factor only, weighted by how much it tells: 1 - entropy over the factors (eq. 1)."""
    weights = importance_DF.sum(1)
    return float(weights @ _certainty(importance_DF) / weights.sum()) if weights.sum() else 0.0


def completeness(importance_DF: np.ndarray) -> float:
    """Return how far each factor is told by one number only, averaged over factors: 1 - entropy over the numbers (eq. 2)."""
    return float(_certainty(importance_DF.T).mean())


def told(codes_ND: np.ndarray, target: Target, train: np.ndarray, trees: int) -> Told:
    """Fit gradient-boosted trees on the rows `train` bool (N,), a classifier for classes, else a regressor, and test on the others."""
    from sklearn.ensemble import GradientBoostingClassifier

    if target.kind != "class":
        return _told_number(codes_ND, target.values, train, trees)
    model = GradientBoostingClassifier(n_estimators=trees, random_state=SPLIT_SEED).fit(codes_ND[train], target.values[train])
    tested = target.values[~train]
    most_frequent = np.bincount(target.values[train]).argmax()
    right = float((model.predict(codes_ND[~train]) == tested).mean())
    return Told(model.feature_importances_, right, float((tested == most_frequent).mean()))


def reference_scores(codes_ND: np.ndarray, targets: Sequence[Target], train: np.ndarray, trees: int) -> dict[str, float]:
    """Return what the figures published with EfficientMORL compute: every factor, classes too, by a regressor, and as informativeness
    how often what it gives is exactly the factor's value."""
    columns = [target.as_numbers for target in targets]
    models = [_regressor(codes_ND, column, train, trees) for column in columns]
    importance = np.stack([model.feature_importances_ for model in models], 1)
    exact = [(model.predict(codes_ND[~train]) == column[~train]).mean() for model, column in zip(models, columns, strict=True)]
    return {
        "disentanglement": disentanglement(importance),
        "completeness": completeness(importance),
        "informativeness": float(np.mean(exact)),
    }


def scores(found: Sequence[Told]) -> dict[str, float]:
    """Return D, C and I of several targets."""
    importance = np.stack([one.importance for one in found], 1)
    return {
        "disentanglement": disentanglement(importance),
        "completeness": completeness(importance),
        "informativeness": float(np.mean([one.score for one in found])),
    }


def _told_number(codes_ND: np.ndarray, values: np.ndarray, train: np.ndarray, trees: int) -> Told:
    columns = values.reshape(len(values), -1).T
    models = [_regressor(codes_ND, column, train, trees) for column in columns]
    errors = [np.square(model.predict(codes_ND[~train]) - column[~train]) for model, column in zip(models, columns, strict=True)]
    spreads = [np.square(column[~train] - column[train].mean()) for column in columns]
    # both numbers of an angle together
    score = 1 - float(np.sum(errors) / max(np.sum(spreads), 1e-12))
    return Told(np.mean([model.feature_importances_ for model in models], 0), max(0.0, score), 0.0)


def _regressor(codes_ND: np.ndarray, values_N: np.ndarray, train: np.ndarray, trees: int) -> Any:
    from sklearn.ensemble import GradientBoostingRegressor

    return GradientBoostingRegressor(n_estimators=trees, random_state=SPLIT_SEED).fit(codes_ND[train], values_N[train])


def _certainty(importance: np.ndarray) -> np.ndarray:
    """Return 1 - the entropy of each row, in units of what it is when all entries are equal; a single entry is certain."""
    shares = importance / np.maximum(importance.sum(1, keepdims=True), 1e-12)
    entropy = -(shares * np.log(np.maximum(shares, 1e-300))).sum(1)
    return 1 - entropy / np.log(importance.shape[1]) if importance.shape[1] > 1 else np.ones(len(importance))
