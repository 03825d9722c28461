"""The contract of every encoder. Needs nothing but torch (and encoders/means.py, which needs no more).

Shapes: B batch, T frames of a clip, C channels, H height, W width.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from encoders.means import Mean as Mean
from encoders.means import Means as Means
from encoders.means import WholeBatch

State = dict[str, Tensor]
EVIDENCE_OFFSET = 5.0
"""The log-sum-exp of a reading named "evidence", less this, is the logit of what a head is trained on there: a map starts as none."""


@dataclass
class Batch:
    """A training batch: `frames` float (B, T, C, H, W) in [0, 1]; `actions` float (B, T, A), or None.

    `targets` are what recordings hold beside frames, by the label's name: each float32 (B, T, ...), NaN where it is not known.
    """

    frames: Tensor
    actions: Tensor | None = None
    targets: dict[str, Tensor] = field(default_factory=dict)


class Encoder(nn.Module):
    """A model that turns frames into latents, and can be trained to.

    A model knows nothing of stores, devices, distribution or logging, and keeps no memory but the state it is given.
    What it can do beyond this is said by the protocols below, such as `Generates`: it has their methods or it has not.
    Losses are sums over pixels and latents in nats, averaged over the frames of the batch.
    """

    Hyperparameters: ClassVar[type[Any]]
    """A dataclass whose fields all have defaults; the constructor takes one instance, kept as `self.hyperparameters`."""

    frame_shape: tuple[int, int, int]
    """(H, W, C) of the uint8 RGB frames it was built for."""
    latents: dict[str, tuple[int, ...]]
    """Readings by name and shape; the first is the default: {"mean": (256,)}."""
    clip_length: int = 1
    """Frames in a training clip: 1 for image models."""
    action_size: int = 0
    """Length of the action vectors it must be given; 0 for a model that ignores actions."""
    discrete_bits: int | None = None
    """Bits of a channel's value where the likelihood is one of discrete values, whose bits per dimension compare with a histogram's."""
    active_nats: float = 0.01
    """A unit of `kl_per_unit` is active where its mean KL is above this: it says something about the frame."""
    unit_name: str = "units"
    """What the units of `kl_per_unit` are called in words, such as the channels of maps."""
    set_readings: frozenset[str] = frozenset()
    """Readings whose rows have no order, such as slots: a policy should not depend on it."""
    collapse_remedy: str = "lower model.beta, or train longer"
    """What a user can do about latents that say too little."""
    undecayed: frozenset[str] = frozenset()
    """Names of parameters of two axes or more that weight decay is to leave alone, such as learned constants."""
    targets: dict[str, dict[str, Any]] = {}
    """The labels that its own loss needs in `Batch.targets`: their names, each with its options (frames/labels.py)."""
    needed_values: tuple[float, float, int] | None = None
    """Low, high and count: its own loss needs so many frames whose `reward_to_come` is below the one, and as many above the other."""
    decoded_reading: str | None = None
    """Which reading `decode` takes, where another is preferred now; None: the first."""
    parts: ClassVar[tuple[str, ...]] = ()
    """Hyperparameters that name a trained encoder it stands on: each is handed to the constructor as a module, kept under that name."""
    has_own_loss: bool = True
    """False for a model that learns from heads alone: its `loss` raises ValueError."""
    batch_part: WholeBatch = WholeBatch()
    """What this process has of a batch: a mean over known targets is multiplied by its `share`."""
    hyperparameters: Any
    heads: nn.Module | None
    """The heads that are trained on its latents (encoders/heads), part of its weights; None without."""

    def __init__(self, hyperparameters: Any = None) -> None:
        super().__init__()
        self.register_module("heads", None)

    def loss(self, batch: Batch, step: int) -> dict[str, Tensor]:
        """Return scalar terms by name; "loss" is the one to minimise.

        Validation compares "objective" where there is one, else "negative_elbo", which a model that generates must have. `step` is the
        number of optimizer steps done before this one: schedules are functions of it.
        """
        raise NotImplementedError

    def means_of(self, terms: dict[str, Tensor], batch: Batch) -> Means:
        """Take the terms of `loss` in evaluation mode apart into means. Optional: by this default each is a mean over the frames."""
        return {name: [Mean(value, len(batch.frames))] for name, value in terms.items()}

    def loss_and_latents(self, batch: Batch, step: int, readings: Sequence[str]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Return the terms of `loss`, and of the same frames these readings (B, T, *shape) by name, with their gradient.

        Optional: this default goes through the encoder twice; a model with a faster way has its own.
        """
        return self.loss(batch, step), self.some_readings(batch.frames, batch.actions, readings)

    def initial_state(self, batch_size: int) -> State:
        """Return the state before the first frame, every tensor batch first; {} for models without memory."""
        return {}

    def encode(self, frames: Tensor, state: State, action: Tensor | None = None, latents: str | None = None) -> tuple[Tensor, State]:
        """Turn float frames (B, C, H, W) in [0, 1] into latents (B, *shape), deterministically, and the next state.

        `latents` names a reading of `self.latents`; None is the first.
        """
        raise NotImplementedError

    def encode_clip(self, frames: Tensor, actions: Tensor | None = None, latents: str | None = None) -> Tensor:
        """Return what `encode` gives for frames (B, T, C, H, W) one by one from the initial state: (B, T, *shape).

        `actions` (B, T, A) led to the frames. Optional: this default goes frame by frame; a model with a faster way has its own.
        """
        state, parts = self.initial_state(len(frames)), []
        for index in range(frames.shape[1]):
            latent, state = self.encode(frames[:, index], state, None if actions is None else actions[:, index], latents)
            parts.append(latent)
        return torch.stack(parts, 1)

    def clip_readings(self, frames: Tensor, actions: Tensor | None = None) -> dict[str, Tensor]:
        """Return every reading that `encode_clip` gives, by name. Optional, for models that get all of them in one pass."""
        return {name: self.encode_clip(frames, actions, name) for name in self.latents}

    def some_readings(self, frames: Tensor, actions: Tensor | None, names: Sequence[str]) -> dict[str, Tensor]:
        """Return some of the readings that `clip_readings` gives, by name."""
        if len(names) < 2:
            return {name: self.encode_clip(frames, actions, name) for name in names}
        found = self.clip_readings(frames, actions)
        return {name: found[name] for name in names}

    def fit(self, frames: Tensor) -> None:
        """Set what is computed rather than trained from float frames (N, C, H, W); most models have nothing."""

    def compile_scan(self) -> bool:
        """Have torch.compile fuse the model's recurrence from now on, and return whether it does; most models have none.

        Where it cannot, a model prints a line and stays as it is. The numbers may differ by rounding only.
        """
        return False

    def informative_reading(self, kl_per_unit: dict[str, Tensor]) -> str:
        """Return the reading that suits agents best, given the KL of every unit by reading: the first, unless a model knows better."""
        return next(iter(self.latents))

    def prefer(self, latents: str) -> None:
        """Make a reading the default, the first of `self.latents`; raise ValueError for one the model does not have."""
        self.decoded_reading = self.decoded_reading or self.reading(None)
        self.latents = {self.reading(latents): self.latents[latents], **self.latents}

    def reading(self, latents: str | None) -> str:
        """Return the name of a reading, the first when None; raise ValueError for one the model does not have."""
        if latents is None:
            return next(iter(self.latents))
        if latents not in self.latents:
            raise ValueError(f"no latents named '{latents}'; this encoder has: {', '.join(self.latents)}")
        return latents


