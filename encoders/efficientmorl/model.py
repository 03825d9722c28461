"""EfficientMORL (Emami et al. 2021, arXiv 2106.03849): a hierarchical VAE over slots, then a few steps of refinement.

    tokens   frame -> 5x5 convolutions + positions -> LayerNorm, linear, ReLU, linear
    start    z_0 ~ N(mu_0, s_0), the same for all slots: only their noise tells them apart
    layer l  what a slot attends to in the tokens, given z_(l-1) -> GRUs of mean and variance -> residual networks -> q(z_l); z_l ~ q(z_l)
    step 0   decode z_L; loss = -log p(x | z_L) + beta sum of KL(q(z_l) || p(z_l))
    step i   (mu, s) changes by a network of itself and of the loss's gradient by it; decode z ~ N(mu, s); loss = -log p(x | z) + beta KL

All layers have the same weights. Deviations are sqrt(softplus(s) + 1e-5).
The order of a training step: what is decoded at step i matters to loss i only, so that each step goes back through its decoder at once
(`known_gradient.gone_back`), which gives the refinement its gradient and frees the graph.

Shapes: B batch, T frames of a clip, N = B*T, K slots, D numbers of a slot, H height, W width, L layers, I steps of refinement.
"""

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor

from encoders.efficientmorl.distributions import Noise, Slots, drawn, none
from encoders.efficientmorl.geco import GECO, GECOSettings
from encoders.efficientmorl.hyperparameters import EfficientMORLHyperparameters
from encoders.efficientmorl.known_gradient import gone_back, locally_differentiable
from encoders.efficientmorl.likelihoods import LIKELIHOODS, LOG_2_PI_HALF, Drawn
from encoders.efficientmorl.networks import DualGRU, JointGRU, Refinement, Residual, start_values
from encoders.efficientmorl.priors import PriorNet, layer_priors
from encoders.efficientmorl.slots import SlotEncoder
from encoders.encoder import Batch, SlotsFound

_CACHED = 2**22
"""Numbers of a decoder's layer that there are at once on the CPU."""


@dataclass
class Step:
    """What step i of refinement comes to, i = 0 before the first."""

    slots: Slots
    kl_NKD: Tensor
    """Nats; at step 0 of all layers together."""
    loss: Tensor
    """Its share of what is minimised, not yet weighted: a scalar, the mean over frames unless they are taken alone."""
    nll_N: Tensor
    drawn: Drawn


@dataclass
class Trace:
    """What inference went through."""

    posteriors: list[Slots]
    """q(z_l) of every layer, the first layer's first."""
    shares_NKP: list[Tensor]
    """Every slot's share of every token, layer by layer."""
    priors: list[Slots | None] = field(default_factory=list)
    """p(z_l) of every layer; None is N(0, 1)."""
    steps: list[Step] = field(default_factory=list)


