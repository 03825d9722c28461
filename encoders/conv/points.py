"""Encoders whose readings say where: a few convolutions, 1x1 ones to maps, and each map as a point, or one as evidence.

They have no decoder and learn from heads alone (encoders/heads). With the defaults, 64x64 pixels become 8x8 maps, for 4 MMAC a frame.
Shapes: B batch, T frames of a clip, N = B*T, C channels, H height, W width, E = H*W of the evidence map.
"""

from collections.abc import Sequence

from torch import Tensor, nn

from encoders.conv.hyperparameters import PointsHyperparameters
from encoders.conv.stack import Layer, finest_first, initialise_as_keras, is_uneven, margins, parse_stack, shrinks
from encoders.conv.where import Where
from encoders.encoder import Batch, Encoder, State


class Points(Encoder):
    """Encode a frame into points, three numbers each: x and y in [-1, 1] of a map's soft-argmax, and the map's log-sum-exp."""

    Hyperparameters = PointsHyperparameters
    has_own_loss = False
    collapse_remedy = "train longer"
    hyperparameters: PointsHyperparameters

    def __init__(self, hyperparameters: PointsHyperparameters | None = None, *, evidence: bool = False) -> None:
        super().__init__()
        self.hyperparameters = h = hyperparameters or PointsHyperparameters()
        self.frame_shape = h.frame_shape
        layers = parse_stack(h.encoder, h.frame_shape[2])
        size = shrinks(layers, h.frame_shape)
        if h.maps < (0 if evidence else 1):
            raise ValueError(f"maps must be {'0' if evidence else '1'} or more, got {h.maps}")
        self.encoder = _trunk(layers)
        self.where = Where(layers[-1].out_channels, size, h.maps, evidence)
        self.latents = dict(sorted(self.where.latents.items(), key=lambda one: one[0] != "both"))
        self.apply(initialise_as_keras)

    def loss(self, batch: Batch, step: int) -> dict[str, Tensor]:
        raise ValueError("it learns from heads alone")

    def loss_and_latents(self, batch: Batch, step: int, readings: Sequence[str]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        return {}, self.some_readings(batch.frames, batch.actions, readings)

    def encode(self, frames: Tensor, state: State, action: Tensor | None = None, latents: str | None = None) -> tuple[Tensor, State]:
        reading = self.reading(latents)
        return self.where(self.encoder(frames), [reading])[reading], state

    def encode_clip(self, frames: Tensor, actions: Tensor | None = None, latents: str | None = None) -> Tensor:
        reading = self.reading(latents)
        return self.some_readings(frames, actions, [reading])[reading]

    def clip_readings(self, frames: Tensor, actions: Tensor | None = None) -> dict[str, Tensor]:
        return self.some_readings(frames, actions, list(self.latents))

    def some_readings(self, frames: Tensor, actions: Tensor | None, names: Sequence[str]) -> dict[str, Tensor]:
        found = self.where(self.encoder(frames.flatten(0, 1)), [self.reading(name) for name in names])
        return {name: latent.unflatten(0, frames.shape[:2]) for name, latent in found.items()}

    def feature_maps(self, frames: Tensor) -> list[Tensor]:
        return finest_first(self.encoder, frames)


class Evidence(Points):
    """Encode a frame into points and a map of evidence: where what explains the value is.

    The log-sum-exp of the map, less 5, is the logit of the value that a head on `evidence` is trained on. The default reading is `both`
    side by side; with no maps, there is `evidence` only.
    """

    def __init__(self, hyperparameters: PointsHyperparameters | None = None) -> None:
        super().__init__(hyperparameters, evidence=True)

    def masks(self, frames: Tensor) -> Tensor:
        """Return (B, T, H, W) in [0, 1]: what the evidence of a place alone would come to as a value."""
        evidence_NE = self.some_readings(frames, None, ["evidence"])["evidence"].flatten(0, 1)
        return self.where.mask(evidence_NE, *frames.shape[-2:]).unflatten(0, frames.shape[:2])


def _trunk(layers: Sequence[Layer]) -> nn.Sequential:
    """Return the convolutions, padded alike on all sides: of an odd margin PyTorch leaves out what is too much at the bottom and right."""
    modules: list[nn.Module] = []
    for layer in layers:
        if layer.stride == 1 and is_uneven(layer):
            raise ValueError(f"a layer of stride 1 needs an odd kernel, not {layer.kernel}")
        convolution = nn.Conv2d(layer.in_channels, layer.out_channels, layer.kernel, layer.stride, padding=margins(layer)[1])
        modules += [convolution, nn.ReLU(inplace=True)]
    return nn.Sequential(*modules)