@runtime_checkable
class Generates(Protocol):
    """Has a decoder and a prior, as VAEs have: frames come back from latents, and out of nothing."""

    def kl_per_unit(self, frames: Tensor, actions: Tensor | None = None) -> dict[str, Tensor]:
        """Return the KL of every latent unit in nats, averaged over `frames` (B, T, C, H, W), by reading.

        A unit is what is judged active or not: a number, or where latents are maps a channel, its pixels summed.
        `actions` (B, T, A) led to the frames, here and in `reconstruct`; models that take none ignore them.
        """

    def reconstruct(self, frames: Tensor, actions: Tensor | None = None) -> Tensor:
        """Return the mean reconstructions of frames (B, T, C, H, W), in [0, 1]."""

    def sample(self, count: int) -> Tensor:
        """Draw frames from the prior: float (count, T, C, H, W) in [0, 1]."""


@runtime_checkable
class Decodes(Protocol):
    """The first reading, as the model is made, determines a frame: it can be changed unit by unit, and looked at."""

    def decode(self, latents: Tensor) -> Tensor:
        """Return the mean frames (B, C, H, W) in [0, 1] of that reading's latents (B, *shape)."""


@runtime_checkable
class DrawsReconstructions(Protocol):
    """Reconstructs with the noise of latents and pixels, not only on average."""

    def reconstruct_sample(self, frames: Tensor) -> Tensor:
        """Return reconstructions (B, T, C, H, W) in [0, 1] of frames, their latents and pixels drawn."""


