"""One level of the Clockwork VAE: an RSSM cell (Hafner et al. 2019), tick by tick or over all ticks at once; and its Gaussians.

Shapes: B batch, N ticks, S stochastic, D deterministic, M hidden units, E embedding, K context, A action.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from encoders.cwvae.hyperparameters import ClockworkVAEHyperparameters
from encoders.cwvae.scan import Trajectory, Weights, scan

STDDEV_OFFSET = 0.54


class Gaussian(NamedTuple):
    """Independent Gaussians by mean and standard deviation."""

    mean: Tensor
    stddev: Tensor

    def detach(self) -> "Gaussian":
        return Gaussian(self.mean.detach(), self.stddev.detach())


class Path(NamedTuple):
    """A level's ticks: z (B, N, S), h (B, N, D), and what z was and would have been drawn from (B, N, S).

    Where a level does not see the frames its posterior is its prior.
    """

    z: Tensor
    h: Tensor
    posterior: Gaussian
    prior: Gaussian

    @property
    def output(self) -> Tensor:
        return torch.cat([self.z, self.h], -1)


class Cell(nn.Module):
    """An RSSM cell. The reference gives prior and posterior weights of their own, which the paper's text has them share."""

    def __init__(self, h: ClockworkVAEHyperparameters, context: int, embedding: int | None) -> None:
        super().__init__()
        self.stochastic, self.min_stddev, self.offset_hidden = h.stochastic, h.min_stddev, h.std_offset == "hidden"
        self.prior_input = nn.Linear(h.stochastic + context, h.hidden)  # W1
        self.gru = nn.GRUCell(h.hidden, h.deterministic)
        self.prior_hidden = nn.Linear(h.deterministic, h.hidden)  # W2
        self.prior_mean, self.prior_stddev = nn.Linear(h.hidden, h.stochastic), nn.Linear(h.hidden, h.stochastic)  # W3, W4
        if embedding is not None:
            self.posterior_input = nn.Linear(h.deterministic + embedding, h.hidden)  # V1
            self.posterior_hidden = nn.Linear(h.hidden, h.hidden)  # V2
            self.posterior_mean, self.posterior_stddev = nn.Linear(h.hidden, h.stochastic), nn.Linear(h.hidden, h.stochastic)  # V3, V4

    def tick(self, z_BS: Tensor, h_BD: Tensor, context_BK: Tensor) -> tuple[Tensor, Tensor]:
        """Return the next h and the prior's mean."""
        h_BD = self.gru(F.relu(self.prior_input(torch.cat([z_BS, context_BK], -1))), h_BD)
        return h_BD, self.prior(h_BD).mean

    def prior(self, h: Tensor) -> Gaussian:
        """Return the prior of z, given h (..., D)."""
        return self._gaussian(F.relu(self.prior_hidden(h)), self.prior_mean, self.prior_stddev)

    def posterior(self, h: Tensor, evidence: Tensor) -> Gaussian:
        """Return the posterior of z, given h (..., D) and the sum of the tick's embeddings (..., E)."""
        hidden = F.relu(self.posterior_hidden(F.relu(self.posterior_input(torch.cat([h, evidence], -1)))))
        return self._gaussian(hidden, self.posterior_mean, self.posterior_stddev)

    def drive(self, context_BnK: Tensor, factor: int, ticks: int, actions_BNA: Tensor | None = None) -> Tensor:
        """Return what the context adds to the layer before the GRU (N, B, M), each of its ticks standing for `factor` of this level's."""
        weight, end = self.prior_input.weight, self.stochastic + context_BnK.shape[-1]
        drive_BNM = F.linear(context_BnK, weight[:, self.stochastic : end], self.prior_input.bias).repeat_interleave(factor, 1)[:, :ticks]
        if actions_BNA is not None:
            drive_BNM = drive_BNM + F.linear(actions_BNA, weight[:, end:])
        return drive_BNM.transpose(0, 1)

    def follow(self, drive_NBM: Tensor, evidence_BnE: Tensor | None, noise_BNS: Tensor | None = None, compiled: bool = False) -> Path:
        """Run N ticks from zeros: by the posterior where there is evidence, by the prior after it."""
        ticks, count = drive_NBM.shape[:2]
        seen = 0 if evidence_BnE is None else evidence_BnE.shape[1]
        noise_NBS = None if noise_BNS is None else noise_BNS.transpose(0, 1)
        z_BS, h_BD = (self.gru.weight_hh.new_zeros(count, size) for size in (self.stochastic, self.gru.hidden_size))
        parts: list[Trajectory] = []
        for chosen, evidence in ((slice(0, seen), evidence_BnE), (slice(seen, ticks), None)):
            if chosen.start == chosen.stop:
                continue
            first_NBM, weights = self._scanned(evidence, chosen.stop - chosen.start, count)
            noise = None if noise_NBS is None else noise_NBS[chosen]
            parts.append(scan(drive_NBM[chosen], first_NBM, noise, z_BS, h_BD, weights, self.min_stddev, compiled))
            z_BS, h_BD = parts[-1].z[-1], parts[-1].h[-1]
        z, h, mean, stddev = (torch.cat(part).transpose(0, 1) for part in zip(*parts, strict=True))
        drawn_from = Gaussian(mean, stddev)
        return Path(z, h, drawn_from, self.prior(h) if seen else drawn_from)

    def _scanned(self, evidence_BNE: Tensor | None, ticks: int, count: int) -> tuple[Tensor, Weights]:
        """Return what is known of the first layer after the GRU before the scan (N, B, M), and the scan's weights."""
        if evidence_BNE is None:
            first_NBM, from_h = self.prior_hidden.bias.expand(ticks, count, -1), self.prior_hidden.weight
            second, mean, stddev = None, self.prior_mean, self.prior_stddev
        else:
            from_h, from_evidence = self.posterior_input.weight.split([self.gru.hidden_size, evidence_BNE.shape[-1]], 1)
            first_NBM = F.linear(evidence_BNE, from_evidence, self.posterior_input.bias).transpose(0, 1)
            second, mean, stddev = self.posterior_hidden, self.posterior_mean, self.posterior_stddev
        weights = Weights(
            stochastic=self.prior_input.weight[:, : self.stochastic],
            gru_input=self.gru.weight_ih,
            gru_input_bias=self.gru.bias_ih,
            from_h=torch.cat([self.gru.weight_hh, from_h]),
            from_h_bias=F.pad(self.gru.bias_hh, (0, len(from_h))),
            second=None if second is None else second.weight,
            second_bias=None if second is None else second.bias,
            output=torch.cat([mean.weight, stddev.weight]),
            output_bias=torch.cat([mean.bias, self._stddev_bias(stddev)]),
        )
        device = first_NBM.device.type
        if torch.is_autocast_enabled(device):
            low = torch.get_autocast_dtype(device)
            weights = weights.to(low)
        return first_NBM, weights

    def _gaussian(self, hidden: Tensor, mean: nn.Linear, stddev: nn.Linear) -> Gaussian:
        raw = at_least_float32(F.linear(hidden, stddev.weight, self._stddev_bias(stddev)))
        return Gaussian(at_least_float32(mean(hidden)), F.softplus(raw) + self.min_stddev)

    def _stddev_bias(self, layer: nn.Linear) -> Tensor:
        return layer.bias + STDDEV_OFFSET * (layer.weight.sum(1) if self.offset_hidden else 1)


def gaussian_nll(mean: Tensor, x: Tensor, stddev: float) -> Tensor:
    """Return -log N(x; mean, stddev^2) in nats, summed, with the constant."""
    return F.mse_loss(mean, x, reduction="sum") / (2 * stddev**2) + x.numel() * (math.log(stddev) + math.log(2 * math.pi) / 2)


def gaussian_kl(posterior: Gaussian, prior: Gaussian) -> Tensor:
    """Return KL(posterior || prior) in nats, elementwise."""
    squared_error = (posterior.mean - prior.mean).square()
    return torch.log(prior.stddev / posterior.stddev) + (posterior.stddev.square() + squared_error) / (2 * prior.stddev.square()) - 0.5


def gaussian_entropy(stddev: Tensor) -> Tensor:
    """Return the entropy of a Gaussian in nats, elementwise."""
    return torch.log(stddev) + math.log(2 * math.pi * math.e) / 2


def at_least_float32(x: Tensor) -> Tensor:
    """Leave what autocast computed in 16 bits behind: likelihoods and divergences need the precision."""
    return x.float() if x.dtype in (torch.bfloat16, torch.float16) else x