class EfficientMORL(SlotEncoder):
    """Take a frame to pieces: slots that each decode to colours and a mask.

    `negative_elbo` (nats, with the likelihood's constant) is that of the last step of refinement, at beta 1 and without GECO.
    """

    Hyperparameters = EfficientMORLHyperparameters
    hyperparameters: EfficientMORLHyperparameters
    unit_name = "dimensions of slots"
    collapse_remedy = "train longer, or with model.geco"

    def __init__(self, hyperparameters: EfficientMORLHyperparameters | None = None) -> None:
        h = hyperparameters or EfficientMORLHyperparameters()
        super().__init__(h)
        size = h.slot_size
        self.gru = DualGRU(size, h.dual_gru_deviation) if h.dual_gru else JointGRU(size)
        self.refine_mean, self.refine_raw = Residual(size, 2 * size), Residual(size, 2 * size)
        self.prior = PriorNet(size)
        self.refinement = Refinement(size)
        self.geco = GECO(geco_settings(h))
        in_parts = (
            self.refinement.encoding,
            self.refinement.mean,
            self.refinement.raw,
            self.image_encoder.convolutions,
            self.image_encoder.mlp,
        )
        start_values(h.start_gain, *in_parts, self.attention, self.refine_mean, self.refine_raw, self.decoder, self.prior)

    def loss(self, batch: Batch, step: int, noise: Noise = drawn) -> dict[str, Tensor]:
        """Return nats a frame. `nll` (without its constant), `kl` and `mse` are the last step's; `nll_i` and `kl_i` those of step i.

        `delta_norm_i` tells how far step i moved a slot. With GECO, `geco_multiplier` is the likelihood's weight and `geco_distance` the
        running average of target less negative log-likelihood: the target is met where it is above 0. In evaluation mode slots are inferred
        as they are after training, whatever `step`.
        """
        h, x_N3HW = self.hyperparameters, batch.frames.flatten(0, 1)
        # validations of all steps are of the same thing, and of what judges see
        count, stage = (h.refinements(step), step) if self.training else (h.judged_refinements, None)
        steps = self.trace(x_N3HW, noise, count, stage).steps
        weights = loss_weights(len(steps) - 1, h.loss_weights)
        total = torch.stack([weight * one.loss for weight, one in zip(weights, steps, strict=True)]).sum()
        nlls, kls = (torch.stack([of(one) for one in steps]) for of in (lambda one: one.nll_N.mean(), _kl))
        terms = {"loss": total if torch.is_grad_enabled() else total.detach()}
        terms["negative_elbo"] = (nlls[-1] + kls[-1]).detach() + math.prod(h.frame_shape) * LOG_2_PI_HALF
        terms["bits_per_dim"] = (terms["negative_elbo"] / math.prod(h.frame_shape) + math.log(255)) / math.log(2)
        terms |= {"nll": nlls[-1], "kl": kls[-1], "mse": (steps[-1].drawn.picture - x_N3HW).square().mean(), "beta": torch.tensor(h.beta)}
        terms |= {f"nll_{index}": nll for index, nll in enumerate(nlls)} | {f"kl_{index}": kl for index, kl in enumerate(kls)}
        terms |= {f"delta_norm_{index}": _moved(*pair) for index, pair in enumerate(itertools.pairwise(steps), 1)}
        if h.geco:
            terms |= {"geco_multiplier": self.geco.multiplier(), "geco_distance": self.geco.distance.clone()}
        if self.training:
            self.geco.update(nlls[-1].detach(), step)
        return {name: term if name == "loss" else term.detach() for name, term in terms.items()}

    def trace(
        self,
        x_N3HW: Tensor,
        noise: Noise,
        refinements: int,
        step: int | None = None,
        z_NKD: Tensor | None = None,
        alone: bool = False,
    ) -> Trace:
        """Infer slots, and refine them `refinements` times; `step` is where GECO stands, None after training.

        `z_NKD` is where slots start; None draws it. With `alone`, what a frame becomes does not depend on how many others there are.
        """
        device = x_N3HW.device.type
        learning, outer = torch.is_grad_enabled(), _autocast_of_caller(device)
        tokens_NPE = self.image_encoder(x_N3HW)
        # slots are few numbers, whose KL needs the precision
        with torch.autocast(device, enabled=False):
            found = self._bottom_up(tokens_NPE, noise, z_NKD)
            with locally_differentiable():
                if not learning:
                    found.posteriors = [Slots(*(part.detach().clone().requires_grad_() for part in slots)) for slots in found.posteriors]
                    x_N3HW = x_N3HW.clone()
                self._refine(found, x_N3HW, noise, refinements, _Caller(learning, step, 1.0 if alone else 1 / len(x_N3HW), outer))
        return found

    def slots(self, frames: Tensor, refinements: int | None = None) -> SlotsFound:
        count = self.hyperparameters.judged_refinements if refinements is None else refinements
        with torch.no_grad():
            found = self.trace(frames, self.kept_noise(), count, alone=True)
            earlier = [self.draw(slots.mean) for slots in found.posteriors[:-1]]
            last = found.steps[-1]
            levels = [*earlier, *(step.drawn for step in found.steps)]
            attention = [self.on_map(share) for share in found.shares_NKP]
            names = [f"layer {index}" for index in range(1, len(attention) + 1)] or ["start"]
            return SlotsFound(
                masks=[drawn.masks for drawn in levels],
                pictures=[drawn.colours for drawn in levels],
                reconstruction=[drawn.picture for drawn in levels],
                means=last.slots.mean.detach(),
                deviations=last.slots.deviation.detach(),
                kl=last.kl_NKD.sum((1, 2)).detach(),
                attention=[*attention, *[None] * (len(levels) - len(attention))],
                logits=[drawn.logits for drawn in levels],
                levels=[*names, *(f"refinement {index}" for index in range(1, count + 1))],
            )

    def kl_per_unit(self, frames: Tensor, actions: Tensor | None = None) -> dict[str, Tensor]:
        """Return the KL of every number of a slot in nats, summed over slots (D,): slots have no order."""
        last = self._judged(frames.flatten(0, 1)).steps[-1]
        return {"slots": last.kl_NKD.sum(1).mean(0).detach()}

    def reconstruct(self, frames: Tensor, actions: Tensor | None = None) -> Tensor:
        """Return the slots' mixed colours, given the means of their posteriors."""
        return self._judged(frames.flatten(0, 1)).steps[-1].drawn.picture.view_as(frames)

    def sample(self, count: int) -> Tensor:
        """Draw slots from the prior that judged posteriors keep near, independently of each other, and decode them."""
        h = self.hyperparameters
        z_NKD = torch.randn(count, h.slots, h.slot_size, device=self.noise.device)
        goes_down = h.prior == "reversed++" and h.judged_refinements > 0
        goes_up = h.prior == "bottom_up" and h.judged_refinements == 0
        for _ in range(h.layers - 1 if goes_down or goes_up else 0):
            z_NKD = self.prior(z_NKD).draw(drawn)
        return self.draw(z_NKD).picture.unsqueeze(1)

    def final_slots(self, x_N3HW: Tensor, z_NKD: Tensor) -> tuple[Tensor, Tensor | None]:
        if count := self.hyperparameters.encode_refinements:
            # without layers, what is decoded first is where slots start
            noise = none if self.hyperparameters.layers else self.kept_noise()
            found = self.trace(x_N3HW, noise, count, z_NKD=z_NKD, alone=True)
            means_NKD = found.steps[-1].slots.mean
        else:
            found = self._bottom_up(self.image_encoder(x_N3HW), none, z_NKD)
            means_NKD = found.posteriors[-1].mean
        return means_NKD, self.on_map(found.shares_NKP[-1]) if found.shares_NKP else None

    def score(
        self, x_N3HW: Tensor, z_NKD: Tensor, ramp: Tensor, caller: "_Caller", needs_gradient: bool
    ) -> tuple[Tensor, tuple[Tensor, Drawn]]:
        """Decode z; return the negative log-likelihood, a scalar whose gradient is known, that of every frame, and what was drawn.

        A few frames at a time on the CPU, which takes less memory, and a little less time.
        """
        found: list[tuple[Tensor, Drawn]] = []

        def part(x_N3HW: Tensor, z_NKD: Tensor, ramp: Tensor) -> Tensor:
            with caller.autocast():
                drawn = self.draw(z_NKD, ramp)
            nll_N = LIKELIHOODS[self.hyperparameters.likelihood](x_N3HW, drawn, self.hyperparameters.sigma)
            found.append((nll_N.detach(), Drawn(*(part.detach() for part in drawn))))
            return caller.share * nll_N.sum()

        at_once = self.frames_at_once(x_N3HW.device.type, len(x_N3HW))
        rows, parts = z_NKD.split(at_once), [partial(part, some) for some in x_N3HW.split(at_once)]
        if needs_gradient:
            nll = gone_back(parts, rows, ramp, list(self.decoder.parameters()) if caller.learning else [])
        else:
            with torch.no_grad():
                nll = torch.stack([one(some, ramp) for one, some in zip(parts, rows, strict=True)]).sum()
        nlls, drawn = zip(*found, strict=True)
        return nll, (torch.cat(nlls), Drawn(*(torch.cat(part) for part in zip(*drawn, strict=True))))

    def frames_at_once(self, device: str, count: int) -> int:
        height, width, _ = self.frame_shape
        numbers = self.hyperparameters.slots * self.decoder.channels * height * width
        return max(1, _CACHED // numbers) if device == "cpu" else count

    def _bottom_up(self, tokens_NPE: Tensor, noise: Noise, z_NKD: Tensor | None) -> Trace:
        h, slots = self.hyperparameters, self.start_slots(len(tokens_NPE))
        if not h.layers:
            return Trace([slots], [])
        found = Trace([], [])
        key_NPD, value_NPD = self.keys_and_values(tokens_NPE)
        z_NKD = slots.draw(noise) if z_NKD is None else z_NKD
        for layer in range(h.layers):
            seen_NKD, share_NKP = self.attention(z_NKD, key_NPD, value_NPD)
            flat = self.gru(seen_NKD.flatten(0, 1), Slots(*(part.flatten(0, 1) for part in slots)))
            slots = Slots(self.refine_mean(flat.mean).view_as(z_NKD), self.refine_raw(flat.raw).view_as(z_NKD))
            found.posteriors.append(slots)
            found.shares_NKP.append(share_NKP)
            # the last layer's draw is the first that is decoded
            if layer < h.layers - 1:
                z_NKD = slots.draw(noise)
        return found

    def _refine(self, found: Trace, x_N3HW: Tensor, noise: Noise, refinements: int, caller: "_Caller") -> None:
        """Decode the slots and refine them, and note every step in `found`."""
        h, slots, hidden = self.hyperparameters, found.posteriors[-1], None
        z_NKD = slots.draw(noise)
        if h.layers:
            found.priors = layer_priors(self.prior, found.posteriors, h.prior, noise)
            kls = [q.kl(p) for q, p in zip(found.posteriors, found.priors, strict=True)]
            kl_NKD = torch.stack(kls).sum(0)
        else:
            kl_NKD = torch.zeros_like(z_NKD)
        kept_near = found.priors[0] if h.prior == "reversed++" and found.priors else None
        with torch.set_grad_enabled(caller.learning), caller.autocast():
            ramp = self.decoder.first_of_ramp()
        for index in range(refinements + 1):
            is_last = index == refinements
            nll, (nll_N, drawn) = self.score(x_N3HW, z_NKD, ramp, caller, caller.learning or not is_last)
            found.steps.append(Step(slots, kl_NKD, self._objective(nll, kl_NKD, caller), nll_N, drawn))
            if is_last:
                return
            gradient = torch.autograd.grad(found.steps[-1].loss, slots, retain_graph=True)
            change, hidden = self.refinement(slots, Slots(*gradient), hidden)
            slots = Slots(slots.mean + change.mean, slots.raw + change.raw)
            z_NKD, kl_NKD = slots.draw(noise), slots.kl(kept_near)

    def _objective(self, nll: Tensor, kl_NKD: Tensor, caller: "_Caller") -> Tensor:
        beta = self.hyperparameters.beta
        if not beta:
            return nll
        kl = beta * caller.share * kl_NKD.sum()
        return kl + (self.geco.weighted(nll) if self.geco.is_active(caller.step) else nll)

    def _judged(self, x_N3HW: Tensor) -> Trace:
        return self.trace(x_N3HW, self.kept_noise(), self.hyperparameters.judged_refinements, alone=True)


@dataclass
class _Caller:
    """What whoever asks for a trace wants of it."""

    learning: bool
    """Whether gradients by the weights are wanted."""
    step: int | None
    share: float
    """Of a frame in the loss."""
    autocast: Callable[[], torch.autocast]


def _autocast_of_caller(device: str) -> Callable[[], torch.autocast]:
    enabled, kind = torch.is_autocast_enabled(device), torch.get_autocast_dtype(device)
    # a cached cast would be part of a graph that is freed
    return lambda: torch.autocast(device, kind, enabled=enabled, cache_enabled=False)


def geco_settings(h: EfficientMORLHyperparameters) -> GECOSettings | None:
    if not h.geco or h.geco_target is None:
        return None
    target = h.geco_target * math.prod(h.frame_shape)
    return GECOSettings(target, h.geco_warmup_steps, h.geco_decay, h.geco_rate, h.geco_acceleration)


def loss_weights(refinements: int, kind: str) -> list[float]:
    """Return the weight of the loss of step 0, 1, ... I."""
    if kind == "paper":
        return [1.0, *((refinements + 1 - index) / (refinements + 1) for index in range(1, refinements + 1))]
    return [(refinements + 3 - index) / (refinements + 1) for index in range(refinements + 1)]


def _kl(step: Step) -> Tensor:
    return step.kl_NKD.sum((1, 2)).mean()


def _moved(before: Step, after: Step) -> Tensor:
    change_NKE = torch.cat([new - old for old, new in zip(before.slots, after.slots, strict=True)], -1)
    return change_NKE.norm(dim=-1).mean()
