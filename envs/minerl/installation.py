"""The `minerl` package of this process: whether it is there, which tasks it has, and whether Minecraft came with it."""

import importlib
import importlib.util
import logging
import os
import warnings
from importlib import metadata
from pathlib import Path
from typing import Any

from foundation.errors import UserError, nearest

REMEDY = "`make minerl` installs its Python side here, python=PATH names an interpreter that has it, and `make check` says what is usable"


def is_installed() -> bool:
    """Say whether this interpreter has `minerl`, without importing it."""
    return importlib.util.find_spec("minerl") is not None


def version() -> str:
    """Return the version of the installed `minerl`."""
    return metadata.version("minerl")


def specs() -> dict[str, Any]:
    """Return `minerl`'s own environment specs by id; starts nothing and writes nothing. Raises `UserError` where it does not import."""
    if not is_installed():
        raise UserError(f"minerl is not installed in this Python: {REMEDY}")
    # without a handler, Python prints minerl's log of Minecraft's output on standard error
    logging.getLogger("minerl").addHandler(logging.NullHandler())
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            importlib.import_module("minerl")
            registration = importlib.import_module("gym.envs.registration")
    except Exception as error:
        problem = " ".join(f"{type(error).__name__}: {error}".split())
        raise UserError(f"minerl is installed here, but does not import ({problem}): {REMEDY}") from error
    entries = registration.registry.env_specs
    found = {name: getattr(entry, "_kwargs", {}).get("env_spec") for name, entry in entries.items() if name.startswith("MineRL")}
    return {name: spec for name, spec in sorted(found.items()) if spec is not None}


def spec(task_id: str) -> Any:
    """Return the spec of one id; raises `UserError` with the nearest of the installed version for an unknown one."""
    known = specs()
    if task_id not in known:
        raise UserError(unknown_id(task_id, list(known), version()))
    return known[task_id]


def unknown_id(task_id: str, known: list[str], installed: str) -> str:
    """Say that a version of `minerl` has no such task, and which comes near."""
    return f"minerl {installed} has no '{task_id}': {nearest(task_id, known)}"


def minecraft_folder() -> Path:
    """Return where `minerl` keeps Minecraft."""
    from minerl.env.malmo import InstanceManager

    return Path(InstanceManager.MINECRAFT_DIR)


def check_minecraft() -> None:
    """Raise `UserError` where `minerl` was installed without Minecraft itself."""
    if not any(minecraft_folder().glob("build/libs/*.jar")) and os.environ.get("MINERL_FORCE_BUILD") != "1":
        problem = f"minerl {version()} is installed here without Minecraft (its Java side was not built)"
        raise UserError(f"{problem}: see docs/minerl.md; server='voxel' plays a stand-in that needs no Java")
