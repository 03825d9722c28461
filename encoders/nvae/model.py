"""NVAE: a deep hierarchical VAE (Vahdat and Kautz 2020, arXiv 2007.03898). An implementation from the paper.

L groups of Gaussian latents at S sizes. Bottom-up cells turn the frame into features for every group; top-down cells, which the posterior
and the prior share, turn a learned constant and the latents of coarser groups into the state that the next group is drawn from:

    bottom-up   frame -> conv 3x3 -> blocks of cells, each halving the size -> for every group, finest first: cells -> features r_l
    group 1     q(z_1 | x) from ELU, conv 1x1, ELU of the top features; p(z_1) = N(0, 1); state h_1 = conv 1x1 [h_0; z_1]
    group l     s = cells of h_(l-1)   p(z_l) = N(conv 1x1 of ELU(s))   q(z_l) = N(conv 3x3 of (r_l + conv 1x1 of s))
                h_l = conv 1x1 [s; z_l]; a residual posterior adds its parameters to the prior's
    frame       blocks of cells of h_L, each doubling the size -> ELU, conv 3x3 -> a mixture of logistics a pixel

Shapes: B batch, T frames of a clip, N = B*T, C channels, H height, W width, Z latent channels, L groups, S scales.
"""

import itertools
import math
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Self

import torch
from torch import Tensor, nn

from encoders.encoder import Batch, Encoder, GroupInformation, ReadingInformation, State, batch_norms, estimated_anew
from encoders.nvae import information
from encoders.nvae.cells import bottom_up_cell, top_down_cell
from encoders.nvae.distributions import MixtureOfLogistics, PixelGaussian, at_least_float32
from encoders.nvae.folding import FoldedCopy
from encoders.nvae.groups import Group, Inferred
from encoders.nvae.hyperparameters import GroupPlan, NVAEHyperparameters
from encoders.nvae.layers import WeightNormConv2d
from encoders.nvae.objective import balance, kl_weight, regularisation_weight
from encoders.nvae.regularisation import FIRST_ITERATIONS, ITERATIONS, SpectralNorms, convolutions_of, largest_gains

_EDGE_EXPANSION = 3


