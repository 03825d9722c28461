"""Critic-guided segmentation of rewarding objects (Melnik et al. 2021, arXiv 2107.09540) as an encoder. Written from the paper.

A critic learns what a frame is worth: the discounted reward to come. A mask then learns where the thing is that pays: where frame A's
masked pixels are replaced by those of a frame B of low value, the critic must see B's value, and A's value where they are put into B.

Shapes: B batch, T frames of a clip, N = B*T, C channels, H height, W width, f the factor of channels.
"""

from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from encoders.critic.hyperparameters import CriticHyperparameters
from encoders.critic.networks import MaskDecoder, Size, Trunk, ValueHead, at_least_float32
from encoders.critic.objects import COARSE, OBJECT_NUMBERS, coarse, objects
from encoders.critic.swapping import can_pair, draw_pairs, norm, shifted_sideways, swapped
from encoders.encoder import Batch, Encoder, HasFeatureMaps, Mean, Means, State

LABEL = "reward_to_come"


class Critic(Encoder):
    """Encode a frame into its value and where it comes from.

    The readings: `value` (1,) in [0, 1]; `bottleneck` (32 f,), what the value is read from; `mask` (64,), its means over 8 x 8 areas;
    `objects` (6,): centroid x and y, area, spread and peak of the mask, and the value; `all`, the value, the bottleneck, the coarse mask
    and the mask's five numbers. `value` and `bottleneck` cost no mask.

    `features`, a frozen encoder with feature maps, takes the place of the convolutions. Raises `ValueError` where its maps do not fit.
    """

    Hyperparameters = CriticHyperparameters
    parts: ClassVar[tuple[str, ...]] = ("features",)
    hyperparameters: CriticHyperparameters
    above: float | None
    """The value tells whether the reward to come is above this; None: how large it is."""

    def __init__(self, hyperparameters: CriticHyperparameters | None = None, features: Encoder | None = None) -> None:
        super().__init__()
        self.hyperparameters = h = hyperparameters or CriticHyperparameters()
        self.frame_shape = h.frame_shape
        self.targets = {LABEL: h.label_options}
        self.above = h.binarise_above
        low, high = (h.low_below, h.high_above) if h.binarise_above is None else (h.binarise_above, h.binarise_above)
        self.needed_values = (low, high, h.least_frames)
        height, width, channels = h.frame_shape
        self.features = features
        if features is None:
            sizes = [(height >> halved, width >> halved) for halved in range(1, 5)]
            given: list[int] = []
        else:
            features.eval().requires_grad_(False)
            sizes, given = _given_maps(features, h.frame_shape)
        self.trunk = Trunk(channels, sizes[-1], h.factor, h.dropout, given)
        self.value_head = ValueHead(h.factor, h.dropout)
        self.mask_trunk = Trunk(channels, sizes[-1], h.factor, h.dropout, given) if h.separate else None
        self.mask_decoder = MaskDecoder(self.trunk.widths, sizes, channels, h.factor)
        self.latents = {
            "all": (1 + 32 * h.factor + COARSE**2 + OBJECT_NUMBERS,),
            "value": (1,),
            "bottleneck": (32 * h.factor,),
            "mask": (COARSE**2,),
            "objects": (OBJECT_NUMBERS + 1,),
        }

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        if self.features is not None:
            self.features.eval()
        return self

    def loss(self, batch: Batch, step: int) -> dict[str, Tensor]:
        """Return `value_loss`, after `value_steps` also what swapping costs, and `loss`, their weighted sum.

        In evaluation mode both are computed at any step, with frames chosen by their recorded reward to come and swapped values compared
        with it: so `objective`, the same sum, compares over all of a training. Frames whose reward to come is unknown are left out.
        """
        h, x_NCHW = self.hyperparameters, self._laid_out(batch.frames.flatten(0, 1))
        to_come_N = self._to_come(batch)
        if self.training and h.shift:
            x_NCHW = shifted_sideways(x_NCHW, h.shift)
        if not self.training:
            terms = {"value_loss": self.value_loss(self._logits(x_NCHW), to_come_N)}
            a, b = draw_pairs(to_come_N, h.low_below, h.high_above, h.swapped_frames)
            known = (to_come_N[a], to_come_N[b])
            terms |= self.swap_terms(x_NCHW[a], x_NCHW[b], known) if len(a) else self._no_swap(x_NCHW)
        elif step < h.value_steps:
            terms = {"value_loss": self.value_loss(self._logits(x_NCHW, noisy=True), to_come_N)}
            # a gradient of 0, so that every rank and step has one for the same parameters
            total = terms["value_loss"] + 0 * sum(parameter.sum() for parameter in self._mask_parameters())
            return {"loss": total, "objective": total.detach(), "value_loss": terms["value_loss"].detach()}
        else:
            terms = self._mask_step(x_NCHW, to_come_N)
        total = self.weighted(terms)
        return {"loss": total, "objective": total.detach(), **{name: term.detach() for name, term in terms.items()}}

    def means_of(self, terms: dict[str, Tensor], batch: Batch) -> Means:
        """Take the terms of evaluation apart: the value's error is over the frames whose reward to come is known, the others over pairs."""
        h, to_come_N = self.hyperparameters, self._to_come(batch)
        pairs = h.swapped_frames if can_pair(to_come_N, h.low_below, h.high_above) else 0
        known = to_come_N.isfinite().sum()
        means = {name: Mean(terms[name], known if name == "value_loss" else pairs) for name in terms if name in self._weights}
        total = [mean.times(self._weights[name]) for name, mean in means.items()]
        return {"loss": total, "objective": total, **{name: [mean] for name, mean in means.items()}}

    def value_loss(self, logits_N: Tensor, to_come_N: Tensor) -> Tensor:
        """Return the value's error, averaged over the frames whose reward to come is known; 0 where none is."""
        known = to_come_N.isfinite()
        wanted_N = torch.where(known, to_come_N, 0).to(logits_N.dtype)
        if self.hyperparameters.value_loss == "bce":
            errors_N = F.binary_cross_entropy_with_logits(logits_N, wanted_N, reduction="none")
        else:
            errors_N = (logits_N.sigmoid() - wanted_N).square()
        count = known.sum()
        return (errors_N * known).sum() / count.clamp(min=1) * self.batch_part.share(count)

    def swap_terms(self, a_NCHW: Tensor, b_NCHW: Tensor, values: tuple[Tensor, Tensor] | None = None) -> dict[str, Tensor]:
        """Swap masked pixels of frames A and B; return the errors `replace` and `inject`, and the mask's `l1` and `l2`.

        `values` (N,) are what A and B are worth; None: what the critic says, without drop-out and gradient.
        """
        h = self.hyperparameters
        masks_NHW = self._masks(a_NCHW)
        with torch.no_grad():
            value_a_N, value_b_N = values or self._logits(torch.cat([a_NCHW, b_NCHW])).sigmoid().chunk(2)
        replaced, injected = swapped(a_NCHW, b_NCHW, masks_NHW)
        weights = value_a_N if h.norm_weight == "value" else None
        terms = {"replace": (self._logits(replaced).sigmoid() - value_b_N).square().mean()}
        if h.inject:
            terms["inject"] = (self._logits(injected).sigmoid() - value_a_N).square().mean()
        return terms | {"l1": norm(masks_NHW, 1, weights), "l2": norm(masks_NHW, 2, weights)}

    def weighted(self, terms: dict[str, Tensor]) -> Tensor:
        """Return the loss of the second phase from its terms."""
        return torch.stack([self._weights[name] * term for name, term in terms.items() if name in self._weights]).sum()

    @property
    def _weights(self) -> dict[str, float]:
        h = self.hyperparameters
        return {"value_loss": h.critic_weight, "l1": h.l1, "l2": h.l2, "replace": 1.0, "inject": 1.0}

    def encode(self, frames: Tensor, state: State, action: Tensor | None = None, latents: str | None = None) -> tuple[Tensor, State]:
        name = self.reading(latents)
        return self._readings(frames, [name])[name], state

    def encode_clip(self, frames: Tensor, actions: Tensor | None = None, latents: str | None = None) -> Tensor:
        name = self.reading(latents)
        return self._readings(frames.flatten(0, 1), [name])[name].unflatten(0, frames.shape[:2])

    def clip_readings(self, frames: Tensor, actions: Tensor | None = None) -> dict[str, Tensor]:
        found = self._readings(frames.flatten(0, 1), list(self.latents))
        return {name: latent.unflatten(0, frames.shape[:2]) for name, latent in found.items()}

    def value(self, frames: Tensor, actions: Tensor | None = None) -> Tensor:
        """Return the values (B, T) in [0, 1] of frames (B, T, C, H, W)."""
        return self._logits(self._laid_out(frames.flatten(0, 1))).sigmoid().unflatten(0, frames.shape[:2])

    def masks(self, frames: Tensor) -> Tensor:
        """Return masks (B, T, H, W) in [0, 1] of frames (B, T, C, H, W)."""
        return self._masks(self._laid_out(frames.flatten(0, 1))).unflatten(0, frames.shape[:2])

    def value_and_masks(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Return values (N,) and masks (N, H, W) of frames (N, C, H, W), for less than both alone."""
        _, values_N, masks_NHW = self._passed(frames, with_masks=True)
        assert masks_NHW is not None
        return values_N, masks_NHW

    def feature_maps(self, frames: Tensor) -> list[Tensor]:
        """Return the critic's maps of frames (N, C, H, W), finest first, or those of the features that it stands on."""
        maps = self._lower(self.trunk, self._laid_out(frames))
        return self.trunk.upper(maps, noisy=False)[0]

    def _mask_step(self, x_NCHW: Tensor, to_come_N: Tensor) -> dict[str, Tensor]:
        """Return the terms of a training step that swaps, with frames chosen by what the critic says of them now."""
        h = self.hyperparameters
        with torch.no_grad():
            scores_N = self._logits(x_NCHW).sigmoid().masked_fill(~to_come_N.isfinite(), torch.nan)
        a, b = draw_pairs(scores_N, h.low_below, h.high_above, h.swapped_frames)
        live = h.critic == "live"
        learned_from = a if len(a) and h.value_frames == "swapped" else slice(None)
        terms = {}
        if live:
            terms["value_loss"] = self.value_loss(self._logits(x_NCHW[learned_from], noisy=True), to_come_N[learned_from])
        self.trunk.requires_grad_(live)
        self.value_head.requires_grad_(live)
        swaps = self.swap_terms(x_NCHW[a], x_NCHW[b], (scores_N[a], scores_N[b])) if len(a) else self._no_swap(x_NCHW)
        share = self.batch_part.share(scores_N.new_tensor(len(a)))
        terms |= {name: term * share for name, term in swaps.items()}
        counts = {"highs": (scores_N > h.high_above).sum(), "lows": (scores_N < h.low_below).sum()}
        return terms | {name: count.float() for name, count in counts.items()}

    def _no_swap(self, x_NCHW: Tensor) -> dict[str, Tensor]:
        nothing = 0 * sum(parameter.sum() for parameter in self._mask_parameters())
        names = ("replace", "inject", "l1", "l2") if self.hyperparameters.inject else ("replace", "l1", "l2")
        return dict.fromkeys(names, nothing + x_NCHW.new_zeros(()))

    def _mask_parameters(self) -> list[nn.Parameter]:
        return [*self.mask_decoder.parameters(), *(self.mask_trunk.parameters() if self.mask_trunk else ())]

    def _to_come(self, batch: Batch) -> Tensor:
        """Return the rewards to come (N,) that are learned, NaN where they are unknown."""
        if LABEL not in batch.targets:
            raise ValueError(f"a critic learns from the label '{LABEL}', which these batches lack")
        to_come_N, above = batch.targets[LABEL].flatten(), self.hyperparameters.binarise_above
        return to_come_N if above is None else torch.where(to_come_N.isnan(), to_come_N, (to_come_N > above).to(to_come_N.dtype))

    def _laid_out(self, x_NCHW: Tensor) -> Tensor:
        return x_NCHW.contiguous(memory_format=torch.channels_last)

    def _lower(self, trunk: Trunk, x_NCHW: Tensor) -> list[Tensor]:
        return trunk.lower(x_NCHW) if self.features is None else _chosen(self.features, x_NCHW)

    def _logits(self, x_NCHW: Tensor, noisy: bool = False) -> Tensor:
        return self.value_head(self.trunk.upper(self._lower(self.trunk, x_NCHW), noisy)[1], noisy)

    def _masks(self, x_NCHW: Tensor) -> Tensor:
        trunk = self.mask_trunk or self.trunk
        return self.mask_decoder(*trunk.upper(self._lower(trunk, x_NCHW), noisy=False), x_NCHW)

    def _passed(self, frames: Tensor, with_masks: bool) -> tuple[Tensor, Tensor, Tensor | None]:
        """Return the bottleneck, the values and, if asked for, the masks of one pass through the trunk."""
        x_NCHW = self._laid_out(frames)
        maps, bottleneck = self.trunk.upper(self._lower(self.trunk, x_NCHW), noisy=False)
        values_N = self.value_head(bottleneck).sigmoid()
        if not with_masks:
            return bottleneck, values_N, None
        return bottleneck, values_N, self._masks(x_NCHW) if self.mask_trunk else self.mask_decoder(maps, bottleneck, x_NCHW)

    def _readings(self, frames: Tensor, names: list[str]) -> dict[str, Tensor]:
        bottleneck, values_N, masks_NHW = self._passed(frames, with_masks=not set(names) <= {"bottleneck", "value"})
        found = {"bottleneck": at_least_float32(bottleneck.flatten(1)), "value": values_N.unsqueeze(1)}
        if masks_NHW is None:
            return {name: found[name] for name in names}
        found["mask"] = coarse(masks_NHW)
        # under autocast the products that say where would be rounded to 3 digits
        with torch.autocast(masks_NHW.device.type, enabled=False):
            marked = objects(at_least_float32(masks_NHW))
        found["objects"] = torch.cat([marked, found["value"]], 1)
        found["all"] = torch.cat([found["value"], found["bottleneck"], found["mask"], marked], 1)
        return {name: found[name] for name in names}


@torch.no_grad()
def _chosen(features: Any, x_NCHW: Tensor) -> list[Tensor]:
    """Return the feature maps of frames that are smaller than the frames."""
    return [one for one in features.feature_maps(x_NCHW) if one.shape[2] < x_NCHW.shape[2]]


def _given_maps(features: Encoder, frame_shape: tuple[int, int, int]) -> tuple[list[Size], list[int]]:
    """Return sizes and channels of another model's maps, finest first; raise `ValueError` where a mask cannot be built on them."""
    if not isinstance(features, HasFeatureMaps):
        raise ValueError(f"features: a {type(features).__name__} has no feature maps; name a convolutional encoder")
    if tuple(features.frame_shape) != tuple(frame_shape):
        raise ValueError(f"features: that encoder takes frames of {tuple(features.frame_shape)}, the critic of {tuple(frame_shape)}")
    height, width, channels = frame_shape
    maps = _chosen(features, torch.zeros(1, channels, height, width))
    sizes: list[Size] = [(one.shape[2], one.shape[3]) for one in maps]
    whole = all(above[0] % below[0] == 0 == above[1] % below[1] for above, below in zip([(height, width), *sizes], sizes, strict=False))
    if not sizes or not whole:
        listed = ", ".join(f"{rows}x{columns}" for rows, columns in sizes) or "none smaller than the frame"
        raise ValueError(f"features: its maps are of sizes that do not divide each other and the frame's: {listed}")
    return sizes, [one.shape[1] for one in maps]
