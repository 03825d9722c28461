"""How latents are scaled before an agent sees them: `unit`, `global` or `whiten`, each by statistics of training frames.

Shapes: B frames, P places of a reading that share their features (rows of a set, pixels of a map, 1 for a vector), F features.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from foundation.errors import UserError
from foundation.places import Scale

DEFAULT_SCALE: Scale = "unit"
"""Of encoders that are saved from now on."""
DEVIATION_FLOOR = 0.05
WHITENED_MOST = 1024
"""Features of a reading that are whitened: the matrix has so many rows and columns."""


class ReadingStatistics(NamedTuple):
    """What a reading is scaled by, float32; None in artifacts of before it was kept, or where the reading has too many features."""

    mean: Tensor
    """(*shape)"""
    deviation: Tensor
    """(*shape), floored at 0.05 of the largest."""
    spread: Tensor | None = None
    """The root of the mean variance of all units, ()."""
    whitening: Tensor | None = None
    """(F, F): what features less their mean are multiplied by, the first principal component first."""


Statistics = dict[str, ReadingStatistics]


class Moments:
    """Sums over the frames of a reading of `shape`, in float64, from which its statistics follow."""

    def __init__(self, shape: tuple[int, ...], is_set: bool) -> None:
        self.shape, self.is_set = shape, is_set
        self.count = 0
        self.sums = torch.zeros(2, *shape, dtype=torch.float64)
        features = places(torch.zeros(1, *shape), is_set).shape[-1]
        self.products = torch.zeros(features, features, dtype=torch.float64) if features <= WHITENED_MOST else None

    def add(self, latents: Tensor) -> None:
        """Take in latents (B, *shape)."""
        x = latents.double()
        self.count += len(x)
        self.sums += torch.stack([x.sum(0), x.square().sum(0)]).cpu()
        if self.products is not None:
            x_RF = places(x, self.is_set).flatten(0, 1)
            self.products += (x_RF.mT @ x_RF).cpu()

    def statistics(self) -> ReadingStatistics:
        """Return what the reading is scaled by.

        Deviations, of units and of principal components, are floored at 0.05 of the largest, so that scaling does not blow collapsed units
        up into noise. The rows of a set share theirs: to standardise each by its own would tell them apart by their places.
        """
        sums = self.sums.mean(1, keepdim=True).expand_as(self.sums) if self.is_set else self.sums
        mean, mean_square = sums / self.count
        variance = (mean_square - mean.square()).clamp_min(0)
        deviation = variance.sqrt()
        if deviation.max() <= 1e-6 * mean.abs().max():
            # a reading that never changes but for rounding has nothing to scale by
            whitening = None if self.products is None else torch.eye(len(self.products))
            return ReadingStatistics(mean.float(), torch.ones_like(mean).float(), torch.ones(()), whitening)
        floored = deviation.clamp_min(DEVIATION_FLOOR * deviation.max()).float()
        return ReadingStatistics(mean.float(), floored, variance.mean().sqrt().float(), self._whitening(mean))

    def _whitening(self, mean: Tensor) -> Tensor | None:
        """Return the principal components, each divided by its deviation: PCA whitening, with a floor."""
        if self.products is None:
            return None
        mean_PF = places(mean[None], self.is_set)[0]
        covariance = self.products / (self.count * len(mean_PF)) - mean_PF.mT @ mean_PF / len(mean_PF)
        variances, components = torch.linalg.eigh(covariance)
        variances, components = variances.flip(0).clamp_min(0), components.flip(1)
        # an eigenvector's sign is nobody's: its largest entry is positive
        components = components * components.gather(0, components.abs().argmax(0, keepdim=True)).sign()
        deviations = variances.sqrt()
        return (components / deviations.clamp_min(DEVIATION_FLOOR * deviations[0])).float()


def places(latents: Tensor, is_set: bool) -> Tensor:
    """Return latents (B, *shape) as (B, P, F): a set's rows (K, ...) and a map's pixels (C, H, W) are places, a vector is one."""
    if is_set:
        return latents.flatten(2)
    return latents.flatten(2).mT if latents.ndim == 4 else latents.flatten(1).unsqueeze(1)


class Scaling(nn.Module):
    """Scales the latents of one reading by its statistics, which are its buffers.

    Raises `UserError` for a scale whose statistics are not there, in words that end a sentence about the encoder `where`.
    """

    mean: Tensor
    factor: Tensor
    whitening: Tensor | None

    def __init__(self, statistics: ReadingStatistics, scale: Scale, reading: str, is_set: bool, where: str) -> None:
        super().__init__()
        self.is_set = is_set
        self.register_buffer("mean", statistics.mean)
        self.register_buffer("factor", statistics.deviation if scale == "unit" else statistics.spread)
        self.register_buffer("whitening", statistics.whitening if scale == "whiten" else None)
        if scale == "unit":
            return
        if statistics.spread is None:
            raise UserError(
                f"{where}: was saved before what scale '{scale}' needs was kept; delete encoder.json in a copy of its folder (agents "
                "trained with it know it by its hash, which changes) and run the command that made it again with --run COPY, which "
                "trains no further and saves it with that; or use scale unit"
            )
        if scale == "whiten" and self.whitening is None:
            features = places(statistics.mean[None], is_set).shape[-1]
            raise UserError(
                f"{where}: '{reading}' has {features:,} features, and at most {WHITENED_MOST:,} are whitened; use --scale unit or global"
            )

    @classmethod
    def unknown(cls, shape: tuple[int, ...], scale: Scale, is_set: bool) -> "Scaling":
        """Return one for a reading of `shape` that leaves latents as they are, until it is given the buffers of another."""
        mean = torch.zeros(shape)
        whitening = torch.eye(places(mean[None], is_set).shape[-1]) if scale == "whiten" else None
        return cls(ReadingStatistics(mean, torch.ones(shape), torch.ones(()), whitening), scale, "", is_set, "")

    def forward(self, latents: Tensor) -> Tensor:
        """Return latents (B, *shape), scaled."""
        centred = latents - self.mean
        if self.whitening is None:
            return centred / self.factor
        x_BPF = places(centred, self.is_set) @ self.whitening
        return (x_BPF.mT if latents.ndim == 4 and not self.is_set else x_BPF).reshape(latents.shape)
