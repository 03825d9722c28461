"""The longest that an episode may get: as the user says, or as the environment does, or a generous number if neither does."""

from dataclasses import dataclass

import gymnasium

from foundation.telling import tell

MOST_TICKS = 27_000
"""Half an hour of Atari at 15 steps/s, where benchmarks end its episodes (Machado et al. 2018)."""
_OPTION = "--environment.episode-steps N"


@dataclass(frozen=True)
class EpisodeLimit:
    """Truncates an episode after `ticks` game ticks, whole agent steps of `frame_skip` each; one that nobody set says so."""

    environment: str
    ticks: int
    frame_skip: int
    asked: bool

    def reached(self, agent_steps: int) -> bool:
        """Say whether an episode that is not over yet ends here."""
        over = agent_steps * self.frame_skip >= self.ticks
        if over and not self.asked:
            tell(f"{self.environment}: an episode was cut off after {self.ticks:,} ticks; {_OPTION} sets another limit")
        return over


def episode_limit(env: gymnasium.Env, name: str, asked: int | None, frame_skip: int = 1) -> EpisodeLimit | None:
    """Return the limit that the episodes of `env` need: what was `asked` for, or a generous one if the environment names none itself."""
    if asked is not None:
        return EpisodeLimit(name, asked, frame_skip, asked=True)
    return None if _limits_itself(env) else EpisodeLimit(name, MOST_TICKS, frame_skip, asked=False)


def tell_of_no_limit(env: gymnasium.Env, name: str, asked: int | None) -> None:
    """Tell the user if neither they nor the environment limit an episode's steps."""
    limit = episode_limit(env, name, asked)
    if limit is not None and not limit.asked:
        tell(f"{name} names no limit on an episode's steps: an episode ends after {limit.ticks:,} ticks; {_OPTION} sets another")


def _limits_itself(env: gymnasium.Env) -> bool:
    """Say whether an environment names its longest episode: as gymnasium's do, as the voxel world and MineRL do, or as Atari's do."""
    # a limit that it was registered with is gymnasium's wrapper's, and the environment's own description lacks it
    specs = [spec for spec in (env.spec, env.unwrapped.spec) if spec is not None]
    registered = any(one.max_episode_steps is not None or one.kwargs.get("max_num_frames_per_episode") is not None for one in specs)
    return registered or getattr(env.unwrapped, "episode_ticks", None) is not None
