"""What a critic is made of and how it learns, checked."""

from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True)
class CriticHyperparameters:
    """The published commands' sizes: 11,873 parameters for the value, 13,785 for the mask. The paper's have `factor` 5."""

    frame_shape: tuple[int, int, int] = (64, 64, 3)
    """Height, width and channels of the frames, as the store has them."""
    factor: int = 1
    """Multiplies the channels of all layers but the last two."""
    dropout: float = 0.3
    """Share of units that are dropped in training, after the convolutions and before the value."""
    features: str | None = None
    """The folder of a trained encoder: its frozen feature maps take the place of the critic's own convolutions, and become part of it."""
    separate: bool = False
    """The mask has convolutions of its own instead of the critic's."""

    gamma: float = 0.98
    """Discount of a recorded frame in the reward to come."""
    leave_out_before: int = 0
    """Frames before a reward that are not learned from."""
    leave_out_after: int = 35
    """Frames after a reward that are not learned from: with 35, crowns of trees whose trunk was just cut."""
    reference_gaps: bool = False
    """Leave frames out before the rewards are discounted, so that the gaps close up, as published."""
    binarise_above: float | None = None
    """Learn whether the reward to come is above this instead of how large it is."""
    value_loss: Literal["mse", "bce"] = "mse"
    """Squared error, or cross-entropy, of the value and the reward to come."""

    value_steps: int = 4000
    """Steps that train the value alone; the steps after them swap pixels to train the mask."""
    swapped_frames: int = 64
    """Frames A of a step whose masked pixels are swapped: half of high value, half of low, drawn from the batch; as many low ones are B."""
    high_above: float = 0.7
    """Reward to come, from 0 to 1, above which a frame is of high value."""
    low_below: float = 0.3
    """Reward to come below which it is of low value."""
    least_frames: int = 500
    """Frames of high value, and as many of low value, that a store must have."""
    critic: Literal["live", "frozen"] = "live"
    """Whether the critic goes on learning while the mask does."""
    value_frames: Literal["batch", "swapped"] = "batch"
    """What a live critic goes on learning values from: all of the batch, or, as published, frames A alone, which can blunt it."""
    critic_weight: float = 5.0
    """Of the value's error beside the swapping."""
    inject: bool = True
    """Also ask that A's masked pixels raise B's value, not only that B's lower A's."""
    l1: float = 0.5
    """Weight of the mask's mean."""
    l2: float = 0.0
    """Weight of the mask's mean square."""
    norm_weight: Literal["static", "value"] = "static"
    """Ask for small masks in all frames alike, or the more the lower a frame's value is."""
    shift: int = 11
    """Frames are shifted sideways by up to so many pixels; what comes in at the border is the picture mirrored there."""

    @property
    def label_options(self) -> dict[str, Any]:
        """The options of the label `reward_to_come`."""
        names = ("gamma", "leave_out_before", "leave_out_after", "reference_gaps")
        return {name: getattr(self, name) for name in names} | {"binarised": True, "capped": True}

    def __post_init__(self) -> None:
        for name in ("factor", "swapped_frames"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be 1 or more")
        for name in ("value_steps", "critic_weight", "l1", "l2", "leave_out_before", "leave_out_after"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must be 0 or more")
        if not 0 <= self.dropout < 1 or not 0 < self.gamma <= 1:
            raise ValueError("dropout must be at least 0 and below 1, gamma above 0 and at most 1")
        if not 0 < self.low_below <= self.high_above < 1:
            raise ValueError("low_below and high_above must be between 0 and 1, low_below the smaller one")
        if self.binarise_above is not None and not 0 <= self.binarise_above < 1:
            raise ValueError("binarise_above must be at least 0 and below 1, or null to learn how large the reward to come is")
        height, width, _ = self.frame_shape
        if any(size < 16 or size % 16 for size in (height, width)):
            raise ValueError(f"frame_shape {tuple(self.frame_shape)}: height and width must be multiples of 16")
        if not 0 <= self.shift < width:
            raise ValueError(f"shift must be at least 0 and below the frames' width, {width}")
