"""A room's public names, each imported from its module when somebody first asks for it."""

import importlib
from collections.abc import Callable, Mapping
from typing import Any


def imports_on_demand(package: str, homes: Mapping[str, str]) -> Callable[[str], Any]:
    """Return a `__getattr__` for a package (PEP 562): `homes` says in which of its modules each name is at home.

    torch, OpenCV and gymnasium take seconds to import: only those who use them pay.
    """

    def find(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module '{package}' has no attribute '{name}'")
        return getattr(importlib.import_module(f"{package}.{homes[name]}"), name)

    return find
