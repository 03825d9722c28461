"""ViZDoom's environments: bounds of what they show, several ticks in one call with one picture, and the state of a scenario."""

import math
from typing import Any

import gymnasium
from gymnasium import spaces

from envs.state_wrapper import StateWrapper

# of as many ticks as the environment was made for
_OF_A_STEP = ("audio", "notifications")
# what there is to find in a scenario, by ViZDoom's name
_THINGS = {"health_gathering.cfg": "Medikit"}
_PLAYER = "DoomPlayer"
_WIDTH, _FAR = 32.0, 1024.0
"""Of the player, and of what counts as 1, in units of Doom's maps."""
_IN_VIEW = math.cos(math.radians(45))
# the most that a game variable can be in Doom, from 0 on; others, such as counts of kills, have no end
_MOST = {"HEALTH": 200, "ARMOR": 200, "SELECTED_WEAPON": 9, "SELECTED_WEAPON_AMMO": 600, **{f"AMMO{slot}": 600 for slot in range(10)}}
_VARIABLES = "gamevariables"


class DoomTicks(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Offers `step_ticks`, which returns what so many steps with one action return, rewards summed."""

    def step_ticks(self, action: Any, ticks: int) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Play `ticks` steps, or fewer where the episode ends before."""
        doom: Any = self.unwrapped
        own = doom.frame_skip
        doom.frame_skip = own * ticks
        try:
            return self.env.step(action)
        finally:
            doom.frame_skip = own


class DoomVariables(gymnasium.ObservationWrapper[Any, Any, Any]):
    """Give the game variables the bounds that Doom has for them.

    ViZDoom declares none, and a health of 100 as it comes drowns latents of about 1 beside it.
    """

    def __init__(self, env: gymnasium.Env[Any, Any]) -> None:
        super().__init__(env)
        observed: Any = env.observation_space
        endless = observed[_VARIABLES]
        low, high = endless.low.copy(), endless.high.copy()
        game: Any = self.unwrapped
        for place, variable in enumerate(game.game.get_available_game_variables()):
            if variable.name in _MOST:
                low[place], high[place] = 0, _MOST[variable.name]
        self._bounds = spaces.Box(low, high, dtype=endless.dtype)
        self.observation_space = spaces.Dict({**observed.spaces, _VARIABLES: self._bounds})

    def observation(self, observation: Any) -> Any:
        """Clip the variables to their bounds: dead players' health is below 0."""
        return {**observation, _VARIABLES: observation[_VARIABLES].clip(self._bounds.low, self._bounds.high)}


class DoomState(StateWrapper):
    """Tell where the nearest thing to find is, and the nearest in view.

    Bearings are from where the player looks, positive to the right; a distance d is log(1 + d / 32) / log(33), at most 1. Where there is
    no such thing it is at distance 1, and both parts of its bearing are 0. An episode's last step tells what the one before it told.
    """

    def __init__(self, env: gymnasium.Env[Any, Any], thing: str) -> None:
        super().__init__(env, (f"{which}_{what}" for which in ("nearest", "seen") for what in ("bearing_cos", "bearing_sin", "distance")))
        self._thing = thing
        self._told: dict[str, float] = {}
        # before the game starts, with the first reset
        game: Any = self.unwrapped
        game.game.set_objects_info_enabled(True)

    def read_state(self, begins: bool) -> dict[str, float]:
        """Read the game's objects."""
        game: Any = self.unwrapped
        if game.state is not None:
            player = next(thing for thing in game.state.objects if thing.name == _PLAYER)
            ways = [_way(player, thing) for thing in game.state.objects if thing.name == self._thing]
            self._told = {
                **_place("nearest", ways),
                **_place("seen", [way for way in ways if way[1] > _IN_VIEW]),
            }
        return dict(self._told)


def _way(player: Any, thing: Any) -> tuple[float, float, float]:
    """Return the way from the player to a thing: its length in units of the map, and cosine and sine of its bearing."""
    east, north = thing.position_x - player.position_x, thing.position_y - player.position_y
    # Doom counts angles in degrees from east, to the left
    right = math.radians(player.angle) - math.atan2(north, east)
    return math.hypot(east, north), math.cos(right), math.sin(right)


def _place(which: str, ways: list[tuple[float, float, float]]) -> dict[str, float]:
    far, cos, sin = min(ways, default=(_FAR, 0.0, 0.0))
    distance = min(math.log1p(far / _WIDTH) / math.log1p(_FAR / _WIDTH), 1.0)
    return {f"{which}_bearing_cos": cos, f"{which}_bearing_sin": sin, f"{which}_distance": distance}


def thing_to_find(env: gymnasium.Env[Any, Any]) -> str | None:
    """Return what there is to find in the scenario that an environment of ViZDoom's plays, if that is known."""
    if not _is_doom(env) or env.unwrapped.spec is None:
        return None
    return _THINGS.get(str(env.unwrapped.spec.kwargs.get("scenario_config_file")))


def has_variables(env: gymnasium.Env[Any, Any]) -> bool:
    """Say whether an environment is one of ViZDoom's that shows game variables."""
    return _is_doom(env) and isinstance(env.observation_space, spaces.Dict) and _VARIABLES in env.observation_space.spaces


def steps_ticks(env: gymnasium.Env[Any, Any]) -> bool:
    """Say whether an environment is one of ViZDoom's, in which several ticks at once are the same as one after the other."""
    if not _is_doom(env) or not isinstance(getattr(env.unwrapped, "frame_skip", None), int):
        return False
    # a limit of gymnasium's would count calls
    limited = env.spec is not None and env.spec.max_episode_steps is not None
    entries = env.observation_space.spaces if isinstance(env.observation_space, gymnasium.spaces.Dict) else {}
    return not limited and not any(name in entries for name in _OF_A_STEP)


def _is_doom(env: gymnasium.Env[Any, Any]) -> bool:
    return type(env.unwrapped).__module__.startswith("vizdoom.")
