"""The token that lets a client into a perception service, from the environment or from a file that nobody else reads."""

import os
import stat

from foundation.errors import UserError
from foundation.outside import read_regular

TOKEN, TOKEN_FILE = "MINERL_PERCEPTION_TOKEN", "MINERL_PERCEPTION_TOKEN_FILE"
_MOST_BYTES = 4096


def service_token() -> str | None:
    """Return the token that the environment names, itself or by its file; None where it names none.

    Raises `UserError` for a file that others may read or that cannot be read, and for what cannot be a token.
    """
    if token := os.environ.get(TOKEN):
        return _checked(token, TOKEN)
    path = os.environ.get(TOKEN_FILE)
    return _checked(read_token(path), path) if path else None


def read_token(path: str) -> str:
    """Return the token in a file; raise `UserError` where others may read it, too, or it cannot be read."""
    try:
        if stat.S_IMODE(os.stat(path).st_mode) & 0o077:
            raise UserError(f"{path}: holds a token and can be read or written by others; chmod 600 {path}")
        content = read_regular(path, _MOST_BYTES)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); {TOKEN_FILE} names the file with the service's token") from error
    # the service's own file may hold several, one a line
    return _checked(next(iter(content.decode(errors="replace").splitlines()), "").strip(), path)


def _checked(token: str, where: str) -> str:
    if not token or not token.isascii() or not token.isprintable() or " " in token:
        raise UserError(f"{where}: holds no token: one word of letters, digits and signs")
    return token
