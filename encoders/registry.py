"""Encoders by name: presets, built-in architectures, and those of other packages."""

from __future__ import annotations

import json
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Any

from foundation.documents import checked, parse, schema
from foundation.errors import UserError, in_one_line, nearest
from foundation.limits import refuse_odd_numbers
from foundation.presets import build, preset_names, read_preset

if TYPE_CHECKING:
    from encoders.encoder import Encoder

GROUP = "minerl_perception.encoders"
BUILT_IN = {
    "conv_vae": EntryPoint("conv_vae", "encoders.conv.vae:ConvVAE", GROUP),
    "critic": EntryPoint("critic", "encoders.critic.model:Critic", GROUP),
    "critic_vae": EntryPoint("critic_vae", "encoders.critic_vae.model:CriticVAE", GROUP),
    "cwvae": EntryPoint("cwvae", "encoders.cwvae.model:ClockworkVAE", GROUP),
    "efficientmorl": EntryPoint("efficientmorl", "encoders.efficientmorl.model:EfficientMORL", GROUP),
    "evidence": EntryPoint("evidence", "encoders.conv.points:Evidence", GROUP),
    "nvae": EntryPoint("nvae", "encoders.nvae.model:NVAE", GROUP),
    "pca": EntryPoint("pca", "encoders.pca.model:PCA", GROUP),
    "points": EntryPoint("points", "encoders.conv.points:Points", GROUP),
    "slot_attention": EntryPoint("slot_attention", "encoders.efficientmorl.slot_attention:SlotAttention", GROUP),
}
_HYPERPARAMETERS = {
    "conv_vae": "conv.hyperparameters:ConvVAEHyperparameters",
    "critic": "critic.hyperparameters:CriticHyperparameters",
    "critic_vae": "critic_vae.hyperparameters:CriticVAEHyperparameters",
    "cwvae": "cwvae.hyperparameters:ClockworkVAEHyperparameters",
    "efficientmorl": "efficientmorl.hyperparameters:EfficientMORLHyperparameters",
    "evidence": "conv.hyperparameters:PointsHyperparameters",
    "nvae": "nvae.hyperparameters:NVAEHyperparameters",
    "pca": "pca.hyperparameters:PCAHyperparameters",
    "points": "conv.hyperparameters:PointsHyperparameters",
    "slot_attention": "efficientmorl.hyperparameters:SlotAttentionHyperparameters",
}
"""Where the built-in models' options are described: they are asked for before torch is needed, which takes seconds to import."""
_DESCRIBED = schema(encoder=str, model=dict[str, Any])


def make_encoder(name: str, **hyperparameters: Any) -> Encoder:
    """Make a new encoder from a preset, a YAML file or an architecture's name; `hyperparameters` override the preset's.

    Raises `UserError` for an unknown name or hyperparameter and for values the model cannot take.
    """
    return make_architecture(*architecture_of(name, hyperparameters))


def architecture_of(name: str, hyperparameters: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return what `make_encoder` makes of a name: an architecture's name and hyperparameters."""
    if name in preset_names("encoder") or name.endswith((".yaml", ".yml")):
        preset = read_preset("encoder", name)
        return preset_architecture(preset, name), {**(preset.get("model") or {}), **hyperparameters}
    if name not in architectures():
        raise UserError(f"no encoder named '{name}': {nearest(name, encoder_names())}")
    return name, hyperparameters


def encoder_names() -> list[str]:
    """List what `make_encoder` takes: presets, and architectures of this and other packages."""
    return sorted({*preset_names("encoder"), *architectures()})


def make_architecture(name: str, hyperparameters: dict[str, Any]) -> Encoder:
    """Make a new encoder from a registered architecture's name and its hyperparameters; no preset is read."""
    kind = encoder_class(name)
    values = build(kind.Hyperparameters, hyperparameters, "model")
    refuse_odd_numbers(values, "model")
    given = {part: _part(part, text) for part in kind.parts if (text := getattr(values, part)) is not None}
    # here, for torch takes seconds to import
    from encoders.sizes import bounded_size, refuse_frames

    try:
        with bounded_size():
            model = kind(values, **given)
    except ValueError as error:
        raise UserError(f"model: {error}") from error
    except (ArithmeticError, LookupError, RuntimeError, TypeError) as error:
        raise UserError(f"model: no '{name}' can be made of these hyperparameters ({in_one_line(error)}); change them") from error
    refuse_frames(model)
    return model


def described(name: str, hyperparameters: dict[str, Any]) -> str:
    """Return the text that stands for an encoder in the hyperparameters of one that stands on it: JSON, without weights."""
    return json.dumps({"encoder": name, "model": hyperparameters}, sort_keys=True)


def is_described(text: str) -> bool:
    """Tell whether a hyperparameter describes an encoder, instead of naming the folder of one."""
    return text.startswith("{")


def _part(part: str, text: str) -> Encoder:
    """Make the untrained encoder that a hyperparameter describes."""
    if not is_described(text):
        raise UserError(f"model.{part}: '{text}' is a folder; encoders.make_on_top reads the encoder in it")
    try:
        described = checked(_DESCRIBED, parse(text, f"model.{part}"), f"model.{part}")
        return make_architecture(described["encoder"], described["model"])
    except UserError as error:
        raise UserError(f"model.{part}: describes no encoder ({error}); copy the encoder that stands on it again") from error


def encoder_class(name: str) -> type[Encoder]:
    """Return the class registered under `name`; raise `UserError` where there is none."""
    # here, for commands look up names before their options are read, and torch takes seconds to import
    from encoders.encoder import Encoder

    known = architectures()
    if name not in known:
        raise UserError(f"no encoder architecture named '{name}': {nearest(name, known)}; if a package adds it, install that package")
    try:
        loaded = known[name].load()
    except ImportError as error:
        raise UserError(f"the package that adds the encoder '{name}' cannot be imported: {error}") from error
    if not (isinstance(loaded, type) and issubclass(loaded, Encoder)):
        raise UserError(f"the entry point '{name}' of {GROUP} is no subclass of encoders.Encoder")
    return loaded


def hyperparameters_class(name: str) -> type[Any]:
    """Return the dataclass of the hyperparameters of the architecture `name`: of a built-in one without its model, and so without torch."""
    if name not in _HYPERPARAMETERS:
        return encoder_class(name).Hyperparameters
    return EntryPoint(name, f"encoders.{_HYPERPARAMETERS[name]}", GROUP).load()


def architectures() -> dict[str, EntryPoint]:
    """Return the registered architectures by name; a built-in one cannot be replaced."""
    return {entry.name: entry for entry in entry_points(group=GROUP)} | BUILT_IN


def registered_name(model: Encoder) -> str:
    """Return the name under which the model's class is registered; raise `UserError` where it is not."""
    kind = type(model)
    for name, entry in architectures().items():
        if entry.value == f"{kind.__module__}:{kind.__qualname__}":
            return name
    raise UserError(f"{kind.__qualname__} is registered under no name: add it to the entry points of your package")


def preset_architecture(preset: dict[str, Any], where: str) -> str:
    """Return the architecture that a preset names."""
    name = preset.get("encoder")
    if not isinstance(name, str):
        raise UserError(f"{where}: missing key 'encoder': the name of an architecture ({', '.join(architectures())})")
    return name
