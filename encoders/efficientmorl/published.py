"""The weights of a published checkpoint under our names. Needs nothing but torch.

Each of our tensors is one of theirs, or some of theirs one below the other: their dual GRU keeps reset and update gates apart from the
candidate, and its biases of means and variances in one tensor.
"""

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor


class Piece(NamedTuple):
    """A tensor of theirs, or of its `parts` equal parts along the first axis those from `first` to before `end`."""

    name: str
    first: int = 0
    end: int = 1
    parts: int = 1

    def of(self, tensor: Tensor) -> Tensor:
        if self.parts == 1:
            return tensor
        size = len(tensor) // self.parts
        return tensor[self.first * size : self.end * size]


_PLAIN = {
    "geco.beta": "geco_beta",
    "geco.distance": "geco_C_ema",
    "start": "init_posterior",
    "image_encoder.position": "pos_embed_projection",
    "image_encoder.convolutions.": "encoder_pt_1.",
    "image_encoder.mlp.": "encoder_pt_2.",
    "attention.norm": "norm_slots",
    "attention.query": "to_q",
    "attention.key": "to_k",
    "attention.value": "to_v",
    "refine_mean.norm": "norm_mu_pre_ff",
    "refine_mean.mlp.": "mlp_mu.",
    "refine_raw.norm": "norm_softplus_pre_ff",
    "refine_raw.mlp.": "mlp_softplus.",
    "gru.widen": "project_update",
    "gru.both.": "gru.",
    "decoder.layers.": "image_decoder.decode.",
    "decoder.position": "image_decoder.pos_embed_projection",
    "prior.hidden": "indep_prior.z_linear",
    "prior.mean": "indep_prior.z_mu",
    "prior.raw": "indep_prior.z_softplus",
    "refinement.encoding": "refinenet.encoding",
    "refinement.gru.": "refinenet.recurrence.",
    "refinement.mean": "refinenet.loc",
    "refinement.raw": "refinenet.softplus",
}
"""What our names begin with, and theirs, without the `hvae_networks.` that most of them have before it."""
_SLOT_ATTENTION = _PLAIN | {
    "start": "init_slots",
    "gru.": "gru.",
    "residual.norm": "norm_pre_ff",
    "residual.mlp.": "mlp.",
}
_ONE_LAYER_GRU = ("gru.both.", "refinement.gru.", "gru.weight", "gru.bias")
_OURS_ALONE = ("noise",)


def pieces(name: str, is_slot_attention: bool = False) -> list[Piece]:
    """Return what a tensor of ours is made of; nothing for one that no checkpoint has."""
    if name in _OURS_ALONE:
        return []
    if name.startswith(("gru.mean.", "gru.raw.")):
        return _dual_gru(name)
    table = _SLOT_ATTENTION if is_slot_attention else _PLAIN
    ours = max((begin for begin in table if name.startswith(begin)), key=len)
    theirs = table[ours] + name.removeprefix(ours)
    # nn.GRU's names of the parts of its only layer
    return [Piece(theirs + "_l0" if name.startswith(_ONE_LAYER_GRU) else theirs)]


def _dual_gru(name: str) -> list[Piece]:
    _, half, part = name.split(".")
    which, cell = (0 if half == "mean" else 1), "gru.cell."
    kind, side = part.split("_")
    gates, candidate = f"{cell}{kind}_{side}", f"{cell}{kind}_{side[0]}n"
    if kind == "weight":
        return [Piece(f"{gates}_{which + 1}"), Piece(f"{candidate}_{which + 1}")]
    # [mean reset, mean update, variance reset, variance update], and candidates [mean, variance]
    return [Piece(gates, which, which + 1, 2), Piece(candidate, which, which + 1, 2)]


def weights_of_published(content: object, own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a checkpoint's weights under the names of `own`, which they are for; what it has beyond them is left out.

    `content` is what was in the file: the weights, or a mapping with them under `model`. Raises `ValueError` for what is not there or of
    another shape.
    """
    held = content.get("model", content) if isinstance(content, Mapping) else None
    if not isinstance(held, Mapping):
        raise ValueError("holds no weights by name, nor a 'model' that does")
    theirs = {str(name).removeprefix("module.").removeprefix("hvae_networks."): value for name, value in held.items()}
    is_slot_attention = "residual.norm.weight" in own
    found: dict[str, Tensor] = {}
    for name, tensor in own.items():
        parts = pieces(name, is_slot_attention)
        if missing := [piece.name for piece in parts if not isinstance(theirs.get(piece.name), Tensor)]:
            raise ValueError(f"has no '{missing[0]}'; give the --model options that it was trained with")
        if not parts:
            continue
        value = _joined([piece.of(theirs[piece.name]) for piece in parts])
        if value is None or value.shape != tensor.shape:
            shape = tuple(theirs[parts[0].name].shape)
            raise ValueError(f"its '{parts[0].name}' is {shape}, not as this model's; give the --model options that it was trained with")
        found[name] = value.to(tensor.dtype)
    return found


def _joined(parts: list[Tensor]) -> Tensor | None:
    """Return tensors one below the other; None where they do not fit."""
    if len(parts) == 1:
        return parts[0]
    return torch.cat(parts) if len({part.shape[1:] for part in parts}) == 1 else None
