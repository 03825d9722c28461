"""Who may ask: tokens in a file that its owner alone can read, compared in constant time."""

import hashlib
import hmac
import os
import secrets
import stat
from collections.abc import Sequence
from pathlib import Path

from foundation.errors import UserError
from foundation.files import make_folder
from foundation.outside import read_regular
from service.errors import ServiceError

_SHORTEST = 16
_MOST_BYTES = 2**20


class Tokens:
    """The tokens that are let in; none at all lets everybody in."""

    def __init__(self, tokens: Sequence[str] = ()) -> None:
        self._digests = [hashlib.sha256(token.encode()).digest() for token in tokens]

    @property
    def let_everybody_in(self) -> bool:
        return not self._digests

    def owner(self, authorization: str | None) -> str:
        """Return what stands for the token in `Authorization: Bearer TOKEN`, "" where none is asked for.

        Raises `ServiceError` for a token that is missing or unknown. All are compared, whichever fits: how long that takes tells nothing.
        """
        if self.let_everybody_in:
            return ""
        kind, _, token = (authorization or "").strip().partition(" ")
        shown = hashlib.sha256(token.strip().encode()).digest()
        fits = [hmac.compare_digest(shown, known) for known in self._digests]
        if kind.lower() != "bearer" or not any(fits):
            raise ServiceError(401, "a token is needed: send the header Authorization: Bearer TOKEN")
        return self._digests[fits.index(True)].hex()


def read_tokens(path: Path) -> Tokens:
    """Return the tokens of a file, one a line; a file that is missing is made with a new one.

    Raises `UserError` for a file that others can read, and for tokens that are too short to be secrets.
    """
    if not path.exists():
        _make(path)
    try:
        content = read_regular(path, _MOST_BYTES)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); give the file of tokens") from error
    if stat.S_IMODE(path.stat().st_mode) & 0o077:
        raise UserError(f"{path}: other users of this machine may read it; run: chmod 600 {path}")
    try:
        tokens = content.decode("ascii").split()
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: a token is letters, digits and signs of ASCII") from error
    if not tokens:
        raise UserError(f"{path}: holds no token; remove it, and a new one is made")
    if short := next((number for number, token in enumerate(tokens, 1) if len(token) < _SHORTEST), None):
        raise UserError(f"{path}: token {short} has fewer than {_SHORTEST} characters; remove the file, and a new one is made")
    return Tokens(tokens)


def _make(path: Path) -> None:
    try:
        make_folder(path.parent)
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror}); choose another place for the tokens") from error
    with open(handle, "w") as file:
        file.write(secrets.token_urlsafe(32) + "\n")
