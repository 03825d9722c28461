"""What EfficientMORL and Slot Attention share: a frame's tokens, slots that look at them, a decoder, readings, memory.

Shapes: B batch, N frames, K slots, D numbers of a slot, P tokens of a frame, H height, W width, h, w size of the tokens' map.
"""

from typing import Any

import torch
from torch import Tensor, nn

from encoders.efficientmorl.decoders import make_decoder
from encoders.efficientmorl.distributions import Noise, Slots, drawn, none
from encoders.efficientmorl.hyperparameters import SlotHyperparameters
from encoders.efficientmorl.likelihoods import Drawn
from encoders.efficientmorl.networks import Attention, ImageEncoder
from encoders.efficientmorl.published import weights_of_published
from encoders.efficientmorl.readings import reading_shapes, readings_of
from encoders.encoder import Encoder, State

_BYTES = 12
"""That a training step takes for each number that a convolution gives: measured, all presets are within a fifth."""


class SlotEncoder(Encoder):
    """Encode a frame into slots: K parts of it, in no order.

    The readings: `slots`, the means of every slot with its mask's area, centroid (x, y), spread and existence (K, D + 5); `slots_flat`, the
    same in a row; `masks`, those of all slots (K, 8, 8). They are deterministic: slots start from one draw of noise that is kept with
    the weights, and everything after is a mean. With `tracking`, they start from the means of the frame before.
    """

    hyperparameters: SlotHyperparameters
    set_readings = frozenset({"slots", "masks"})
    noise: Tensor

    def __init__(self, hyperparameters: SlotHyperparameters) -> None:
        super().__init__()
        self.hyperparameters = h = hyperparameters
        self.frame_shape, size = h.frame_shape, (h.frame_shape[0], h.frame_shape[1])
        self.latents = reading_shapes(h.slots, h.slot_size)
        self.image_encoder = ImageEncoder(h.encoder_channels, h.encoder_strides, size)
        self.attention = Attention(h.encoder_channels, h.slot_size)
        self.start = nn.Parameter(torch.cat([torch.zeros(1, h.slot_size), torch.ones(1, h.slot_size)], -1))
        self.decoder = make_decoder(h.decoder, h.slot_size, h.decoder_channels, size)
        self.register_buffer("noise", torch.randn(h.slots, h.slot_size))

    def initial_state(self, batch_size: int) -> State:
        """Return where slots start without a frame before, {} without tracking."""
        return {"slots": self.first_slots(batch_size)} if self.hyperparameters.tracking else {}

    def encode(self, frames: Tensor, state: State, action: Tensor | None = None, latents: str | None = None) -> tuple[Tensor, State]:
        reading = self.reading(latents)
        means_NKD, masks_NKhw = self._described(frames, state.get("slots"))
        return readings_of(means_NKD, masks_NKhw)[reading], {"slots": means_NKD} if state else {}

    def encode_clip(self, frames: Tensor, actions: Tensor | None = None, latents: str | None = None) -> Tensor:
        reading = self.reading(latents)
        return self.clip_readings(frames)[reading]

    def clip_readings(self, frames: Tensor, actions: Tensor | None = None) -> dict[str, Tensor]:
        count, length = frames.shape[:2]
        if not self.hyperparameters.tracking:
            readings = readings_of(*self._described(frames.flatten(0, 1), None))
            return {name: found.unflatten(0, (count, length)) for name, found in readings.items()}
        z_NKD, steps = self.first_slots(count), []
        for frame in frames.unbind(1):
            z_NKD, masks_NKhw = self._described(frame, z_NKD)
            steps.append(readings_of(z_NKD, masks_NKhw))
        return {name: torch.stack([step[name] for step in steps], 1) for name in self.latents}

    def slot_starts(self, count: int, fresh: bool = False) -> Tensor:
        return self.first_slots(count, drawn if fresh else None)

    def slots_from(self, frames: Tensor, starts: Tensor) -> tuple[Tensor, Tensor]:
        means_NKD, _ = self.final_slots(frames, starts)
        return means_NKD, self.draw(means_NKD).masks

    def decode_slots(self, z: Tensor) -> tuple[Tensor, Tensor]:
        drawn = self.draw(z)
        return drawn.colours, drawn.masks

    def draw(self, z_NKD: Tensor, ramp: Tensor | None = None) -> Drawn:
        """Decode every slot by itself, all of them at once; `ramp` is the decoder's, for who draws often."""
        count, slots = z_NKD.shape[:2]
        colours, logits = self.decoder(z_NKD.flatten(0, 1), ramp)
        return Drawn(colours.unflatten(0, (count, slots)), logits.unflatten(0, (count, slots)))

    def first_slots(self, count: int, noise: Noise | None = None) -> Tensor:
        """Return where slots start (N, K, D): one distribution for all, told apart by their noise; None is the one that is kept."""
        return self.start_slots(count).draw(noise or self.kept_noise())

    def kept_noise(self) -> Noise:
        """Return the noise of what is to be deterministic: the kept one tells slots apart at the start, and all draws after are means."""
        first = [self.noise]
        return lambda like: first.pop().expand_as(like) if first else none(like)

    def start_slots(self, count: int) -> Slots:
        """Return the distribution that slots start from, (N, K, D)."""
        h = self.hyperparameters
        return Slots(*self.start.expand(count, h.slots, -1).chunk(2, -1))

    def keys_and_values(self, tokens_NPE: Tensor) -> tuple[Tensor, Tensor]:
        return self.attention.key(tokens_NPE), self.attention.value(tokens_NPE)

    def on_map(self, share_NKP: Tensor) -> Tensor:
        """Lay shares of tokens out as maps (N, K, h, w)."""
        return share_NKP.unflatten(-1, self.image_encoder.size)

    def final_slots(self, x_N3HW: Tensor, z_NKD: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return the slots' means (N, K, D) and the last attention (N, K, h, w), given where they start."""
        raise NotImplementedError

    def frames_at_once(self, device: str, count: int) -> int:
        """Return how many of so many frames are decoded together."""
        return count

    def training_bytes(self, clips: int, device: str) -> int:
        height, width, channels = self.frame_shape
        seen = _numbers_made(self.image_encoder, self.noise.new_zeros(1, channels, height, width))
        drawn = self.hyperparameters.slots * _numbers_made(self.decoder, self.noise[:1])
        return _BYTES * (clips * seen + min(clips, self.frames_at_once(device, clips)) * drawn)

    def published_weights(self, content: object) -> dict[str, Tensor]:
        return weights_of_published(content, self.state_dict())

    def _described(self, x_N3HW: Tensor, z_NKD: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return the slots' means and their masks (N, K, h, w)."""
        means_NKD, share = self.final_slots(x_N3HW, self.first_slots(len(x_N3HW)) if z_NKD is None else z_NKD)
        if self.hyperparameters.masks_from == "decoder":
            return means_NKD, self.draw(means_NKD).masks
        assert share is not None, "hyperparameters without layers are refused"
        return means_NKD, share


def _numbers_made(network: nn.Module, argument: Tensor) -> int:
    """Return how many numbers the convolutions of a network give for an argument."""
    counts: list[int] = []

    def note(layer: nn.Module, inputs: Any, output: Tensor) -> None:
        counts.append(output.numel())

    hooks = [part.register_forward_hook(note) for part in network.modules() if isinstance(part, nn.Conv2d | nn.ConvTranspose2d)]
    with torch.no_grad():
        network(argument)
    for hook in hooks:
        hook.remove()
    return sum(counts)
