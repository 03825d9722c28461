"""ViZDoom's environments can step several ticks at once: only the last one is drawn."""

from typing import Any

import gymnasium

# of as many ticks as the environment was made for
_OF_A_STEP = ("audio", "notifications")


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


def steps_ticks(env: gymnasium.Env[Any, Any]) -> bool:
    """Say whether an environment is one of ViZDoom's, in which several ticks at once are the same as one after the other."""
    if not type(env.unwrapped).__module__.startswith("vizdoom.") or not isinstance(getattr(env.unwrapped, "frame_skip", None), int):
        return False
    # a limit of gymnasium's would count calls
    limited = env.spec is not None and env.spec.max_episode_steps is not None
    entries = env.observation_space.spaces if isinstance(env.observation_space, gymnasium.spaces.Dict) else {}
    return not limited and not any(name in entries for name in _OF_A_STEP)
