"""The prior of the hierarchy's latents: top-down or bottom-up. Needs nothing but torch."""

from collections.abc import Sequence

from torch import Tensor, nn

from encoders.efficientmorl.distributions import Noise, Slots

HIDDEN = 128


class PriorNet(nn.Module):
    """p(z_l | a neighbouring layer's z), every layer with the same weights."""

    def __init__(self, slot_size: int) -> None:
        super().__init__()
        self.hidden = nn.Sequential(nn.Linear(slot_size, HIDDEN), nn.ELU(inplace=True))
        self.mean, self.raw = nn.Linear(HIDDEN, slot_size), nn.Linear(HIDDEN, slot_size)

    def forward(self, z_NKD: Tensor) -> Slots:
        hidden = self.hidden(z_NKD)
        return Slots(self.mean(hidden), self.raw(hidden))


def layer_priors(net: PriorNet, posteriors: Sequence[Slots], kind: str, noise: Noise) -> list[Slots | None]:
    """Return the prior of every layer, the first layer's first; None is N(0, 1).

    `reversed`: the last layer's is N(0, 1), and each of the others' is given a fresh draw of the posterior above. `bottom_up`: the first
    layer's is N(0, 1), and each of the others' is given a draw of the posterior below.
    """
    if not posteriors:
        return []
    order = posteriors if kind == "bottom_up" else posteriors[::-1]
    priors: list[Slots | None] = [None, *(net(neighbour.draw(noise)) for neighbour in order[:-1])]
    return priors if kind == "bottom_up" else priors[::-1]
