"""What tells MineRL's action dictionary, and what our environments say of its games, from what other packages call by the same names."""

from typing import TypeGuard

from gymnasium import spaces

GAME_ERROR = "minerl/error"
"""In `info`: why a game died at this step, whose observation is the last one again."""


def acts_like_minerl(space: spaces.Space, *keys: str) -> TypeGuard[spaces.Dict]:
    """Say whether an action space is MineRL's dictionary, with its camera and these keys."""
    return isinstance(space, spaces.Dict) and turns_camera(space.spaces.get("camera")) and all(key in space.spaces for key in keys)


def turns_camera(space: spaces.Space | None) -> bool:
    """Say whether an entry called `camera` is MineRL's: how many degrees the view turns, down and to the right, as real numbers (2,)."""
    if not isinstance(space, spaces.Box) or space.shape != (2,) or space.dtype.kind != "f":
        return False
    # a stick's way from -1 to 1 is no angle
    return bool((space.low <= -90).all() and (space.high >= 90).all())


def words_of(space: spaces.Space | None) -> tuple[str, ...]:
    """Return the words that an entry's numbers stand for, as those of MineRL's enumerations do; none where they are numbers."""
    return tuple(getattr(space, "values", ())) if isinstance(space, spaces.Discrete) else ()
