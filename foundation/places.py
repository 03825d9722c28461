"""Where an encoder is: a folder, or an address of the perception service; and how it is seen, alone or beside others.

A text becomes an `Address` where a command line is read, or a program says so. What a file holds stays a path, which nobody connects to.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args
from urllib.parse import urlsplit

from tyro.constructors import PrimitiveConstructorSpec

from foundation.errors import UserError, in_one_line

_SCHEMES = ("http://", "https://")
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_MOST_LETTERS = 1000

Scale = Literal["unit", "global", "whiten"]
"""unit: each unit by its own mean and deviation. global: each unit less its mean, all by one number, so that units which carry little
stay small. whiten: turned to principal components, each of variance 1."""
SCALES: tuple[Scale, ...] = get_args(Scale)
_CHOSEN = re.compile(r",(?=(?:latents|scale)=)")


class Address(str):
    """The address of an encoder that a service has: http://HOST:PORT/NAME, or https://.

    Raises `UserError` for another form, and for one with a password in it: addresses are written to files.
    """

    host: str
    port: int
    name: str
    """Of the encoder."""
    secure: bool

    def __new__(cls, text: str) -> Self:
        form = f"'{in_one_line(text)}': an encoder's address is http://HOST:PORT/NAME, as serve_encoder.py prints it"
        try:
            parts = urlsplit(text)
            host, port = parts.hostname, parts.port
        except ValueError as error:
            raise UserError(f"{form} ({in_one_line(error)})") from error
        if "@" in parts.netloc:
            raise UserError("an encoder's address holds no name and no password; put the token into MINERL_PERCEPTION_TOKEN")
        name = parts.path.strip("/")
        plain = text.isascii() and text.isprintable() and " " not in text and len(text) <= _MOST_LETTERS
        if not plain or not text.startswith(_SCHEMES) or not host or not _NAME.fullmatch(name) or parts.query or parts.fragment:
            raise UserError(form)
        address = super().__new__(cls, text.rstrip("/"))
        address.host, address.name, address.secure = host, name, parts.scheme == "https"
        address.port = port or (443 if address.secure else 80)
        return address

    def __reduce__(self) -> tuple[type, tuple[str]]:
        return Address, (str(self),)


@dataclass(frozen=True)
class View:
    """An encoder as an agent sees it: where it is, a reading of it and how that is scaled; None: its own."""

    place: Path | Address
    latents: str | None = None
    scale: Scale | None = None

    def __str__(self) -> str:
        chosen = {"latents": self.latents, "scale": self.scale}
        return "".join([str(self.place), *(f",{name}={value}" for name, value in chosen.items() if value)])


@dataclass(frozen=True)
class Views:
    """Several encoders side by side, or one whose reading or scale is said with it: RUN1+RUN2, RUN,scale=global+http://HOST:PORT/NAME."""

    parts: tuple[View, ...]

    def __str__(self) -> str:
        return "+".join(map(str, self.parts))


AnyPlace = Path | Address | Views


def as_place(text: str | Path) -> AnyPlace:
    """Return the folder, the address or the views that a user's text names; a folder that has the whole text as its name comes first.

    Raises `UserError` for an address of another form, and for views that are none.
    """
    text = str(text)
    if not ("+" in text or _CHOSEN.search(text)) or Path(text).exists():
        return _alone(text)
    return Views(tuple(_view(one, text) for one in text.split("+")))


def recorded_place(text: str) -> AnyPlace:
    """Return what a text in a file names: nothing that anybody connects to."""
    return Path(text) if any(is_address(one) for one in text.split("+")) else as_place(text)


def views_of(place: AnyPlace, latents: str | None = None, scale: Scale | None = None) -> tuple[View, ...]:
    """Return the encoders of a place, with `latents` and `scale` for those that say none of their own."""
    parts = place.parts if isinstance(place, Views) else (View(place),)
    return tuple(View(one.place, one.latents or latents, one.scale or scale) for one in parts)


def said_latents(views: Sequence[View]) -> str | None:
    """Return the readings that views ask for, joined by +; None where they ask for none."""
    return "+".join(one.latents or "" for one in views) if any(one.latents for one in views) else None


def missing_folder(place: AnyPlace) -> Path | None:
    """Return the first folder of a place that is not there; None where all are, as far as addresses can tell."""
    return next((one.place for one in views_of(place) if isinstance(one.place, Path) and not one.place.is_dir()), None)


def _alone(text: str) -> Path | Address:
    return Address(text) if is_address(text) else Path(text)


def _view(text: str, whole: str) -> View:
    place, *chosen = _CHOSEN.split(text)
    said = dict(one.split("=", 1) for one in chosen)
    if not place or len(said) < len(chosen) or not all(said.values()):
        form = "encoders side by side are FOLDER+FOLDER, one with its choices FOLDER,latents=NAME,scale=NAME"
        raise UserError(f"'{in_one_line(whole)}': {form}")
    scale = said.get("scale")
    if scale is not None and scale not in SCALES:
        raise UserError(f"'{in_one_line(whole)}': a scale is {', '.join(SCALES)}, not '{scale}'")
    return View(_alone(place), said.get("latents"), scale)


def is_address(text: object) -> bool:
    """Say whether a text is meant as an address."""
    return isinstance(text, str) and text.lower().startswith(_SCHEMES)


def take_addresses(values: dict[str, Any], words: Sequence[str], where: str) -> None:
    """Take addresses out of a preset's mapping: who connects to whom is said by the `words` of the command line alone.

    Texts that name views become such. Raises `UserError` where the words do not say it.
    """
    for key in ("encoder", "encoders"):
        named = values.get(key)
        listed = named if isinstance(named, list) else [named]
        found = next((one for one in listed if isinstance(one, str) and any(is_address(part) for part in one.split("+"))), None)
        if found is not None and not any(word.partition("=")[0] == f"--{key}" for word in words):
            raise UserError(f"{where}: says {key} = {in_one_line(found)}, and no file says whom to connect to: add --{key} yourself")
        if found is not None:
            del values[key]
            continue
        seen = [views if isinstance(one, str) and isinstance(views := as_place(one), Views) else one for one in listed]
        if key in values:
            values[key] = seen if isinstance(named, list) else seen[0]


def place_name(place: AnyPlace) -> str:
    """Return the short name of an encoder: its folder's, or the service's for it; of views with what they say."""
    if isinstance(place, Views):
        return "+".join(str(View(Path(place_name(one.place)), one.latents, one.scale)) for one in place.parts)
    return place.name if isinstance(place, Address) else place.resolve().name


def _of_words(words: Sequence[str]) -> AnyPlace:
    places = [as_place(word) for word in words]
    if not places:
        raise UserError("--encoder needs a value: the folder of an encoder, or an address")
    return places[0] if len(places) == 1 else Views(tuple(view for place in places for view in views_of(place)))


def _option(metavar: str, several: bool = False) -> PrimitiveConstructorSpec:
    return PrimitiveConstructorSpec(
        nargs="*" if several else 1,
        metavar=metavar,
        instance_from_str=_of_words,
        is_instance=lambda value: isinstance(value, (Path, Address, Views)),
        str_from_instance=lambda value: [str(value)],
    )


Place = Annotated[Path, _option("FOLDER")] | Annotated[Address, _option("URL")] | Annotated[Views, _option("FOLDER+FOLDER")]
"""An option that takes either, or several side by side as one word."""
Places = Annotated[Path, _option("FOLDER")] | Annotated[Address, _option("URL")] | Annotated[Views, _option("FOLDER FOLDER ...", True)]
"""The same for an option of one agent, where several may also be words of their own."""
