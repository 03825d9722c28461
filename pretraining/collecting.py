"""Frames collected from an environment: which players take turns in it, and how what they see is recorded."""

from collections.abc import Mapping, Sequence
from contextlib import closing
from typing import Any

import envs
import frames
from foundation.env_options import RUNNING_OPTIONS, Scalar
from foundation.errors import UserError

_NOISES = (0.2, 0.6)


def collect(environment: str, options: Mapping[str, Scalar], who: Sequence[str] = (), **recording: Any) -> frames.BuildSummary:
    """Record an environment of this id with its own `options`, played by `who`, or by those who suit it.

    `recording` goes to `frames.record`. Options that shape what is seen become part of the recording's name, so that it goes on only
    under the same.
    """
    seen = [f"{name}={value}" for name, value in sorted(options.items()) if name not in RUNNING_OPTIONS]
    name = environment + (f" ({', '.join(seen)})" if seen else "")
    return frames.record(lambda: envs.make_env(environment, **options), players(environment, options, who), name=name, **recording)


def players(environment: str, options: Mapping[str, Scalar], who: Sequence[str] = ()) -> list[frames.Player | None]:
    """Return the players that take turns, those of the names in `who`: by default all that suit the environment but the seeing one.

    A voxel task has "scripted" and "seeing" players, two of each with little and with much noise, MineRL's have a "wandering" one, and
    all a "random" one. Raises `UserError` for a player that the environment has not.
    """
    known = _players(environment, options)
    for name in who:
        if name not in known:
            raise UserError(f"{environment} has no '{name}' player; it has: {', '.join(known)}")
    return [player for name in who or [name for name in known if name != "seeing"] for player in known[name]]


def _players(environment: str, options: Mapping[str, Scalar]) -> dict[str, list[frames.Player | None]]:
    """Return who can play an environment, by name."""
    if environment.startswith("Voxel"):
        scripted: list[frames.Player | None] = [envs.scripted_player(environment, noise=noise) for noise in _NOISES]
        seeing: list[frames.Player | None] = [envs.scripted_player(environment, noise=noise, sees=True) for noise in _NOISES]
        return {"scripted": scripted, "seeing": seeing, "random": [None]}
    if environment.startswith("MineRL"):
        # nothing starts before the first reset
        with closing(envs.make_env(environment, **options)) as env:
            if frames.wanders_in(env.action_space):
                return {"wandering": [frames.WanderingPlayer(env.action_space)], "random": [None]}
    return {"random": [None]}
