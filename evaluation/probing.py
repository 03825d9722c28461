"""Probes: what a linear map, or a network of one hidden layer, reads out of frozen latents.

Regularisation, and when the network stops, are chosen inside the frames to learn from: every fourth recording is kept for that.
Shapes: M frames, N frames to learn from, D latents, K columns of a target, G networks, B frames of a batch, H hidden units.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from evaluation.scores import auc, balanced_accuracy, r_squared

Metric = Literal["R2", "AUC", "balanced accuracy"]
CHANCE: dict[str, float] = {"R2": 0.0, "AUC": 0.5, "balanced accuracy": 0.5}
"""What a probe scores that knows nothing."""

_RIDGES = (1e-3, 1e-2, 1e-1, 1.0, 10.0)
_LOGISTIC_STEPS = 100
_HIDDEN, _EPOCHS, _EVERY, _BATCH, _LEARNING_RATE = 64, 30, 2, 256, 2e-3
_DECAYS = (0.1, 10.0)
_DEVIATION_FLOOR = 0.05


@dataclass(frozen=True)
class Target:
    """What a probe is to tell of a frame: values (M, K), NaN where unknown, and what the columns are called.

    They are numbers for R^2, and 0 or 1 for the other metrics.
    """

    name: str
    metric: Metric
    values: np.ndarray
    parts: tuple[str, ...]


@dataclass(frozen=True)
class Score:
    """What a probe reached on frames that it did not learn from: the mean over columns, or R^2 over all together; and of each."""

    score: float
    parts: tuple[float, ...]


@dataclass(frozen=True)
class Probes:
    """Probes of latents (M, D): they learn from the frames `learned` bool (M,), but for those `kept` to choose by, and score the others."""

    latents: np.ndarray
    learned: np.ndarray
    kept: np.ndarray

    def linear(self, targets: Sequence[Target]) -> dict[str, Score]:
        """Fit ridge regressions, and for what is 0 or 1 logistic ones with both kinds weighing the same."""
        x_MD = torch.from_numpy(standardised(self.latents, self.learned))
        return {target.name: self._scored(target, self._best_map(x_MD, target)(x_MD).numpy()) for target in targets}

    def network(self, targets: Sequence[Target]) -> dict[str, Score]:
        """Train networks of one hidden layer for each target, of several weight decays, and keep what scores best on `kept`."""
        x_MD = torch.from_numpy(standardised(self.latents, self.learned)).float()
        networks = _Networks([target for target in targets for _ in _DECAYS], self.learned, x_MD.shape[1])
        outputs = networks.train(x_MD, self.learned & ~self.kept, self.kept)
        return {target.name: self._scored(target, outputs[target.name]) for target in targets}

    def _best_map(self, x_MD: Tensor, target: Target) -> "LinearMap":
        """Fit with the regularisation that scores best on `kept`, on all frames to learn from."""
        fit = ridge if target.metric == "R2" else logistic
        values, inner, kept, learned = torch.from_numpy(target.values).double(), self.learned & ~self.kept, self.kept, self.learned
        maps = fit(x_MD[inner], values[inner], _RIDGES)
        scores = [_measured(target.metric, target.values[kept], one(x_MD[kept]).numpy()).score for one in maps]
        best = _RIDGES[int(np.argmax(np.nan_to_num(scores, nan=-np.inf)))]
        return fit(x_MD[learned], values[learned], (best,))[0]

    def _scored(self, target: Target, outputs_MK: np.ndarray) -> Score:
        return _measured(target.metric, target.values[~self.learned], outputs_MK[~self.learned])


def kept_to_choose(recordings: np.ndarray, learned: np.ndarray) -> np.ndarray:
    """Return bool (M,): of the frames to learn from, those of every fourth of their recordings, whose numbers are `recordings` (M,).

    It is every second of fewer than four, and of one its last quarter.
    """
    kept, (numbers, place) = np.zeros(len(recordings), bool), np.unique(recordings[learned], return_inverse=True)
    if len(numbers) == 1:
        kept[learned] = np.arange(len(place)) >= len(place) * 3 // 4
    else:
        kept[learned] = place % (4 if len(numbers) >= 4 else 2) == 1
    return kept


def standardised(latents: np.ndarray, learned: np.ndarray) -> np.ndarray:
    """Standardise latents (M, D) by the mean and deviation of some of them, float64.

    The deviation is no less than 0.05 of the largest, as in what agents see.
    """
    mean, deviation = latents[learned].mean(0, dtype=np.float64), latents[learned].std(0, dtype=np.float64)
    scale = np.maximum(deviation, _DEVIATION_FLOOR * deviation.max())
    return (latents - mean) / np.where(scale > 0, scale, 1)


@dataclass(frozen=True)
class LinearMap:
    weights_DK: Tensor
    bias_K: Tensor

    def __call__(self, x_ND: Tensor) -> Tensor:
        return x_ND @ self.weights_DK + self.bias_K


Fit = Callable[[Tensor, Tensor, Sequence[float]], list[LinearMap]]
"""Fits values (N, K), NaN where unknown, from x (N, D), one map for each strength of regularisation."""


def ridge(x_ND: Tensor, values_NK: Tensor, ridges: Sequence[float]) -> list[LinearMap]:
    """Minimise the mean squared error plus `ridge` times the sum of squared weights, in closed form."""
    known = ~values_NK.isnan().any(1)
    if not known.any():
        nothing = values_NK.new_zeros(values_NK.shape[1])
        return [LinearMap(x_ND.new_zeros(x_ND.shape[1], len(nothing)), nothing) for _ in ridges]
    x_ND, values_NK = x_ND[known], values_NK[known]
    x_mean, mean = x_ND.mean(0), values_NK.mean(0)
    centred = x_ND - x_mean
    variances_D, axes_DD = torch.linalg.eigh(centred.T @ centred / len(x_ND))
    along_DK = axes_DD.T @ (centred.T @ (values_NK - mean)) / len(x_ND)
    weights = [axes_DD @ (along_DK / (variances_D.clamp_min(0) + strength)[:, None]) for strength in ridges]
    return [LinearMap(one, mean - x_mean @ one) for one in weights]


def logistic(x_ND: Tensor, values_NK: Tensor, ridges: Sequence[float]) -> list[LinearMap]:
    """Minimise each column's mean cross-entropy, 0 and 1 weighing the same, plus `ridge`/2 times the sum of squared weights."""
    columns = values_NK.shape[1]
    # columns do not know each other: those of all strengths are minimised together
    truth, weight = _balanced(values_NK.repeat(1, len(ridges)))
    strength = torch.tensor(ridges, dtype=x_ND.dtype).repeat_interleave(columns)
    parameters = torch.zeros(x_ND.shape[1] + 1, truth.shape[1], dtype=x_ND.dtype, requires_grad=True)
    optimizer = torch.optim.LBFGS([parameters], max_iter=_LOGISTIC_STEPS, history_size=20, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        logits = x_ND @ parameters[:-1] + parameters[-1]
        entropy = F.binary_cross_entropy_with_logits(logits, truth, weight, reduction="sum")
        total = entropy + (strength * parameters[:-1].square()).sum() / 2
        total.backward()
        return total

    optimizer.step(loss)
    found = parameters.detach()
    parts = [slice(begin, begin + columns) for begin in range(0, truth.shape[1], columns)]
    return [LinearMap(found[:-1, part], found[-1, part]) for part in parts]


class _Networks:
    """Independent networks of one hidden layer side by side, each of a target and a weight decay."""

    def __init__(self, targets: Sequence[Target], learned: np.ndarray, size: int) -> None:
        self.targets = targets
        widest = max(len(target.parts) for target in targets)
        self.truth = torch.zeros(len(targets), len(learned), widest)
        self.weight = torch.zeros_like(self.truth)
        self.unit, self.mean = torch.ones(len(targets), 1, widest), torch.zeros(len(targets), 1, widest)
        self.is_number = torch.tensor([target.metric == "R2" for target in targets])[:, None, None]
        for g, target in enumerate(targets):
            values = torch.from_numpy(np.where(learned[:, None], target.values, np.nan)).float()
            truth, weight = _known(self._of_unit_variance(g, values)) if target.metric == "R2" else _balanced(values)
            self.truth[g, :, : values.shape[1]] = truth
            # so that a batch's mean is about the mean over the frames that are known
            self.weight[g, :, : values.shape[1]] = weight * learned.sum()
        random = torch.Generator().manual_seed(0)
        shapes = ((len(targets), size, _HIDDEN), (len(targets), 1, _HIDDEN), (len(targets), _HIDDEN, widest), (len(targets), 1, widest))
        scales = (1 / max(1, size) ** 0.5, 0.0, 1 / _HIDDEN**0.5, 0.0)
        self.parameters = [torch.randn(*shape, generator=random) * scale for shape, scale in zip(shapes, scales, strict=True)]
        self.random = random

    def __call__(self, x_BD: Tensor) -> Tensor:
        """Return the outputs (G, B, K), in the targets' units."""
        return self._forward(x_BD) * self.unit + self.mean

    def _forward(self, x_BD: Tensor) -> Tensor:
        into, bias, out, last = self.parameters
        return torch.relu(x_BD @ into + bias) @ out + last

    def train(self, x_MD: Tensor, learned: np.ndarray, kept: np.ndarray) -> dict[str, np.ndarray]:
        """Train on some frames; return for each target the outputs (M, K) that scored best on `kept`, of all its networks and times."""
        rows = torch.from_numpy(np.flatnonzero(learned))
        decays = torch.tensor(_DECAYS).repeat(len(self.targets) // len(_DECAYS))[:, None, None]
        for one in self.parameters:
            one.requires_grad_(True)
        optimizer = torch.optim.Adam(self.parameters, _LEARNING_RATE)
        best: dict[str, tuple[float, np.ndarray]] = {}
        for epoch in range(1, _EPOCHS + 1):
            for batch in rows[torch.randperm(len(rows), generator=self.random)].split(_BATCH):
                optimizer.zero_grad()
                self._loss(x_MD, batch).backward()
                optimizer.step()
                with torch.no_grad():
                    for weights in (self.parameters[0], self.parameters[2]):
                        weights.mul_(1 - _LEARNING_RATE * decays)
            if epoch % _EVERY == 0:
                self._keep(x_MD, kept, best)
        return {name: outputs for name, (_, outputs) in best.items()}

    def _of_unit_variance(self, g: int, values_MK: Tensor) -> Tensor:
        """Return a target's numbers centred, and scaled so that all columns together have a mean variance of 1."""
        known = values_MK[~values_MK.isnan().any(1)]
        columns = slice(0, values_MK.shape[1])
        self.mean[g, 0, columns] = known.mean(0)
        self.unit[g, 0, columns] = (known - known.mean(0)).square().mean().sqrt()
        return (values_MK - self.mean[g, 0, columns]) / self.unit[g, 0, columns]

    @torch.no_grad()
    def _keep(self, x_MD: Tensor, kept: np.ndarray, best: dict[str, tuple[float, np.ndarray]]) -> None:
        """Replace in `best` what the networks, as they are now, do better."""
        outputs = self(x_MD).numpy()
        for target, output in zip(self.targets, outputs, strict=True):
            told = output[:, : len(target.parts)]
            score = np.nan_to_num(_measured(target.metric, target.values[kept], told[kept]).score, nan=-np.inf)
            # where the frames to choose by hold one kind alone, nothing scores: then the last network stays, trained to its end
            if target.name not in best or score > best[target.name][0] or score == -np.inf == best[target.name][0]:
                best[target.name] = (float(score), told)

    def _loss(self, x_MD: Tensor, rows: Tensor) -> Tensor:
        """Return the sum of the networks' mean losses on some frames: their weights do not know each other."""
        outputs, truth, weight = self._forward(x_MD[rows]), self.truth[:, rows], self.weight[:, rows]
        squared = (outputs - truth).square()
        entropy = F.binary_cross_entropy_with_logits(outputs, truth, reduction="none")
        return (torch.where(self.is_number, squared, entropy) * weight).sum() / len(rows)


def _balanced(values_NK: Tensor) -> tuple[Tensor, Tensor]:
    """Return values of 0 and 1 and their weights: half of a column's for each kind, none where it is not known."""
    one, zero = (values_NK > 0.5).to(values_NK.dtype), (values_NK <= 0.5).to(values_NK.dtype)
    weight = one / (2 * one.sum(0).clamp_min(1)) + zero / (2 * zero.sum(0).clamp_min(1))
    return one, weight


def _known(values_NK: Tensor) -> tuple[Tensor, Tensor]:
    """Return numbers, 0 where they are not known, and their weights: those of a mean over the frames that are known."""
    known = ~values_NK.isnan().any(1, keepdim=True)
    return torch.where(known, values_NK, 0.0), (known / known.sum().clamp_min(1)).expand_as(values_NK) / values_NK.shape[1]


def _measured(metric: Metric, truth_NK: np.ndarray, outputs_NK: np.ndarray) -> Score:
    """Score outputs where the truth is known; columns that cannot be scored are NaN, and left out of the mean."""
    if metric == "R2":
        known = ~np.isnan(truth_NK).any(1)
        truth, outputs = truth_NK[known], outputs_NK[known]
        return Score(r_squared(truth, outputs), tuple(r_squared(truth[:, [k]], outputs[:, [k]]) for k in range(truth.shape[1])))
    measure = auc if metric == "AUC" else balanced_accuracy
    parts = []
    for truth, output in zip(truth_NK.T, outputs_NK.T, strict=True):
        known = ~np.isnan(truth)
        parts.append(measure(truth[known], output[known]))
    finite = [part for part in parts if np.isfinite(part)]
    return Score(float(np.mean(finite)) if finite else float("nan"), tuple(parts))
