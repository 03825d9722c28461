"""Where an encoder is: a folder, or an address of the perception service.

A text becomes an `Address` where a command line is read, or a program says so. What a file holds stays a path, which nobody connects to.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Self
from urllib.parse import urlsplit

from tyro.constructors import PrimitiveConstructorSpec

from foundation.errors import UserError, in_one_line

_SCHEMES = ("http://", "https://")
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_MOST_LETTERS = 1000


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


def as_place(text: str | Path) -> Path | Address:
    """Return the folder, or the address, that a user's text names."""
    return Address(str(text)) if is_address(text) else Path(text)


def is_address(text: object) -> bool:
    """Say whether a text is meant as an address."""
    return isinstance(text, str) and text.lower().startswith(_SCHEMES)


def take_addresses(values: dict[str, Any], words: Sequence[str], where: str) -> None:
    """Take addresses out of a preset's mapping: who connects to whom is said by the `words` of the command line alone.

    Raises `UserError` where those do not say it.
    """
    for key in ("encoder", "encoders"):
        named = values.get(key)
        found = next((one for one in (named if isinstance(named, list) else [named]) if is_address(one)), None)
        if found is not None and not any(word.partition("=")[0] == f"--{key}" for word in words):
            raise UserError(f"{where}: says {key} = {in_one_line(found)}, and no file says whom to connect to: add --{key} yourself")
        if found is not None:
            del values[key]


def place_name(place: Path | Address) -> str:
    """Return the short name of an encoder: its folder's, or the service's for it."""
    return place.name if isinstance(place, Address) else place.resolve().name


def _option(metavar: str) -> PrimitiveConstructorSpec:
    return PrimitiveConstructorSpec(
        nargs=1,
        metavar=metavar,
        instance_from_str=lambda words: as_place(words[0]),
        is_instance=lambda value: isinstance(value, (Path, Address)),
        str_from_instance=lambda value: [str(value)],
    )


Place = Annotated[Path, _option("FOLDER")] | Annotated[Address, _option("URL")]
"""An option that takes either."""
