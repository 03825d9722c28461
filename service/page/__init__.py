"""The page for people: one HTML document that needs nothing but the service's own routes."""

import base64
import hashlib
from functools import cache
from pathlib import Path

_FOLDER = Path(__file__).parent


@cache
def page() -> tuple[bytes, list[tuple[bytes, bytes]]]:
    """Return the page and its headers: a browser runs this script and no other, and asks nobody but this service."""
    style, script, frame = ((_FOLDER / name).read_text(encoding="utf-8") for name in ("page.css", "page.js", "page.html"))
    policy = (
        f"default-src 'none'; script-src {_hash(script)}; style-src {_hash(style)}; style-src-attr 'unsafe-inline'; "
        "connect-src 'self'; img-src blob: data:; media-src blob:; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    )
    content = frame.replace("/*STYLE*/", style).replace("/*SCRIPT*/", script).encode()
    headers = [
        (b"content-type", b"text/html; charset=utf-8"),
        (b"content-security-policy", policy.encode()),
        (b"x-content-type-options", b"nosniff"),
        (b"referrer-policy", b"no-referrer"),
    ]
    return content, headers


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
