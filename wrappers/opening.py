"""An encoder from wherever it is: a folder, an artifact in memory, or the address of a service."""

from pathlib import Path

from encoders import EncoderArtifact
from encoders.artifact import EncoderInfo, read_info
from foundation.places import Address, as_place
from wrappers.frozen_encoder import FrozenEncoder
from wrappers.picture_encoder import PictureEncoder
from wrappers.remote_encoder import RemoteEncoder


def open_encoder(
    place: str | Path | EncoderArtifact | RemoteEncoder, device: str = "cpu", latents: str | None = None, resize: bool = False
) -> PictureEncoder:
    """Return the encoder in a folder, computing on `device`, or the one that a service has at an address (http://HOST:PORT/NAME).

    `latents` and `resize` are those of `FrozenEncoder`. Only a text or an `Address` makes this connect, never a `Path`.
    """
    if isinstance(place, RemoteEncoder):
        return place
    place = as_place(place) if isinstance(place, str) else place
    return RemoteEncoder(place, latents, resize) if isinstance(place, Address) else FrozenEncoder(place, device, latents, resize)


def original(place: Path | Address) -> Path | EncoderInfo:
    """Return what the controls that mirror an encoder are made from: its folder, or what a service says of it."""
    return info_of(place) if isinstance(place, Address) else place


def info_of(place: Path | Address) -> EncoderInfo:
    """Return what an encoder is, without loading it."""
    return RemoteEncoder(place).info if isinstance(place, Address) else read_info(place)