@runtime_checkable
class SamplesAtTemperature(Protocol):
    """Draws samples at a temperature, whose batch statistics can be estimated anew for it."""

    def sample(self, count: int, temperature: float = 1.0) -> Tensor:
        """Draw frames (count, T, C, H, W) in [0, 1] from the prior, the latents' deviations times `temperature`."""

    def reestimate_batch_norm(self, temperature: float = 1.0, iterations: int = 100) -> dict[str, Tensor]:
        """Set batch statistics to those of frames drawn so; return them as they were, for `load_state_dict(..., strict=False)`."""


@runtime_checkable
class Predicts(Protocol):
    """Goes on by itself after it has seen some frames."""

    def open_loop(
        self,
        frames: Tensor,
        context: int,
        horizon: int,
        num_samples: int = 1,
        use_obs: Sequence[bool] | None = None,
        generator: torch.Generator | None = None,
        actions: Tensor | None = None,
    ) -> Iterator[Tensor]:
        """Yield `num_samples` futures, each (B, context + horizon, C, H, W) in [0, 1], after the first `context` of `frames`.

        `use_obs` tells which levels of a hierarchy see the context, the lowest first; `actions` (B, context + horizon, A) led to the
        frames. Raises `ValueError`, before anything is computed, for what the model cannot do.
        """


@runtime_checkable
class BoundsLikelihood(Protocol):
    """Gives unbiased estimates of the likelihood, of which several make a tighter bound than the ELBO."""

    def log_weight(self, frames: Tensor) -> Tensor:
        """Return log p(x | z) + log p(z) - log q(z | x) in nats a frame (B*T,), for one z drawn from the posterior of each."""

    def bits_per_dim(self, nats: Tensor) -> Tensor:
        """Turn a negative log-likelihood in nats a frame into bits a pixel and channel."""


@runtime_checkable
class GivesValue(Protocol):
    """Tells from a frame what is to be earned."""

    def value(self, frames: Tensor, actions: Tensor | None = None) -> Tensor:
        """Return the value (B, T) in [0, 1] of frames (B, T, C, H, W); `actions` (B, T, A) led to them."""


@runtime_checkable
class GivesMasks(Protocol):
    """Tells where in a frame the thing is that pays."""

    def masks(self, frames: Tensor) -> Tensor:
        """Return masks (B, T, H, W) in [0, 1] of frames (B, T, C, H, W)."""


@runtime_checkable
class HasFeatureMaps(Protocol):
    """Its convolutions give maps that another model can build on."""

    def feature_maps(self, frames: Tensor) -> list[Tensor]:
        """Return maps (N, C, H, W) of frames (N, C, H, W), one a size, the finest first."""


@dataclass(frozen=True)
class GroupInformation:
    """What a group of latents carries on average over frames."""

    scale: int
    """0 is the coarsest."""
    size: tuple[int, int]
    kl: float
    """Nats a frame."""
    active_channels: int
    """Latent channels whose KL, summed over their pixels, is above the model's `active_nats`."""
    channels: int


@dataclass(frozen=True)
class ReadingInformation:
    """What the groups that a reading depends on carry on average over frames."""

    name: str
    size: int
    """Numbers that an agent gets."""
    groups: int
    kl: float
    """Nats a frame."""
    active_channels: int
    channels: int

    @property
    def is_informative(self) -> bool:
        """At least half of the channels are active."""
        return 2 * self.active_channels >= self.channels


@runtime_checkable
class HasGroups(Protocol):
    """Its latents come in groups, each given those before it, the coarsest first. `kl_per_unit` is that of `Generates`."""

    def group_information(self, kl_per_unit: dict[str, Tensor]) -> list[GroupInformation]:
        """Return what every group carries, coarsest first."""

    def reading_information(self, kl_per_unit: dict[str, Tensor]) -> list[ReadingInformation]:
        """Return what every reading can tell an agent."""

    def recommended_reading(self, kl_per_unit: dict[str, Tensor]) -> tuple[str, str]:
        """Return the reading that suits agents best, and why, in words."""


