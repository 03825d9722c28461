"""Encoders that stand on trained ones: a critic on another's feature maps, a conditional VAE on a critic's value."""

from typing import Any

from encoders.artifact import EncoderArtifact, load_encoder, read_info
from encoders.encoder import Encoder
from encoders.registry import architecture_of, described, encoder_class, is_described, make_architecture
from foundation.errors import UserError


def make_on_top(name: str, resize: str | None = None, **hyperparameters: Any) -> Encoder:
    """Make a new encoder as `make_encoder` does; where a hyperparameter names the folder of a trained encoder, on top of that one.

    The trained encoder's architecture becomes part of the hyperparameters and its weights part of the new one's: the folder is needed no
    more. Raises `UserError` for a folder without an encoder, and for one whose frames were not resized by `resize` (None: any will do).
    """
    architecture, values = architecture_of(name, hyperparameters)
    texts = {part: text for part in encoder_class(architecture).parts if (text := values.get(part)) and not is_described(text)}
    named = {part: _found(part, text, resize) for part, text in texts.items()}
    shapes = {part: described(artifact.info.name, artifact.info.hyperparameters) for part, artifact in named.items()}
    model = make_architecture(architecture, values | shapes)
    for part, artifact in named.items():
        # heads that were trained on its latents are of no use here
        missing = getattr(model, part).load_state_dict(artifact.model.state_dict(), strict=False).missing_keys
        assert not missing, "an artifact holds all weights of its model"
    return model


def parts_of(model: Encoder) -> list[Encoder]:
    """Return the encoders that a model stands on."""
    return [part for name in model.parts if (part := getattr(model, name)) is not None]


def cards_of_parts(name: str, hyperparameters: dict[str, Any]) -> tuple[str, ...]:
    """Say what the trained encoders whose folders the hyperparameters name learned from: "its critic (frames, rewards of ...)"."""
    architecture, values = architecture_of(name, hyperparameters)
    folders = {part: text for part in encoder_class(architecture).parts if (text := values.get(part)) and not is_described(text)}
    return tuple(f"its {part} ({card})" for part, folder in folders.items() if (card := read_info(folder).card))


def _found(part: str, folder: str, resize: str | None) -> EncoderArtifact:
    artifact = load_encoder(folder)
    if resize is not None and artifact.info.resize != resize:
        raise UserError(
            f"--model.{part} {folder}: its frames were resized by '{artifact.info.resize}', those of the store by '{resize}'; "
            f"build the store with --resize {artifact.info.resize}"
        )
    return artifact
