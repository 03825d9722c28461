"""Weights of another run as the start of a new one."""

import pickle
from pathlib import Path

import torch
from torch import Tensor

from encoders.actions import difference
from encoders.artifact import INFO_FILE, Ancestor, StoreReference, load_encoder, read_info
from encoders.encoder import Encoder, ReadsPublished
from encoders.registry import registered_name
from encoders.training.run_record import recorded_store
from encoders.training.state import RESUME_FILE, read_resume
from foundation.errors import UserError

_HEADS = "heads."


def adopt(model: Encoder, run: Path, store: StoreReference) -> Ancestor:
    """Give `model` the weights of another run, and return what to record of it.

    They are the best averaged weights in its checkpoint, or the latest averaged ones where nothing was validated yet; without a
    checkpoint, those of the encoder in the folder; or those of a published checkpoint, where `run` is its file. Buffers that the other run
    has not stay as they are. Raises `UserError` where there is nothing to take, the parameters are not those of this model, or the frames
    and actions of `store` mean something else than there.
    """
    weights, step = _published(model, run) if run.is_file() else _found(run)
    _check_meaning(model, run, store)
    _check(model, weights, run)
    own = model.state_dict()
    fitting = {name: tensor for name, tensor in weights.items() if name in own and own[name].shape == tensor.shape}
    model.load_state_dict(fitting, strict=False)
    return _ancestor(run, step)


def _ancestor(run: Path, step: int) -> Ancestor:
    """Return what is known of the run whose weights those of `step` are."""
    if run.is_file():
        return Ancestor(str(run), step)
    digest = None
    if (run / INFO_FILE).exists():
        info = read_info(run)
        digest = info.weights_sha256 if int(info.validation.get("step", info.steps)) == step else None
    learned_from = recorded_store(run)
    return Ancestor(str(run), step, digest, None if learned_from is None else learned_from.fingerprint)


def _found(run: Path) -> tuple[dict[str, Tensor], int]:
    if (run / RESUME_FILE).exists():
        content = read_resume(run)
        best = content["best"]
        return (content["averaged"], content["step"]) if best is None else (best["weights"], best["step"])
    if (run / INFO_FILE).exists():
        artifact = load_encoder(run)
        return artifact.model.state_dict(), int(artifact.info.validation.get("step", artifact.info.steps))
    raise UserError(f"--weights {run}: holds neither a training run nor an encoder; name the folder of a run")


def _published(model: Encoder, path: Path) -> tuple[dict[str, Tensor], int]:
    if not isinstance(model, ReadsPublished):
        raise UserError(f"--weights {path}: a '{registered_name(model)}' reads no published checkpoints; name the folder of a run")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, LookupError, ValueError, pickle.UnpicklingError) as error:
        raise UserError(
            f"--weights {path}: cannot be read as tensors and plain values, and nothing else is: a file may run what it holds; "
            "download it again, or save its weights alone with torch.save"
        ) from error
    try:
        weights = model.published_weights(content)
    except ValueError as error:
        raise UserError(f"--weights {path}: {error}") from error
    step = content.get("step", 0)
    return weights, step if isinstance(step, int) else 0


def _check_meaning(model: Encoder, run: Path, store: StoreReference) -> None:
    theirs = recorded_store(run)
    if theirs is None:
        return
    if theirs.resize != store.resize:
        raise UserError(f"--weights {run}: its frames were resized by '{theirs.resize}', those of {store.path} by '{store.resize}'")
    if not model.action_size or theirs.actions is None or store.actions is None or theirs.actions == store.actions:
        return
    differs = difference(theirs.actions, store.actions) or "their words have other numbers; FrameStore.number_texts gives them the same"
    raise UserError(f"--weights {run}: the actions of {store.path} are not those that it learned from: {differs}")


def _check(model: Encoder, weights: dict[str, Tensor], run: Path) -> None:
    for name, parameter in model.named_parameters():
        remedy = f"give the --{'heads' if name.startswith(_HEADS) else 'model'} options that the other run has"
        # heads may begin anew on an encoder that had none, or others
        if name.startswith(_HEADS) and name not in weights:
            continue
        if name not in weights:
            raise UserError(f"--weights {run}: has no weights '{name}', which this model has; {remedy}")
        if weights[name].shape != parameter.shape:
            found, needed = tuple(weights[name].shape), tuple(parameter.shape)
            raise UserError(f"--weights {run}: its '{name}' is {found}, this model's is {needed}; {remedy}")
        if not torch.isfinite(weights[name]).all():
            raise UserError(f"--weights {run}: its '{name}' is not finite; name a run that has not diverged")
    if unknown := sorted(name for name in weights.keys() - model.state_dict().keys() if not name.startswith(_HEADS)):
        raise UserError(f"--weights {run}: has weights '{unknown[0]}', which this model lacks; give the --model options that it has")
