"""Whom a browser asks for: a page of another site that is open in one on this machine is no client."""

import ipaddress
from urllib.parse import urlsplit


def is_loopback(host: str) -> bool:
    """Tell whether an address is reached from this machine alone."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def is_own_page(origin: bytes | None, host: bytes) -> bool:
    """Tell by the headers `Origin` and `Host` whether it is a page of the service that asks; a program has no origin."""
    try:
        return not origin or urlsplit(origin).netloc == host
    # "http://[" is no address
    except ValueError:
        return False


def names_this_machine(host: bytes) -> bool:
    """Tell whether the header `Host` has a name that no other machine can have.

    A site whose name leads here, too (DNS rebinding), is one with the service to a browser: its origin is that name.
    """
    try:
        return is_loopback(urlsplit(f"//{host.decode('latin-1')}").hostname or "")
    except ValueError:
        return False
