"""What the groups of an NVAE's latents carry, and which reading is worth giving to an agent.

Shapes: Z latent channels, L groups.
"""

from collections.abc import Sequence

from torch import Tensor

from encoders.encoder import GroupInformation, ReadingInformation
from encoders.nvae.hyperparameters import GroupPlan

ACTIVE_CHANNEL_NATS = 0.1
_RECOMMENDED = ("top", "coarse", "pooled")


def of_groups(plan: Sequence[GroupPlan], pooled_kl: Tensor) -> list[GroupInformation]:
    """Return what every group carries, coarsest first, from the KL of the channels (L*Z,): the reading `pooled` of `kl_per_unit`."""
    kl_LZ = pooled_kl.view(len(plan), -1)
    return [
        GroupInformation(at.scale, at.size, float(kl_Z.sum()), int((kl_Z > ACTIVE_CHANNEL_NATS).sum()), len(kl_Z))
        for at, kl_Z in zip(plan, kl_LZ, strict=True)
    ]


def of_readings(groups: Sequence[GroupInformation], counts: dict[str, int], sizes: dict[str, int]) -> list[ReadingInformation]:
    """Return what each reading can tell an agent, given how many groups it depends on and how many numbers it has, by name.

    `top_down` follows from the coarsest size's groups.
    """
    found = []
    for name in (*_RECOMMENDED, "top_down"):
        held = groups[: counts[name]]
        active, channels = sum(group.active_channels for group in held), sum(group.channels for group in held)
        found.append(ReadingInformation(name, sizes[name], len(held), sum(group.kl for group in held), active, channels))
    return found


def recommended(readings: Sequence[ReadingInformation]) -> tuple[str, str]:
    """Return the first of the readings `top`, `coarse` and `pooled` with half of its latent channels active, else `pooled`; and why."""
    for reading in readings:
        if reading.name in _RECOMMENDED and reading.is_informative:
            return reading.name, "the first of top, coarse and pooled with at least half of its channels active"
    return "pooled", "for want of a reading with at least half of its channels active"