class NVAE(Encoder):
    """Encode a frame into the means of hierarchical latents.

    The readings: `top`, the means of group 1 (Z*H*W,), which need the bottom-up cells only; `coarse`, those of all groups of the
    `coarse_scales` coarsest sizes, group by group; `pooled`, the means of all groups averaged over their pixels (L*Z,); `top_down`,
    the state after the coarsest size, averaged over its pixels. Every group's latents are the means of its posterior, passed
    through its flows where it has any, given those of the groups before it.
    """

    Hyperparameters = NVAEHyperparameters
    hyperparameters: NVAEHyperparameters
    active_nats, unit_name = information.ACTIVE_CHANNEL_NATS, "channels"
    collapse_remedy = "train longer, or with a longer model.kl_warmup_steps"
    undecayed = frozenset({"start"})

    def __init__(self, hyperparameters: NVAEHyperparameters | None = None) -> None:
        super().__init__()
        self.hyperparameters = h = hyperparameters or NVAEHyperparameters()
        self.frame_shape, plan = h.frame_shape, h.plan
        has_towers = len(plan) > 1
        top, bottom = plan[0], plan[-1]
        self.stem = WeightNormConv2d(h.frame_shape[2], h.encoder_channels, 3)
        self.preprocess = nn.Sequential(*_preprocessing(h))
        self.bottom_up: Sequence[nn.Module] = nn.ModuleList(_bottom_up(h, plan) if has_towers else [])  # type: ignore[assignment]
        self.top_features = nn.Sequential(nn.ELU(), WeightNormConv2d(top.encoder_channels, top.encoder_channels, 1), nn.ELU())
        self.start = nn.Parameter(torch.rand(top.decoder_channels, *top.size)) if has_towers else None
        self.groups: Sequence[Group] = nn.ModuleList(  # type: ignore[assignment]
            Group(h, at, index == 0, at.decoder_channels if has_towers else 0) for index, at in enumerate(plan)
        )
        self.postprocess = nn.Sequential(*_postprocessing(h, bottom.decoder_channels))
        parameters = 10 * h.mixtures if h.mixtures > 1 else 2 * h.frame_shape[2]
        self.image_head = nn.Sequential(nn.ELU(), WeightNormConv2d(h.decoder_channels, parameters, 3))
        self.spectral_norms = SpectralNorms(convolutions_of(self)) if h.regularisation else None
        self.group_counts = {"top": 1, "coarse": sum(h.groups_per_scale[-h.coarse_scales :]), "pooled": len(plan)}
        self.group_counts |= {"top_down": h.groups_per_scale[-1]}
        self.latents = self._readings(h, plan)
        self.discrete_bits = h.bits if h.mixtures > 1 else None
        self._folded: FoldedCopy[NVAE] | None = None

    def __getstate__(self) -> dict[str, Any]:
        # a copy of the model counts the writes to its weights anew
        return self.__dict__ | {"_folded": None}

    def train(self, mode: bool = True) -> Self:
        if mode:
            self._folded = None
        return super().train(mode)

    def load_state_dict(self, *args: Any, **options: Any) -> Any:
        self._folded = None
        return super().load_state_dict(*args, **options)

    def _apply(self, *args: Any, **options: Any) -> Self:
        # behind `to` and its like
        self._folded = None
        return super()._apply(*args, **options)

    def loss(self, batch: Batch, step: int) -> dict[str, Tensor]:
        """Return nats a frame: `reconstruction`, `kl` and the KL of every group, `kl_1` the coarsest's, with bits a pixel and channel.

        `loss` has the KL's weight `beta`, the groups' balance and the regularisation; `negative_elbo` has none of them. Where the
        likelihood is a Gaussian, both are of a density of values in [-1, 1]. Raises `ValueError` in training for less than 2 frames.
        """
        h, x_NCHW = self.hyperparameters, batch.frames.flatten(0, 1)
        if self.training and len(x_NCHW) < 2 and batch_norms(self):
            raise ValueError("batch normalisation needs 2 frames a batch or more in training, got 1; raise training.batch_size")
        inferred = list(self.infer(x_NCHW, draw=True))
        nll = -self._log_likelihood(x_NCHW, inferred[-1]).mean()
        kl_L = torch.stack([group.kl().sum((1, 2, 3)).mean() for group in inferred])
        beta = kl_weight(h, step)
        weighted = (balance(kl_L, h) * kl_L).sum() if beta < 1 else kl_L.sum()
        penalty, terms = self._penalty(beta, step)
        negative_elbo = nll.detach() + kl_L.detach().sum()
        return {
            "loss": nll + beta * weighted + penalty,
            "negative_elbo": negative_elbo,
            "bits_per_dim": self.bits_per_dim(negative_elbo),
            "reconstruction": nll.detach(),
            "kl": kl_L.detach().sum(),
            "beta": torch.tensor(beta),
            **terms,
            **{f"kl_{index}": kl for index, kl in enumerate(kl_L.detach(), 1)},
        }

    def encode(self, frames: Tensor, state: State, action: Tensor | None = None, latents: str | None = None) -> tuple[Tensor, State]:
        """Turn frames (B, C, H, W) into latents (B, *shape), running only as many groups as the reading needs."""
        reading = self.reading(latents)
        return self._encoded(frames, [reading])[reading], state

    def encode_clip(self, frames: Tensor, actions: Tensor | None = None, latents: str | None = None) -> Tensor:
        reading = self.reading(latents)
        return self._encoded(frames.flatten(0, 1), [reading])[reading].unflatten(0, frames.shape[:2])

    def clip_readings(self, frames: Tensor, actions: Tensor | None = None) -> dict[str, Tensor]:
        found = self._encoded(frames.flatten(0, 1), list(self.latents))
        return {name: latent.unflatten(0, frames.shape[:2]) for name, latent in found.items()}

    def feature_maps(self, frames: Tensor) -> list[Tensor]:
        """Return the bottom-up features (N, C, H, W) after the last cell of every size that is smaller than the frame, finest first."""
        network = self._encoder()
        y_NCHW, maps = network.stem(2 * self._quantised(frames) - 1), {}
        for cells in (*network.preprocess, *network.bottom_up):
            y_NCHW = cells(y_NCHW)
            maps[y_NCHW.shape[2]] = y_NCHW
        return [one for size, one in maps.items() if size < frames.shape[2]]

    def kl_per_unit(self, frames: Tensor, actions: Tensor | None = None) -> dict[str, Tensor]:
        """Return the KL of every channel in nats, summed over its pixels (groups of the reading * Z,); `top_down` has none.

        With flows it is estimated by one sample a frame, and an estimate below 0 is 0.
        """
        kls = [group.kl().sum((2, 3)).mean(0).clamp(min=0) for group in self.infer(frames.flatten(0, 1), draw=True)]
        return {name: torch.cat(kls[: self.group_counts[name]]) for name in self.latents if name != "top_down"}

    def informative_reading(self, kl_per_unit: dict[str, Tensor]) -> str:
        """Return the reading that the hyperparameters name, or the one whose groups are in use."""
        named = self.hyperparameters.default_latents
        return self.recommended_reading(kl_per_unit)[0] if named == "auto" else named

    def group_information(self, kl_per_unit: dict[str, Tensor]) -> list[GroupInformation]:
        return information.of_groups(self.hyperparameters.plan, kl_per_unit["pooled"])

    def reading_information(self, kl_per_unit: dict[str, Tensor]) -> list[ReadingInformation]:
        sizes = {name: shape[0] for name, shape in self.latents.items()}
        return information.of_readings(self.group_information(kl_per_unit), self.group_counts, sizes)

    def recommended_reading(self, kl_per_unit: dict[str, Tensor]) -> tuple[str, str]:
        return information.recommended(self.reading_information(kl_per_unit))

    def reconstruct(self, frames: Tensor, actions: Tensor | None = None) -> Tensor:
        """Return the expected images (B, T, C, H, W) in [0, 1], given the posteriors' means."""
        *_, last = self.infer(frames.flatten(0, 1), draw=False)
        return self._pictures(self._likelihood(last).expected()).view_as(frames)

    def reconstruct_sample(self, frames: Tensor, temperature: float = 1.0) -> Tensor:
        """Draw latents from the posteriors and images (B, T, C, H, W) in [0, 1] from their likelihood, its noise at `temperature`."""
        *_, last = self.infer(frames.flatten(0, 1), draw=True)
        return self._pictures(self._likelihood(last).draw(temperature)).view_as(frames)

    def sample(self, count: int, temperature: float = 1.0, pixel_temperature: float = 1.0) -> Tensor:
        """Draw frames (count, 1, C, H, W) in [0, 1] from the prior, with the latents' deviations times `temperature`.

        `pixel_temperature` is that of the likelihood, both of its choice of components and of their width.
        """
        state = self._generated(count, temperature)
        return self._pictures(self._image_likelihood(state).draw(pixel_temperature)).unsqueeze(1)

    def log_weight(self, frames: Tensor) -> Tensor:
        """Return log p(x | z) + log p(z) - log q(z | x) in nats a frame (B*T,), for one z drawn from the posterior of each."""
        x_NCHW = frames.flatten(0, 1)
        inferred = list(self.infer(x_NCHW, draw=True))
        ratio_N = torch.stack([group.log_ratio().sum((1, 2, 3)) for group in inferred]).sum(0)
        return self._log_likelihood(x_NCHW, inferred[-1]) - ratio_N

    def bits_per_dim(self, nats: Tensor) -> Tensor:
        """Turn a negative log-likelihood in nats a frame into bits a pixel and channel; a density is taken times the width of a bin."""
        h = self.hyperparameters
        log_bin = 0.0 if h.mixtures > 1 else math.log(2 / (2**h.bits - 1))
        return (nats / math.prod(self.frame_shape) - log_bin) / math.log(2)

    @torch.no_grad()
    def reestimate_batch_norm(self, temperature: float = 1.0, iterations: int = 100, batch_size: int = 16) -> dict[str, Tensor]:
        """Set the batch statistics of the top-down layers to those of frames drawn from the prior at `temperature`.

        The running ones are of latents drawn from posteriors, with all of their spread. Returns the buffers as they were:
        `load_state_dict(returned, strict=False)` goes back to them.
        """
        before = {name: buffer.clone() for name, buffer in self.named_buffers() if name.rsplit(".", 1)[-1] in _STATISTICS}
        with estimated_anew(self):
            for _ in range(iterations):
                self._image_likelihood(self._generated(batch_size, temperature))
        return before

    def infer(self, x_NCHW: Tensor, draw: bool) -> Iterator[Inferred]:
        """Yield the groups' latents given frames (N, C, H, W) in [0, 1], coarsest first; no group is run before it is asked for."""
        features = self._features(self._quantised(x_NCHW))
        state = self._start(len(x_NCHW))
        for index, (group, feature) in enumerate(zip(self.groups, features, strict=True)):
            inferred = group.infer(group.cells(state), feature, draw)
            yield inferred
            if index + 1 < len(self.groups):
                state = group.merge(inferred.state, inferred.z)

    def _features(self, x_NCHW: Tensor) -> list[Tensor]:
        """Return the bottom-up features of every group, coarsest first."""
        features = [self.preprocess(self.stem(2 * x_NCHW - 1))]
        for cells in self.bottom_up:
            features.append(cells(features[-1]))
        # those that the first cells saw are no group's, unless there are no others
        return [self.top_features(features[-1]), *reversed(features[1:-1])]

    def _start(self, count: int) -> Tensor:
        if self.start is None:
            return self.stem.weight.new_zeros(count, 0, *self.groups[0].size)
        return self.start.expand(count, -1, -1, -1)

    def _generated(self, count: int, temperature: float) -> Tensor:
        """Return the state after all groups, their latents drawn from the prior."""
        state = self._start(count)
        for group in self.groups:
            state = group.cells(state)
            state = group.merge(state, group.prior(state).draw(temperature))
        return state

    def _log_likelihood(self, x_NCHW: Tensor, last: Inferred) -> Tensor:
        return self._likelihood(last).log_prob(2 * self._quantised(x_NCHW) - 1)

    def _likelihood(self, last: Inferred) -> MixtureOfLogistics | PixelGaussian:
        return self._image_likelihood(self.groups[-1].merge(last.state, last.z))

    def _image_likelihood(self, state: Tensor) -> MixtureOfLogistics | PixelGaussian:
        decoded = at_least_float32(self.postprocess(state))
        # 16 bits would round the means of bright and dark values to half a step of a pixel
        with _full_precision(decoded.device):
            parameters = self.image_head(decoded)
        h = self.hyperparameters
        return MixtureOfLogistics(parameters, h.bits) if h.mixtures > 1 else PixelGaussian(parameters)

    def _pictures(self, values: Tensor) -> Tensor:
        return (values / 2 + 0.5).clamp(0, 1)

    def _quantised(self, x_NCHW: Tensor) -> Tensor:
        bits = self.hyperparameters.bits
        if bits == 8:
            return x_NCHW
        return torch.floor((255 * x_NCHW).round() / 2 ** (8 - bits)) / (2**bits - 1)

    def _penalty(self, beta: float, step: int) -> tuple[Tensor | float, dict[str, Tensor]]:
        """Return what regularisation adds to the loss, and its terms."""
        if self.spectral_norms is None:
            return 0.0, {}
        iterations = (ITERATIONS if step else FIRST_ITERATIONS) if self.training else 0
        with _full_precision(self.stem.weight.device):
            spectral, gains = self.spectral_norms(convolutions_of(self), iterations), largest_gains(self)
        weight = regularisation_weight(self.hyperparameters, beta)
        terms = {"spectral_norms": spectral.detach(), "largest_gains": gains.detach(), "regularisation": torch.tensor(weight)}
        return weight * (spectral + gains), terms

    def _encoded(self, x_NCHW: Tensor, names: list[str]) -> dict[str, Tensor]:
        count, network = max(self.group_counts[name] for name in names), self._encoder()
        inferred = list(itertools.islice(network.infer(x_NCHW, draw=False), count))
        return {name: at_least_float32(network._read(name, inferred[: self.group_counts[name]])) for name in names}

    def _encoder(self) -> "NVAE":
        """Return what to encode with: itself, or where it is frozen a copy with its normalisations folded, made once."""
        # neither a model made in inference mode knows when it changes, nor one that learns, whose target network follows it by `.data`
        weight = self.stem.weight
        if self.training or torch.is_grad_enabled() or weight.requires_grad or weight.is_inference():
            return self
        if self._folded is None or not self._folded.is_current():
            self._folded = None
            needless = [self.postprocess, self.image_head, *([] if self.heads is None else [self.heads])]
            self._folded = FoldedCopy(self, needless)
        return self._folded.network

    def _read(self, name: str, inferred: list[Inferred]) -> Tensor:
        if name == "top_down":
            last = inferred[-1]
            return self.groups[len(inferred) - 1].merge(last.state, last.z).mean((2, 3))
        parts = [group.z.mean((2, 3)) if name == "pooled" else group.z.flatten(1) for group in inferred]
        return torch.cat(parts, 1)

    def _readings(self, h: NVAEHyperparameters, plan: list[GroupPlan]) -> dict[str, tuple[int, ...]]:
        units = [h.latent_channels * math.prod(at.size) for at in plan]
        sizes = {"top": units[0], "coarse": sum(units[: self.group_counts["coarse"]]), "pooled": len(plan) * h.latent_channels}
        sizes["top_down"] = plan[0].decoder_channels
        order = sorted(sizes, key=lambda name: name != h.default_latents)
        return {name: (sizes[name],) for name in order}


_STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


def _preprocessing(h: NVAEHyperparameters) -> Iterator[nn.Module]:
    channels = h.encoder_channels
    for _ in range(h.blocks):
        for _ in range(h.preprocess_cells - 1):
            yield bottom_up_cell(h, channels, expansion=_EDGE_EXPANSION)
        yield bottom_up_cell(h, channels, half=True, expansion=_EDGE_EXPANSION)
        channels *= 2


def _bottom_up(h: NVAEHyperparameters, plan: list[GroupPlan]) -> Iterator[nn.Module]:
    """Yield the cells of every group, finest first; those of a scale's first group halve the size of the scale before."""
    scale = h.scales - 1
    for at in reversed(plan):
        halving = [bottom_up_cell(h, at.encoder_channels // 2, half=True)] if at.scale != scale else []
        yield nn.Sequential(*halving, *(bottom_up_cell(h, at.encoder_channels) for _ in range(h.encoder_cells)))
        scale = at.scale


def _postprocessing(h: NVAEHyperparameters, channels: int) -> Iterator[nn.Module]:
    for _ in range(h.blocks):
        yield top_down_cell(h, channels, double=True, expansion=_EDGE_EXPANSION)
        channels //= 2
        for _ in range(h.postprocess_cells - 1):
            yield top_down_cell(h, channels, expansion=_EDGE_EXPANSION)


def _full_precision(device: torch.device) -> AbstractContextManager[None]:
    """Leave autocast for a while, on devices that have it."""
    if not torch.amp.is_autocast_available(device.type):
        return nullcontext()
    return torch.autocast(device.type, enabled=False)