@dataclass(frozen=True)
class SlotsFound:
    """What a model of K slots makes of N frames. The lists have an entry a level: its layers, then its refinements, the final one last.

    Masks are in [0, 1] and sum to 1 over the slots of a pixel; slots have no order.
    """

    masks: list[Tensor]
    """(N, K, H, W)."""
    pictures: list[Tensor]
    """The colours of every slot, (N, K, 3, H, W) in [0, 1]."""
    reconstruction: list[Tensor]
    """The slots' colours by their masks, (N, 3, H, W) in [0, 1]."""
    means: Tensor
    """(N, K, D) of the final posterior."""
    deviations: Tensor
    """(N, K, D) of the final posterior."""
    kl: Tensor
    """Nats a frame (N,), summed over slots: the last KL that the model's loss has."""
    attention: list[Tensor | None] = field(default_factory=list)
    """(N, K, h, w) of the levels that attend, else None."""
    logits: list[Tensor] = field(default_factory=list)
    """Mask logits (N, K, H, W) before the soft-max over slots, where the model has them."""
    levels: list[str] = field(default_factory=list)
    """The levels in words, such as "layer 1" and "refinement 2"."""


@runtime_checkable
class HasSlots(Protocol):
    """Describes a frame by K slots that have no order; each decodes by itself to colours and a mask."""

    def slots(self, frames: Tensor, refinements: int | None = None) -> SlotsFound:
        """Return the slots of frames (N, C, H, W), deterministically; `refinements` None is as many as the preset tests with.

        Works whether gradients are enabled or not.
        """

    def decode_slots(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Return the colours (N, K, 3, H, W) in [0, 1] and the masks (N, K, H, W) of slots (N, K, D)."""


@runtime_checkable
class TracksSlots(Protocol):
    """Its slots can start from anywhere: from those of the frame before, they may keep to their objects."""

    def slot_starts(self, count: int, fresh: bool = False) -> Tensor:
        """Return where the slots of `count` frames start (N, K, D) without a frame before: from kept noise, or `fresh` from new noise."""

    def slots_from(self, frames: Tensor, starts: Tensor) -> tuple[Tensor, Tensor]:
        """Return the slots (N, K, D) that agents get of frames (N, C, H, W), given where they start, and their masks (N, K, H, W).

        The slots are where those of the next frame can start. Works whether gradients are enabled or not.
        """


@runtime_checkable
class EstimatesMemory(Protocol):
    """Can take more memory than a machine has, and knows about how much."""

    def training_bytes(self, clips: int, device: str) -> int:
        """Return about how many bytes a training step of so many clips takes on "cpu" or "cuda", beside the weights."""


@runtime_checkable
class ReadsPublished(Protocol):
    """Takes the weights of checkpoints that others have published."""

    def published_weights(self, content: object) -> dict[str, Tensor]:
        """Return the weights in the content of a checkpoint's file by this model's names.

        Raises `ValueError`, whose words follow the file's name, for content that does not fit this model.
        """


def to_float(frames: Tensor) -> Tensor:
    """Turn uint8 frames (..., H, W, C) into float32 (..., C, H, W) in [0, 1]."""
    return frames.movedim(-1, -3).to(torch.float32).div_(255)


def batch_norms(module: nn.Module) -> list[nn.modules.batchnorm._BatchNorm]:
    """Return every batch normalisation inside a module, synchronised ones too."""
    return [part for part in module.modules() if isinstance(part, nn.modules.batchnorm._BatchNorm)]


@contextmanager
def estimated_anew(module: nn.Module) -> Iterator[None]:
    """Set the statistics of all batch normalisations to the plain mean over what passes through `module` meanwhile.

    A layer that nothing passes through keeps its own, and so does one that the module keeps in evaluation mode. The module is in training
    mode inside, and as it was after.
    """
    training = module.training
    layers = [layer for layer in batch_norms(module.train()) if layer.training]
    before = [(layer.momentum, layer.running_mean.clone(), layer.running_var.clone()) for layer in layers]  # type: ignore[union-attr]
    for layer in layers:
        layer.momentum = None
        layer.reset_running_stats()
    try:
        yield
    finally:
        module.train(training)
        for layer, (momentum, mean, variance) in zip(layers, before, strict=True):
            layer.momentum = momentum
            if not layer.num_batches_tracked:
                layer.running_mean.copy_(mean)  # type: ignore[union-attr]
                layer.running_var.copy_(variance)  # type: ignore[union-attr]
