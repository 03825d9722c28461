"""From a name and options to an environment."""

import importlib
import inspect
import re
import warnings
from collections.abc import Callable, Iterable
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import gymnasium

from envs.atari import AtariState, known_game
from envs.doom import DoomState, DoomTicks, DoomVariables, has_variables, steps_ticks, thing_to_find
from envs.pictures import PictureObservation
from foundation.errors import UserError, nearest

VOXEL_IDS = (
    "VoxelTreechop-v0",
    "VoxelNavigate-v0",
    "VoxelNavigateDense-v0",
    "VoxelForage-v0",
    "VoxelFindCave-v0",
    "VoxelRecall-v0",
)

_PLAIN_ID = re.compile(r"([\w.-]+/)?[\w.-]+-v\d+")
_MODULE_ID = re.compile(r"(?P<module>[^\W\d]\w*(\.[^\W\d]\w*)*):(?P<id>([\w.-]+/)?[\w.-]+)")
# how the ids of well-known packages begin, and the module to import for them
_OWNERS = {"ALE/": "ale_py", "Vizdoom": "vizdoom.gymnasium_wrapper", "MiniGrid-": "minigrid", "BabyAI-": "minigrid"}
_SHOWN = 5

for _id in VOXEL_IDS:
    # by path, so that numba is imported only by who makes one
    gymnasium.register(_id, entry_point="envs.voxel.env:VoxelEnv", kwargs={"task": _id}, disable_env_checker=True)


def make_env(name: str, **options: Any) -> gymnasium.Env[dict[str, Any], Any]:
    """Make an environment whose observation is a dictionary with an RGB picture, uint8 (H, W, 3), under `pov`.

    `name` is a voxel task (options: those of `VoxelEnv`), a task of the installed `minerl` (`MineRL...`;
    options: see `make_minerl`), any registered gymnasium id (options: its own, and `picture`, see `PictureObservation`), or
    `module:EnvId`: the module is imported first and registers the id. The name carries the import into every process that makes
    the environment. Raises `UserError` for an unknown name or option and for a module that cannot be imported.
    """
    module, task = split_id(name)
    if module is not None:
        _import(module, name)
    elif task in VOXEL_IDS:
        return _voxel(task, options)
    elif task.startswith("MineRL"):
        return _minerl(task, options)
    if task not in gymnasium.registry:
        raise UserError(_unknown(module, task))
    return _registered(task, options)


def is_environment_id(text: str) -> bool:
    """Say whether a text reads as an environment's name: `Name-v0`, `namespace/Name-v0`, or either behind `module:`.

    Behind a module a version may be missing. Whether there is such an environment is not looked up, and nothing is imported.
    """
    return _PLAIN_ID.fullmatch(text) is not None or _MODULE_ID.fullmatch(text) is not None


def split_id(name: str) -> tuple[str | None, str]:
    """Part `module:EnvId` into the module to import and the id; the module of a plain id is None."""
    match = _MODULE_ID.fullmatch(name)
    return (match["module"], match["id"]) if match else (None, name)


def refuse_unasked_import(file: Path, named: str, asked: str | None, option: str) -> None:
    """Raise `UserError` unless the module that an environment's name imports was asked for on the command line, by `option`.

    `file`, which names the environment, may be somebody else's.
    """
    module, _ = split_id(named)
    if module is not None and asked != named:
        raise UserError(
            f"{file}: its environment imports the Python module '{module}', and a file that may be shared imports nothing by itself; "
            f"where you trust that module, add {option} {named}"
        )


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


def _import(module: str, name: str) -> None:
    try:
        importlib.import_module(module)
    # whatever the code of another package raises
    except Exception as error:
        what = f"{type(error).__name__}: {' '.join(str(error).split())}"
        remedy = f"python -c 'import {module}' shows where"
        if isinstance(error, ModuleNotFoundError):
            itself = f"{module}.".startswith(f"{error.name}.")
            remedy = f"install the package that has {'it' if itself else repr(error.name)}, or put its folder on PYTHONPATH"
        raise UserError(f"{name}: the module '{module}' cannot be imported ({what}); {remedy}") from error


def _unknown(module: str | None, task: str) -> str:
    """Say that nothing is registered under an id, and what the user may have meant."""
    if module is not None:
        known = _registered_by(module)
        meant = _did_you_mean(task, known) or f"it registers: {', '.join(known[:_SHOWN])}"
        return f"unknown environment '{task}': '{module}' was imported and does not register it; {meant if known else 'it registers none'}"
    unknown = f"unknown environment '{task}'"
    owner = next((owner for beginning, owner in _OWNERS.items() if task.startswith(beginning)), None)
    close = _did_you_mean(task, gymnasium.registry)
    if owner is None and close:
        return f"{unknown}: {close}"
    if _PLAIN_ID.fullmatch(task):
        example = f"{owner or 'my_package'}:{task}"
        return f"{unknown}: if another package registers it, name the module to import too, module:EnvId, such as {example}"
    return f"{unknown}: it is none of {', '.join(VOXEL_IDS)}, no task of minerl and no id of gymnasium"


def _did_you_mean(task: str, known: Iterable[str]) -> str | None:
    close = [f"'{name}'" for name in get_close_matches(task, known, n=_SHOWN, cutoff=0.75)]
    return f"did you mean {' or '.join(close)}?" if close else None


def _registered_by(module: str) -> list[str]:
    """List the ids whose environments come from a module's package."""
    package = module.partition(".")[0]
    makers = {name: spec.entry_point for name, spec in gymnasium.registry.items()}
    places = {name: maker if isinstance(maker, str) else str(getattr(maker, "__module__", "")) for name, maker in makers.items()}
    return sorted(name for name, place in places.items() if re.split("[.:]", place)[0] == package)


def _registered(name: str, options: dict[str, Any]) -> gymnasium.Env[dict[str, Any], Any]:
    picture = options.pop("picture", None)
    if picture == "render":
        options["render_mode"] = "rgb_array"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            env = gymnasium.make(name, **options)
    # whatever the code of another package raises
    except Exception as error:
        kind = "" if isinstance(error, (gymnasium.error.Error, ImportError, TypeError, ValueError)) else f"{type(error).__name__}: "
        raise UserError(f"{name} cannot be made: {kind}{' '.join(str(error).split())}") from error
    if has_variables(env):
        env = DoomVariables(env)
    if (thing := thing_to_find(env)) is not None:
        env = DoomState(env, thing)
    if steps_ticks(env):
        env = DoomTicks(env)
    if (game := known_game(env)) is not None:
        env = AtariState(env, game)
    return PictureObservation(env, picture)
