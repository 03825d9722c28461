"""Frames collected from an environment: which players take turns in it, and how what they see is recorded."""

from collections.abc import Mapping
from contextlib import closing
from typing import Any

import envs
import frames
from foundation.env_options import RUNNING_OPTIONS, Scalar

_NOISES = (0.2, 0.6)


def collect(environment: str, options: Mapping[str, Scalar], **recording: Any) -> frames.BuildSummary:
    """Record an environment of this id with its own `options`, played by those who suit it; `recording` goes to `frames.record`.

    Options that shape what is seen become part of the recording's name, so that it goes on only under the same.
    """
    seen = [f"{name}={value}" for name, value in sorted(options.items()) if name not in RUNNING_OPTIONS]
    name = environment + (f" ({', '.join(seen)})" if seen else "")
    return frames.record(lambda: envs.make_env(environment, **options), players(environment, options), name=name, **recording)


def players(environment: str, options: Mapping[str, Scalar]) -> list[frames.Player | None]:
    """Choose who takes turns: two scripted players in voxel tasks, a wandering one in MineRL's; and a random one, or that alone."""
    if environment.startswith("Voxel"):
        return [*(envs.scripted_player(environment, noise=noise) for noise in _NOISES), None]
    if environment.startswith("MineRL"):
        # nothing starts before the first reset
        with closing(envs.make_env(environment, **options)) as env:
            if frames.wanders_in(env.action_space):
                return [frames.WanderingPlayer(env.action_space), None]
    return [None]
