"""An encoder from wherever it is: a folder, an artifact in memory, the address of a service; or several of them side by side."""

from pathlib import Path

from encoders import EncoderArtifact, load_encoder
from encoders.artifact import EncoderInfo, read_info
from foundation.errors import UserError, shown
from foundation.places import SCALES, Address, AnyPlace, Scale, View, Views, as_place, views_of
from wrappers.frozen_encoder import FrozenEncoder
from wrappers.picture_encoder import PictureEncoder
from wrappers.remote_encoder import RemoteEncoder
from wrappers.side_by_side import SideBySide, joined_info

Through = EncoderArtifact | RemoteEncoder | tuple[EncoderArtifact | RemoteEncoder, ...]
"""What is there to see through, before it is on a device; several stand side by side."""


def open_encoder(
    place: str | AnyPlace | Through,
    device: str = "cpu",
    latents: str | None = None,
    resize: bool = False,
    scale: Scale | None = None,
    flat: bool = False,
) -> PictureEncoder:
    """Return the encoder in a folder, computing on `device`, or the one that a service has at an address (http://HOST:PORT/NAME).

    `latents`, `resize` and `scale` are those of `FrozenEncoder`, for the encoders of `Views` that say none of their own; `flat` is that
    of `SideBySide`. Only a text, an `Address` or `Views` of such make this connect, never a `Path`.
    """
    if isinstance(place, tuple):
        return SideBySide([open_encoder(one, device, latents, resize, scale) for one in place], flat)
    if isinstance(place, RemoteEncoder):
        return place
    if isinstance(place, EncoderArtifact):
        return FrozenEncoder(place, device, latents, resize, scale)
    views = views_of(as_place(place) if isinstance(place, str) else place, latents, scale)
    if len(views) > 1:
        return SideBySide([_opened(one, device, resize) for one in views], flat)
    return _opened(views[0], device, resize)


def seen_through(place: AnyPlace, latents: str | None, scale: Scale | None) -> Through:
    """Load what `open_encoder` would open, without a device for it yet: `described` and opened later."""
    first, *others = map(_seen_alone, views_of(place, latents, scale))
    return (first, *others) if others else first


def recorded_views(place: AnyPlace, readings: str | None, scales: str | None) -> AnyPlace:
    """Return a place with the readings and scales that a run has recorded of its encoders, joined by + as `SideBySide` names them.

    A run of before scales were recorded had unit.

    Raises `UserError` where it names more or fewer encoders than that.
    """
    views, scaled = views_of(place), (scales or "unit").split("+")
    chosen = (readings or "").split("+") if len(scaled) > 1 else [readings or ""]
    if not len(views) == len(chosen) == len(scaled):
        raise UserError(f"{place}: the agent sees {len(chosen)} encoders side by side, not {len(views)}; name as many with --encoder")
    if unknown := set(scaled) - set(SCALES):
        raise UserError(f"{place}: the agent's encoder is scaled by '{shown(min(unknown))}', and this version knows {', '.join(SCALES)}")
    parts = zip(views, chosen, scaled, strict=True)
    return Views(tuple(View(one.place, latents or None, scale) for one, latents, scale in parts))  # type: ignore[arg-type]


def original(place: AnyPlace) -> Path | EncoderInfo:
    """Return what the controls that mirror an encoder are made from: its folder, or what a service says of it.

    Raises `UserError` for several.
    """
    views = views_of(place)
    if len(views) > 1:
        raise UserError(f"{place}: a control mirrors one encoder, and these are {len(views)} side by side; name one alone first")
    found = views[0].place
    return RemoteEncoder(found).info if isinstance(found, Address) else found


def info_of(place: AnyPlace) -> EncoderInfo:
    """Return what an encoder is, without loading it; of `Views`, in the readings and scales that they say."""
    return joined_info([_info_of(view) for view in views_of(place)])


def described(through: Through) -> EncoderInfo:
    """Return what there is to see through."""
    parts = through if isinstance(through, tuple) else (through,)
    return joined_info([one.info.seen(one.reading, one.scale) if isinstance(one, RemoteEncoder) else one.info for one in parts])


def _opened(view: View, device: str, resize: bool) -> PictureEncoder:
    if isinstance(view.place, Address):
        return RemoteEncoder(view.place, view.latents, resize, scale=view.scale)
    return FrozenEncoder(view.place, device, view.latents, resize, view.scale)


def _seen_alone(view: View) -> EncoderArtifact | RemoteEncoder:
    if isinstance(view.place, Address):
        return RemoteEncoder(view.place, view.latents, scale=view.scale)
    return load_encoder(view.place).seen(view.latents, view.scale, str(view.place))


def _info_of(view: View) -> EncoderInfo:
    info = RemoteEncoder(view.place).info if isinstance(view.place, Address) else read_info(view.place)
    return info.seen(view.latents, view.scale)
