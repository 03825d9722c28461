"""What an NVAE is made of, checked."""

from dataclasses import dataclass
from typing import Literal, NamedTuple


class GroupPlan(NamedTuple):
    """Where a group of latents stands in the hierarchy."""

    scale: int
    """0 is the coarsest."""
    opens_scale: bool
    """The first group of its scale."""
    size: tuple[int, int]
    """Height and width of its latents."""
    encoder_channels: int
    decoder_channels: int


@dataclass(frozen=True)
class NVAEHyperparameters:
    """The reference's for MineRL: 6,536,376 parameters."""

    frame_shape: tuple[int, int, int] = (64, 64, 3)
    """Height, width and channels of the frames, as the store has them."""
    encoder_channels: int = 32
    """Of the first convolution; they double wherever the size halves."""
    decoder_channels: int = 32
    """Of the image head; they double wherever the size halves."""
    blocks: int = 2
    """Of preprocessing, and as many of postprocessing; each halves, or doubles, the size."""
    preprocess_cells: int = 3
    """Cells a block."""
    postprocess_cells: int = 3
    """Cells a block."""
    scales: int = 1
    """Sizes at which there are latents, each half of the one before."""
    groups: int | tuple[int, ...] = 10
    """Groups of latents at the finest scale, or at each scale, finest first."""
    adaptive_groups: bool = False
    """Every coarser scale has half as many groups as the one before, but `min_groups`; otherwise all have the same number."""
    min_groups: int = 1
    """The least groups of a scale with `adaptive_groups`."""
    encoder_cells: int = 1
    """Bottom-up cells a group."""
    decoder_cells: int = 1
    """Top-down cells a group."""
    latent_channels: int = 20
    """Channels of the latents of every group."""
    cells: Literal[
        "res_mbconv",
        "res_elu",
        "res_bnelu",
        "res_bnswish",
        "mbconv_sep",
        "mbconv_sep11",
        "res53_mbconv",
        "res35_mbconv",
        "res55_mbconv",
        "mbconv_res",
        "mbconv_den",
    ] = "res_mbconv"
    """Kinds of the bottom-up and the top-down cells, see `encoders/nvae/cells.py`."""
    squeeze_excite: bool = False
    """Cells end with a squeeze-and-excitation block."""
    residual_posterior: bool = False
    """Posteriors are predicted relative to their priors."""
    flows: int = 0
    """Pairs of inverse autoregressive flows that every group's posterior goes through."""
    mixtures: int = 10
    """Logistics mixed in a pixel's likelihood; 1: a Gaussian instead."""
    bits: int = 8
    """Of a pixel's channel; with fewer, frames are made coarser first."""
    coarse_scales: int = 1
    """Scales whose groups the reading `coarse` holds, from the coarsest on."""
    default_latents: Literal["auto", "top", "coarse", "pooled"] = "auto"
    """The reading that agents get unless they name another; auto: what validation finds informative when training ends."""
    kl_constant_steps: int = 0
    """Steps at the beginning with the KL at `kl_minimum`."""
    kl_warmup_steps: int = 0
    """Steps after them in which the KL's weight rises to 1; groups are balanced until then."""
    kl_minimum: float = 1e-4
    """The KL's weight in those steps."""
    regularisation: float = 0.0
    """Weight of the spectral norms of all convolutions and the largest gains of all batch normalisations."""
    regularisation_start: float | None = None
    """That weight at the beginning; it goes to `regularisation` log-linearly as the KL's weight rises. Null: it is constant."""
    checkpoint_activations: bool = False
    """Keep only the cells' inputs for the backward pass and compute their insides again: a sixth of the memory, up to a third more time."""

    @property
    def groups_per_scale(self) -> tuple[int, ...]:
        """Groups at each scale, finest first."""
        if isinstance(self.groups, tuple):
            return self.groups
        counts = [self.groups]
        for _ in range(self.scales - 1):
            counts.append(max(self.min_groups, counts[-1] // 2) if self.adaptive_groups else self.groups)
        return tuple(counts)

    @property
    def plan(self) -> list[GroupPlan]:
        """All groups in the order in which latents are drawn, coarsest scale first."""
        return [
            GroupPlan(scale, index == 0, *self._at(self.blocks + self.scales - 1 - scale))
            for scale, count in enumerate(reversed(self.groups_per_scale))
            for index in range(count)
        ]

    def _at(self, halvings: int) -> tuple[tuple[int, int], int, int]:
        height, width = (size >> halvings for size in self.frame_shape[:2])
        return (height, width), self.encoder_channels << halvings, self.decoder_channels << halvings

    def __post_init__(self) -> None:
        _check_counts(self)
        _check_groups(self)
        _check_frames(self)
        _check_objective(self)


def _check_counts(h: NVAEHyperparameters) -> None:
    counts = (
        "encoder_channels",
        "decoder_channels",
        "preprocess_cells",
        "postprocess_cells",
        "scales",
        "min_groups",
        "encoder_cells",
        "decoder_cells",
        "latent_channels",
        "mixtures",
        "coarse_scales",
    )
    for name in counts:
        if getattr(h, name) < 1:
            raise ValueError(f"{name} must be 1 or more")
    if h.blocks < 0 or h.flows < 0:
        raise ValueError("blocks and flows must be 0 or more")
    if h.cells == "mbconv_den" and (h.encoder_channels % 8 or h.decoder_channels % 8):
        raise ValueError("cells 'mbconv_den' has convolutions in 8 groups: encoder_channels and decoder_channels must be multiples of 8")


def _check_groups(h: NVAEHyperparameters) -> None:
    if h.scales > 16 or sum(h.groups_per_scale) > 1000:
        raise ValueError("groups must be at most 1,000 in all, on at most 16 scales")
    if isinstance(h.groups, tuple):
        if len(h.groups) != h.scales:
            raise ValueError(f"groups has {len(h.groups)} counts for {h.scales} scales: give one a scale, finest first, or one number")
        if h.adaptive_groups:
            raise ValueError("groups has a count for every scale, and adaptive_groups would choose them: leave one of the two out")
    if min(h.groups_per_scale) < 1:
        raise ValueError("groups must be 1 or more at every scale")
    if h.adaptive_groups and h.min_groups > h.groups_per_scale[0]:
        raise ValueError(f"min_groups {h.min_groups} is more than the finest scale has: groups {h.groups}")
    if h.coarse_scales > h.scales:
        raise ValueError(f"coarse_scales {h.coarse_scales} is more than there are: scales {h.scales}")


def _check_frames(h: NVAEHyperparameters) -> None:
    height, width, channels = h.frame_shape
    shrink = 2 ** (h.blocks + h.scales - 1)
    if any(size < shrink or size % shrink for size in (height, width)):
        raise ValueError(
            f"frame_shape {tuple(h.frame_shape)}: height and width must be multiples of {shrink}, 2 to the power of "
            f"{h.blocks} blocks and {h.scales} scales less 1; take fewer of either"
        )
    if h.mixtures > 1 and channels != 3:
        raise ValueError(f"frame_shape {tuple(h.frame_shape)}: a mixture of logistics is for 3 channels; set mixtures to 1 for a Gaussian")


def _check_objective(h: NVAEHyperparameters) -> None:
    if not 1 <= h.bits <= 8:
        raise ValueError("bits must be from 1 to 8")
    if h.kl_constant_steps < 0 or h.kl_warmup_steps < 0 or not 0 <= h.kl_minimum <= 1:
        raise ValueError("kl_constant_steps and kl_warmup_steps must be 0 or more, and kl_minimum from 0 to 1")
    if h.regularisation < 0:
        raise ValueError("regularisation must be 0 or more")
    if h.regularisation_start is not None and min(h.regularisation_start, h.regularisation) <= 0:
        raise ValueError("regularisation_start and regularisation must be greater than 0, or regularisation_start null")
