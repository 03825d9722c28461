"""The contract's tests for any encoder, of this or another package: `check_encoder(MyEncoder())`.

Shapes: B batch, T frames of a clip, C channels, H height, W width.
"""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from copy import deepcopy

import torch
from torch import Tensor

from encoders.encoder import Batch, Decodes, Encoder, Generates
from foundation.presets import build, to_dict

_BATCH = 3


def check_encoder(model: Encoder, targets: Mapping[str, Tensor] | None = None) -> None:
    """Hold `model` to what wrappers and the training loop rely on; raise `AssertionError` with the first promise it breaks.

    `targets` (3, T, ...) by label are for a model whose own loss needs them, in clips of its T frames.
    """
    height, width, channels = model.frame_shape
    frames = torch.rand(_BATCH, model.clip_length, channels, height, width, generator=torch.Generator().manual_seed(0))
    _check_hyperparameters(model)
    _check_loss(model.train(), frames, dict(targets or {}))
    model.eval()
    with torch.no_grad():
        _check_encode(model, frames[:, 0])
        _check_memory(model, frames)
        _check_clips(model, frames)
        if isinstance(model, Generates):
            _check_pictures(model, frames, _actions(model, frames))
        if isinstance(model, Decodes):
            _check_decoding(model, frames[:, 0])
        _check_weights(model, frames[:, 0])


def _check_hyperparameters(model: Encoder) -> None:
    kind = type(model)
    _require(dataclasses.is_dataclass(kind.Hyperparameters), "Hyperparameters must be a dataclass")
    _require(isinstance(model.hyperparameters, kind.Hyperparameters), "self.hyperparameters must be an instance of Hyperparameters")
    kind.Hyperparameters()
    written = json.loads(json.dumps(to_dict(model.hyperparameters)))
    _require(build(kind.Hyperparameters, written) == model.hyperparameters, "hyperparameters must survive JSON: plain types only")
    _require(bool(model.latents), "latents must name at least one reading")
    rows = all(len(model.latents.get(name, ())) > 1 for name in model.set_readings)
    _require(rows, "set_readings must name readings whose first axis is that of the rows, of numbers each")


def _check_loss(model: Encoder, frames: Tensor, targets: dict[str, Tensor]) -> None:
    _require(model.targets.keys() <= targets.keys(), f"give check_encoder the targets of the model: {', '.join(model.targets)}")
    acted = [_actions(model, frames)] + ([] if model.action_size else [None])
    for actions in acted:
        batch = Batch(frames, actions, targets)
        if model.has_own_loss:
            _check_terms(model, model.loss(batch, 0))
        terms, readings = model.loss_and_latents(batch, 0, list(model.latents))
        _require(readings.keys() == model.latents.keys(), "loss_and_latents() must give the readings that it is asked for")
    if not list(model.parameters()):
        return
    model.zero_grad()
    # what only a reading depends on, heads train
    total = torch.stack([one.sum() for one in readings.values()]).sum()
    (total + terms["loss"] if model.has_own_loss else total).backward()
    without = [name for name, parameter in model.named_parameters() if parameter.requires_grad and parameter.grad is None]
    _require(not without, f"the loss does not depend on {', '.join(without)}")
    model.zero_grad()


def _check_terms(model: Encoder, terms: dict[str, Tensor]) -> None:
    _require("loss" in terms, "loss() must return a term 'loss'")
    compared = "negative_elbo" in terms or ("objective" in terms and not isinstance(model, Generates))
    _require(compared, "loss() must return a term 'negative_elbo', or 'objective' where the model generates no frames")
    for name, term in terms.items():
        _require(term.ndim == 0 and bool(torch.isfinite(term)), f"the term '{name}' of loss() must be one finite number, got {term}")


