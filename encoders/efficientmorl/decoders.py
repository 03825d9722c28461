"""Three spatial broadcast decoders: each slot by itself to colours and a mask logit a pixel. Needs nothing but torch.

The first layer's input is the slot, the same at every place, plus a projection of the position ramp. A convolution is linear: the ramp is
convolved once for all slots, and the slot goes through the sum of the kernel's taps, or at the border of those that lie inside.

Shapes: M slots of all frames, D numbers of a slot, C channels, H height, W width.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from encoders.efficientmorl.networks import position_ramp

OUTPUTS = 4


class Decoder(nn.Module):
    """A stack of convolutions over a slot laid out on a grid."""

    def __init__(self, slot_size: int, grid: tuple[int, int], layers: list[nn.Module]) -> None:
        super().__init__()
        self.position = nn.Linear(4, slot_size)
        self.layers = nn.Sequential(*layers)
        self.register_buffer("ramp", position_ramp(*grid), persistent=False)

    def forward(self, z_MD: Tensor) -> tuple[Tensor, Tensor]:
        """Return colours (M, 3, H, W) in [0, 1] and mask logits (M, H, W)."""
        *hidden, last = list(self.layers)[1:]
        x_MCHW = self.first(z_MD)
        for layer in hidden:
            x_MCHW = layer(x_MCHW)
        with torch.autocast(z_MD.device.type, enabled=False):
            # 16 bits would round what colours and masks are made from
            drawn_M4HW = last(x_MCHW.to(z_MD.dtype))
        return drawn_M4HW[:, :3].sigmoid(), drawn_M4HW[:, 3]

    def first(self, z_MD: Tensor) -> Tensor:
        """Return the first layer of z + ramp."""
        layer = self.layers[0]
        ramp_1DHW = self.position(self.ramp).permute(2, 0, 1).unsqueeze(0)
        if not isinstance(layer, nn.Conv2d):
            return layer(z_MD[:, :, None, None] + ramp_1DHW)
        of_ramp_HWC = layer(ramp_1DHW).squeeze(0).permute(1, 2, 0)
        return (_of_constant(layer, z_MD, of_ramp_HWC.shape[:2]).to(of_ramp_HWC.dtype) + of_ramp_HWC).permute(0, 3, 1, 2)


def _of_constant(layer: nn.Conv2d, z_MD: Tensor, size: torch.Size) -> Tensor:
    """Return what a convolution without its bias makes of a picture that is z everywhere: (M, H, W, C), or without padding (M, 1, 1, C)."""
    kernel_CDkk, padding = layer.weight, int(layer.padding[0])
    if not padding:
        return F.linear(z_MD, kernel_CDkk.sum((2, 3)))[:, None, None]
    # rows and columns of taps that lie inside: all but the first, all, all but the last
    reach = [slice(padding, None), slice(None), slice(None, -padding)]
    columns = [kernel_CDkk[..., inside].sum(-1) for inside in reach]
    taps_9CD = torch.stack([column[..., inside].sum(-1) for inside in reach for column in columns])
    classes_MrcC = torch.einsum("md,rcd->mrc", z_MD, taps_9CD).unflatten(1, (3, 3))
    height, width = size
    across = torch.cat([classes_MrcC[:, :, :1], classes_MrcC[:, :, 1:2].expand(-1, -1, width - 2, -1), classes_MrcC[:, :, 2:]], 2)
    return torch.cat([across[:, :1], across[:, 1:2].expand(-1, height - 2, -1, -1), across[:, 2:]], 1)


def make_decoder(kind: str, slot_size: int, channels: int | None, size: tuple[int, int]) -> Decoder:
    """Return a decoder of frames of `size` (H, W)."""
    height, width = size
    if kind == "iodine":
        return Decoder(slot_size, (height + 10, width + 10), _iodine(slot_size, channels or 64))
    if kind == "small":
        return Decoder(slot_size, (height + 6, width + 6), _small(slot_size, channels or 32))
    return Decoder(slot_size, (height // 16, width // 16), _big(slot_size, channels or 64))


def _iodine(slot_size: int, channels: int) -> list[nn.Module]:
    layers: list[nn.Module] = []
    for index in range(4):
        layers += [nn.Conv2d(channels if index else slot_size, channels, 3), nn.ELU(inplace=True)]
    return [*layers, nn.Conv2d(channels, OUTPUTS, 3)]


def _small(slot_size: int, channels: int) -> list[nn.Module]:
    layers: list[nn.Module] = []
    for index in range(3):
        layers += [nn.Conv2d(channels if index else slot_size, channels, 5, padding=1), nn.ReLU(inplace=True)]
    return [*layers, nn.Conv2d(channels, OUTPUTS, 3, padding=1)]


def _big(slot_size: int, channels: int) -> list[nn.Module]:
    """The published one starts at 6x6 for whatever frames and so draws 96x96 only; here the grid is a sixteenth of the frame."""
    layers: list[nn.Module] = []
    for index in range(4):
        layers += [nn.ConvTranspose2d(channels if index else slot_size, channels, 5, 2, 2, output_padding=1), nn.ReLU(inplace=True)]
    layers += [nn.ConvTranspose2d(channels, channels, 5, padding=2), nn.ReLU(inplace=True)]
    return [*layers, nn.ConvTranspose2d(channels, OUTPUTS, 3, padding=1)]
