"""Slot Attention (Locatello et al. 2020): what EfficientMORL is without its distributions, hierarchy and refinement.

Shapes: N frames, K slots, D numbers of a slot, P tokens of a frame, H height, W width.
"""

import math

import torch
from torch import Tensor, nn

from encoders.efficientmorl.distributions import Noise, drawn
from encoders.efficientmorl.hyperparameters import SlotAttentionHyperparameters
from encoders.efficientmorl.likelihoods import LOG_2_PI_HALF, gaussian
from encoders.efficientmorl.networks import Residual, start_values
from encoders.efficientmorl.slots import SlotEncoder
from encoders.encoder import Batch, SlotsFound

HIDDEN = 128


class SlotAttention(SlotEncoder):
    """Take a frame to pieces, by squared error alone: a few rounds of attention, every slot decoded to colours and a mask."""

    Hyperparameters = SlotAttentionHyperparameters
    hyperparameters: SlotAttentionHyperparameters

    def __init__(self, hyperparameters: SlotAttentionHyperparameters | None = None) -> None:
        h = hyperparameters or SlotAttentionHyperparameters()
        super().__init__(h)
        self.gru = nn.GRUCell(h.slot_size, h.slot_size)
        self.residual = Residual(h.slot_size, HIDDEN)
        start_values(h.start_gain, self.decoder)

    def loss(self, batch: Batch, step: int, noise: Noise = drawn) -> dict[str, Tensor]:
        """Return `loss`, the squared error of colours in [0, 1] summed over a frame, and `mse`, its mean.

        `negative_elbo` is that of a Gaussian likelihood with deviation `sigma`: nothing else is coded.
        """
        h, x_N3HW = self.hyperparameters, batch.frames.flatten(0, 1)
        z_NKD = self._rounds(x_N3HW, self.first_slots(len(x_N3HW), noise))[-1][0]
        found = self.draw(z_NKD)
        error_N = (found.picture - x_N3HW).square().sum((1, 2, 3))
        negative_elbo = gaussian(x_N3HW, found, h.sigma).mean().detach() + math.prod(h.frame_shape) * LOG_2_PI_HALF
        mse = error_N.mean().detach() / math.prod(h.frame_shape)
        return {"loss": error_N.mean(), "mse": mse, "negative_elbo": negative_elbo}

    def slots(self, frames: Tensor, refinements: int | None = None) -> SlotsFound:
        """Return what the slots are after every round; there is no refinement to do."""
        with torch.no_grad():
            rounds = self._rounds(frames, self.first_slots(len(frames)))
            levels, means_NKD = [self.draw(z_NKD) for z_NKD, _ in rounds], rounds[-1][0]
            return SlotsFound(
                masks=[one.masks for one in levels],
                pictures=[one.colours for one in levels],
                reconstruction=[one.picture for one in levels],
                means=means_NKD,
                deviations=torch.zeros_like(means_NKD),
                kl=means_NKD.new_zeros(len(means_NKD)),
                attention=[self.on_map(share) for _, share in rounds],
                logits=[one.logits for one in levels],
                levels=[f"round {index}" for index in range(1, len(rounds) + 1)],
            )

    def final_slots(self, x_N3HW: Tensor, z_NKD: Tensor) -> tuple[Tensor, Tensor | None]:
        means_NKD, share_NKP = self._rounds(x_N3HW, z_NKD)[-1]
        return means_NKD, self.on_map(share_NKP)

    def _rounds(self, x_N3HW: Tensor, z_NKD: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Return the slots and their shares of the tokens after every round."""
        tokens_NPE = self.image_encoder(x_N3HW)
        with torch.autocast(x_N3HW.device.type, enabled=False):
            key_NPD, value_NPD = self.keys_and_values(tokens_NPE)
            rounds = []
            for _ in range(self.hyperparameters.iterations):
                seen_NKD, share_NKP = self.attention(z_NKD, key_NPD, value_NPD)
                z_NKD = self.residual(self.gru(seen_NKD.flatten(0, 1), z_NKD.flatten(0, 1))).view_as(z_NKD)
                rounds.append((z_NKD, share_NKP))
        return rounds
