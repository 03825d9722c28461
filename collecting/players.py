"""Frames collected from an environment: which players take turns in it, and how what they see is recorded."""

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import envs
import frames
from foundation.env_options import RUNNING_OPTIONS, Scalar
from foundation.errors import UserError
from foundation.places import Place
from frames.rollouts import Anyone

_NOISES = (0.2, 0.6)
_BUILT_IN = ("scripted", "seeing", "wandering", "random")
"""Players by name: a folder of such a name is ./NAME."""


@dataclass(frozen=True, kw_only=True)
class Who:
    """Who plays: players by name, agents by the folders of their runs, and how often each of them."""

    names: Sequence[str] = ()
    """None: all that suit the environment but the seeing player."""
    shares: Sequence[float] = ()
    """Of the episodes, one for each name; none: every player comes as often as the others, of those that a name stands for too."""
    deterministic: bool = False
    """Agents take the likeliest action instead of sampling."""
    encoder: Place | None = None
    """The agents' encoder, if its folder has moved."""


def collect(environment: str, options: Mapping[str, Scalar], who: Who | None = None, **recording: Any) -> frames.BuildSummary:
    """Record an environment of this id with its own `options`, played by `who`, or by those who suit it.

    `recording` goes to `frames.record`. Where agents play, the options are those that they were trained with, and `options` over them.
    Options that shape what is seen become part of the recording's name, so that it goes on only under the same.
    """
    who = who or Who()
    options, playing, shares = cast_of(environment, options, who)
    seen = [f"{name}={value}" for name, value in sorted(options.items()) if name not in RUNNING_OPTIONS]
    name = environment + (f" ({', '.join(seen)})" if seen else "")
    make = partial(envs.make_env, environment, **options)
    # without the module that brings it, as the environment itself says
    task = environment.rpartition(":")[2]
    return frames.record(make, playing, name=name, task=task, shares=shares, **recording)


def cast_of(environment: str, options: Mapping[str, Scalar], who: Who) -> tuple[Mapping[str, Scalar], list[Anyone], list[float] | None]:
    """Return the environment's options, the players that take turns in it, and the share of each, None for equal ones.

    A voxel task has "scripted" and "seeing" players, two of each with little and with much noise, MineRL's have a "wandering" one, and
    all a "random" one; a folder of another name is that of a run of train_agent.py. Raises `UserError` for a player that the environment
    has not, for agents that were trained in worlds of different options, and for options of agents where none plays.
    """
    folders = [name for name in who.names if name not in _BUILT_IN and Path(name).is_dir()]
    for option, given in (("--deterministic", who.deterministic), ("--encoder", who.encoder is not None)):
        if given and not folders:
            raise UserError(f"{option} is for agents, and none plays here: leave it out, or name the folder of a run with --players")
    agents = _agents(folders, environment, options, who)
    options = next((agent.options for agent in agents.values()), options)
    known: dict[str, list[Anyone]] = {**_players(environment, options), **{name: [agent] for name, agent in agents.items()}}
    for name in who.names:
        if name not in known:
            has = ", ".join(known)
            raise UserError(f"{environment} has no '{name}' player; it has: {has}; an agent plays by the folder of its run")
    names = list(who.names) or [name for name in known if name != "seeing"]
    if who.shares and len(who.shares) != len(who.names):
        raise UserError(f"--shares: {len(who.shares)} for {len(who.names)} players; give one for each of --players")
    shares = [share / len(known[name]) for name, share in zip(names, who.shares, strict=False) for _ in known[name]]
    return options, [player for name in names for player in known[name]], shares or None


def _agents(folders: Sequence[str], environment: str, options: Mapping[str, Scalar], who: Who) -> dict[str, Any]:
    """Return the agents in `folders`, by their words on the command line; raise `UserError` where their environments differ."""
    if not folders:
        return {}
    # brings torch and Stable-Baselines3
    from collecting.agents import AgentPlayer

    shared: dict[str, Any] = {"encoder": who.encoder, "deterministic": who.deterministic}
    agents = {folder: AgentPlayer(Path(folder), environment, options, **shared) for folder in folders}
    first, *others = agents.values()
    for other in others:
        if other.options != first.options:
            differs = next(name for name in {**first.options, **other.options} if first.options.get(name) != other.options.get(name))
            raise UserError(f"{first.folder} and {other.folder} were trained with another '{differs}'; give --env.{differs} VALUE")
    return agents


def _players(environment: str, options: Mapping[str, Scalar]) -> dict[str, list[Anyone]]:
    """Return who can play an environment, by name."""
    if environment.startswith("Voxel"):
        scripted: list[Anyone] = [envs.scripted_player(environment, noise=noise) for noise in _NOISES]
        seeing: list[Anyone] = [envs.scripted_player(environment, noise=noise, sees=True) for noise in _NOISES]
        return {"scripted": scripted, "seeing": seeing, "random": [None]}
    if environment.startswith("MineRL"):
        # nothing starts before the first reset
        with closing(envs.make_env(environment, **options)) as env:
            if frames.wanders_in(env.action_space):
                return {"wandering": [frames.WanderingPlayer(env.action_space)], "random": [None]}
    return {"random": [None]}
