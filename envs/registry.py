"""From a name and options to an environment."""

import inspect
import warnings
from collections.abc import Callable
from typing import Any

import gymnasium

from envs.pictures import PictureObservation
from foundation.errors import UserError, nearest

VOXEL_IDS = ("VoxelTreechop-v0", "VoxelNavigate-v0", "VoxelNavigateDense-v0")

for _id in VOXEL_IDS:
    # by path, so that numba is imported only by who makes one
    gymnasium.register(_id, entry_point="envs.voxel.env:VoxelEnv", kwargs={"task": _id}, disable_env_checker=True)


def make_env(name: str, **options: Any) -> gymnasium.Env[dict[str, Any], Any]:
    """Make an environment whose observation is a dictionary with an RGB picture, uint8 (H, W, 3), under `pov`.

    `name` is a voxel task (options: `frame_size`, `episode_ticks`, `render_mode`), a task of the installed `minerl` (`MineRL...`;
    options: see `make_minerl`), or any registered gymnasium id (options: its own, and `picture`, see `PictureObservation`).
    Raises `UserError` for an unknown name or option.
    """
    if name in VOXEL_IDS:
        return _voxel(name, options)
    if name.startswith("MineRL"):
        return _minerl(name, options)
    if name not in gymnasium.registry:
        raise UserError(f"unknown environment '{name}': {nearest(name, _known_names())}")
    return _registered(name, options)


def _voxel(name: str, options: dict[str, Any]) -> gymnasium.Env[dict[str, Any], Any]:
    from envs.voxel.env import VoxelEnv

    _check_options(name, options, VoxelEnv)
    return VoxelEnv(name, **options)


def _minerl(name: str, options: dict[str, Any]) -> gymnasium.Env[dict[str, Any], Any]:
    from envs.minerl.env import make_minerl

    _check_options(name, options, make_minerl)
    return make_minerl(name, **options)


def _check_options(name: str, options: dict[str, Any], maker: Callable[..., Any]) -> None:
    known = [parameter for parameter in inspect.signature(maker).parameters if parameter not in ("task", "task_id")]
    for option in options:
        if option not in known:
            raise UserError(f"unknown option '{option}' of {name}: {nearest(option, known)}")


def _known_names() -> list[str]:
    """List voxel ids first of all; gymnasium's only when they resemble what was asked for."""
    return [*VOXEL_IDS, *gymnasium.registry]


def _registered(name: str, options: dict[str, Any]) -> gymnasium.Env[dict[str, Any], Any]:
    picture = options.pop("picture", None)
    if picture == "render":
        options["render_mode"] = "rgb_array"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            env = gymnasium.make(name, **options)
    except (gymnasium.error.Error, ImportError, TypeError, ValueError) as error:
        raise UserError(f"{name} cannot be made: {' '.join(str(error).split())}") from error
    return PictureObservation(env, picture)