def _check_encode(model: Encoder, x_BCHW: Tensor) -> None:
    before = x_BCHW.clone()
    for name, shape in model.latents.items():
        latent = model.encode(x_BCHW, model.initial_state(_BATCH), latents=name)[0]
        _require(latent.shape == (_BATCH, *shape), f"the reading '{name}' must have shape (B, {shape}), got {tuple(latent.shape)}")
        _require(latent.dtype == torch.float32 and bool(torch.isfinite(latent).all()), f"the reading '{name}' must be finite float32")
        again = model.encode(x_BCHW, model.initial_state(_BATCH), latents=name)[0]
        _require(torch.equal(latent, again), f"the reading '{name}' must be deterministic")
        alone = model.encode(x_BCHW[:1], model.initial_state(1), latents=name)[0]
        _require(torch.allclose(alone, latent[:1], atol=1e-3, rtol=1e-3), f"a row of the reading '{name}' must not depend on other rows")
    first = model.encode(x_BCHW, model.initial_state(_BATCH), latents=next(iter(model.latents)))[0]
    _require(torch.equal(first, model.encode(x_BCHW, model.initial_state(_BATCH))[0]), "the default reading must be the first")
    _require(torch.equal(before, x_BCHW), "encode() must not write into its frames")
    try:
        model.encode(x_BCHW, model.initial_state(_BATCH), latents="no such reading")
    except ValueError:
        return
    raise AssertionError("encode() must raise ValueError for a reading it does not have (call self.reading)")


def _check_memory(model: Encoder, frames: Tensor) -> None:
    state = model.initial_state(_BATCH)
    rows = {name: len(tensor) for name, tensor in state.items() if len(tensor) != _BATCH}
    _require(not rows, f"every tensor of the state must be batch first, got {rows} for a batch of {_BATCH}")
    kept = {name: tensor.clone() for name, tensor in state.items()}
    _, following = model.encode(frames[:, 0], state)
    _require(all(torch.equal(kept[name], state[name]) for name in kept), "encode() must return a new state, not write into the one given")
    shapes = {name: tensor.shape for name, tensor in state.items()}
    _require({name: tensor.shape for name, tensor in following.items()} == shapes, "the state must keep its names and shapes")


def _check_clips(model: Encoder, frames: Tensor) -> None:
    actions = _actions(model, frames)
    readings = model.clip_readings(frames, actions)
    _require(readings.keys() == model.latents.keys(), f"clip_readings() must give the readings {', '.join(model.latents)}")
    for name, found in readings.items():
        stepped = Encoder.encode_clip(model, frames, actions, name)
        for method, latents in (("clip_readings", found), ("encode_clip", model.encode_clip(frames, actions, name))):
            same = latents.shape == stepped.shape and torch.allclose(latents, stepped, atol=1e-3, rtol=1e-3)
            _require(same, f"{method}() must give '{name}' as encode() does frame by frame")


def _check_pictures(model: Generates, frames: Tensor, actions: Tensor) -> None:
    readings = model.latents if isinstance(model, Encoder) else {}
    for name, kl in model.kl_per_unit(frames, actions).items():
        _require(name in readings, f"kl_per_unit() must name readings, got '{name}'")
        _require(bool((kl >= -1e-4).all()), f"the KL of '{name}' must not be negative")
    drawn = model.sample(2)
    _check_picture("reconstruct", model.reconstruct(frames, actions), frames.shape)
    _check_picture("sample", drawn, (2, *drawn.shape[1:2], *frames.shape[2:]))


def _check_decoding(model: Decodes, x_BCHW: Tensor) -> None:
    assert isinstance(model, Encoder)
    latents, _ = model.encode(x_BCHW, model.initial_state(_BATCH))
    _check_picture("decode", model.decode(latents), x_BCHW.shape)


def _check_picture(method: str, pictures: Tensor, shape: Sequence[int]) -> None:
    _require(pictures.shape == tuple(shape), f"{method}() must give shape {tuple(shape)}, got {tuple(pictures.shape)}")
    _require(bool(((pictures >= 0) & (pictures <= 1)).all()), f"{method}() must stay in [0, 1]")


def _check_weights(model: Encoder, x_BCHW: Tensor) -> None:
    given = {part: deepcopy(module) for part in model.parts if (module := getattr(model, part)) is not None}
    copy = type(model)(model.hyperparameters, **given).eval()
    copy.load_state_dict(model.state_dict())
    latent, same = (encoder.encode(x_BCHW, encoder.initial_state(_BATCH))[0] for encoder in (model, copy))
    _require(torch.equal(latent, same), "the state_dict must hold all that encode() depends on")


def _actions(model: Encoder, frames: Tensor) -> Tensor:
    """Return actions (B, T, A) as long as the model takes them; two numbers for models that are to ignore them."""
    source = torch.Generator().manual_seed(1)
    return torch.rand(*frames.shape[:2], model.action_size or 2, generator=source)


def _require(condition: bool, promise: str) -> None:
    if not condition:
        raise AssertionError(promise)
