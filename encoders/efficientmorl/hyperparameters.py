"""What an EfficientMORL, or the Slot Attention it is compared with, is made of, checked."""

from dataclasses import dataclass
from typing import Literal

MOST_SLOTS = 2**16
"""More than pixels of a frame say nothing, and their noise alone would fill a memory before anything is estimated."""
STATISTICS = 5
"""Numbers of a slot's mask in the reading `slots`: area, centroid (x, y), spread, existence."""


@dataclass(frozen=True)
class SlotHyperparameters:
    """What both models have in common."""

    frame_shape: tuple[int, int, int] = (64, 64, 3)
    """Height, width and channels of the frames, as the store has them."""
    slots: int = 6
    """K: parts that a frame is taken to pieces in."""
    slot_size: int = 64
    """D: numbers that describe a part."""
    encoder_channels: int = 64
    """Of every convolution, and of the tokens."""
    encoder_strides: tuple[int, ...] = (1, 1, 1, 1)
    """One 5x5 convolution each."""
    decoder: Literal["iodine", "small", "big"] = "iodine"
    """`iodine`: 3x3 convolutions at full size; `small`: 5x5 ones; `big`: transposed ones from a sixteenth of the size, the least memory."""
    decoder_channels: int | None = None
    """None: the paper's, 64, and 32 for `small`."""
    start_gain: float = 0.02
    """Of the kernels' start values, times Glorot's. With the published fiftieth all slots are grey at first, whatever the frame."""
    sigma: float = 0.1
    """Standard deviation of a pixel's colour, in [0, 1]."""
    masks_from: Literal["attention", "decoder"] = "attention"
    """Where readings have the slots' masks from: the last attention, which costs nothing, or the decoder, which draws sharper ones."""
    tracking: bool = False
    """A slot starts from where it was one frame before, so that it keeps to its object: the encoder then has memory."""

    def __post_init__(self) -> None:
        height, width, _ = self.frame_shape
        for name in ("slots", "slot_size", "encoder_channels", "start_gain", "sigma"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be greater than 0")
        if self.slots > MOST_SLOTS:
            raise ValueError(f"slots {self.slots:,}: the limit is {MOST_SLOTS:,}")
        if not self.encoder_strides or min(self.encoder_strides) < 1:
            raise ValueError("encoder_strides: one stride of 1 or more for each convolution, as in [2, 2, 1, 1]")
        if self.decoder_channels is not None and self.decoder_channels < 1:
            raise ValueError("decoder_channels must be 1 or more, or null for the paper's")
        if self.decoder == "big" and (height % 16 or width % 16):
            raise ValueError(
                f"the decoder 'big' draws sizes that 16 divides, frame_shape is {height}x{width}: take 'iodine' or 'small', or other frames"
            )


@dataclass(frozen=True)
class EfficientMORLHyperparameters(SlotHyperparameters):
    """The paper's for Multi-dSprites: 666,500 parameters."""

    layers: int = 3
    """L: of bottom-up inference, all with the same weights; 0: by refinement alone."""
    refinement_curriculum: tuple[tuple[int, int], ...] = ((-1, 3),)
    """[step, I]: from that optimizer step on, I steps of refinement. The first step is -1."""
    test_refinements: int | None = None
    """Steps of refinement where a trained model is judged; None: the curriculum's last I."""
    encode_refinements: int = 0
    """Steps of refinement before the readings are taken; each decodes and goes back once."""
    dual_gru: bool = True
    """One GRU for the means and one for the variances; otherwise one for both together."""
    dual_gru_deviation: float = 1.0
    """Of the start values of its weights and biases. The published 1 saturates its gates where D is 64."""
    prior: Literal["reversed++", "reversed", "bottom_up"] = "reversed++"
    """`reversed`: top-down, refined posteriors are compared with N(0, 1), `reversed++`: with p(z1 | z2); `bottom_up`: p(z_l | z_(l-1))."""
    likelihood: Literal["gaussian", "mixture"] = "gaussian"
    """Of a pixel: a Gaussian around the slots' mixed colours, or a mixture of a Gaussian each."""
    beta: float = 1.0
    """Weight of the KL. 0: the likelihood alone, without GECO."""
    loss_weights: Literal["code", "paper"] = "code"
    """Of step i of I: `code`, what the figures were made with, (I + 3 - i)/(I + 1); `paper`, 1 and then (I + 1 - i)/(I + 1)."""
    geco: bool = False
    """Weigh the likelihood so that it reaches `geco_target`."""
    geco_target: float | None = None
    """The log-likelihood to reach with its sign changed: nats a pixel and channel, without the constant of 2 pi."""
    geco_warmup_steps: int = 1000
    """Steps before the weight begins to move."""
    geco_decay: float = 0.99
    """Of the running average of how far the target is."""
    geco_rate: float = 1e-6
    """How fast the weight moves a step."""
    geco_acceleration: float = 1.0
    """How much faster the weight falls than it rises."""

    def __post_init__(self) -> None:
        super().__post_init__()
        steps = [step for step, _ in self.refinement_curriculum]
        if not steps or steps[0] != -1 or steps != sorted(set(steps)):
            raise ValueError("refinement_curriculum: pairs of a step and I, the first step -1, then rising: [[-1, 3], [100000, 1]]")
        if min(count for _, count in self.refinement_curriculum) < 0 or self.encode_refinements < 0 or (self.test_refinements or 0) < 0:
            raise ValueError("refinement takes 0 steps or more")
        if self.layers < 0 or self.beta < 0:
            raise ValueError("layers and beta must be 0 or more")
        if self.layers == 0 and (self.encode_refinements == 0 or self.masks_from == "attention" or self.tracking):
            raise ValueError("without layers only refinement sees the frame: encode_refinements 1 or more, masks_from decoder, no tracking")
        if self.geco and self.geco_target is None:
            raise ValueError(
                "geco needs geco_target; train without it for about 10,000 steps, then the same command with --geco suggest proposes one"
            )

    def refinements(self, step: int) -> int:
        """Return I before optimizer step `step`."""
        return next(count for start, count in reversed(self.refinement_curriculum) if start <= step)

    @property
    def judged_refinements(self) -> int:
        return self.refinement_curriculum[-1][1] if self.test_refinements is None else self.test_refinements


@dataclass(frozen=True)
class SlotAttentionHyperparameters(SlotHyperparameters):
    """The deterministic baseline that the paper compares with."""

    iterations: int = 3
    """Of attention, with the same weights."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.iterations < 1:
            raise ValueError("iterations must be 1 or more")
