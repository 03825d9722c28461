"""An environment and how an agent acts in it, as options and presets."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from foundation.env_options import Scalar, refuse_shared_options
from foundation.presets import build, read_preset
from foundation.ranges import at_least, within


@dataclass
class EnvironmentConfig:
    """An environment and how an agent acts in it."""

    name: str
    """As `envs.make_env` knows it."""
    options: dict[str, int | float | str | bool] = field(default_factory=dict)
    """What `envs.make_env` takes beside the name."""
    frame_skip: int = 4
    """Game ticks an agent step."""
    actions: str = "treechop"
    """List of combined actions, for environments with MineRL's action dictionary."""
    continuous: bool = False
    """MineRL's actions as a vector in place of the list: pitch, yaw, and a number for each key that the list uses."""
    camera_degrees: float = 15.0
    """One camera action turns by this; a continuous one by at most this."""
    sticky_attack: int = 0
    """Further agent steps for which an attack is held."""
    pitch_limit: float = 60.0
    """Degrees up and down within which the view stays; above 90 it is the game's own limit, 90."""
    action_store: Path | None = None
    """Frame store with recorded action vectors, for VectorObf environments."""
    action_count: int = 32
    """Recorded action vectors that agents choose among."""
    action_seed: int = 0
    """Seed of the clustering that finds them."""
    action_sha256: str | None = None
    """Hash of those vectors; a run fills it in, and refuses others from then on."""
    frame_size: tuple[int, int] | None = None
    """Height and width that pictures are resized to; default: no resizing."""
    resize: Literal["squash", "crop"] = "squash"
    """squash changes the aspect ratio, crop cuts the centre."""
    episode_steps: int | None = None
    """Game ticks after which an episode is truncated, before the environment's own limit or where it has none; in whole agent steps."""
    history: int = 1
    """Observations that an agent sees at a time: the one now and those of the agent steps before, the first repeated at a reset."""
    reward_scale: float = 1.0
    """An agent learns from rewards times this; returns are told as they are."""
    evaluated_at_once: int = 8
    """Evaluation episodes at a time, each in an environment of its own."""

    def __post_init__(self) -> None:
        within(1, 10_000, frame_skip=self.frame_skip, evaluated_at_once=self.evaluated_at_once)
        within(0, 180, camera_degrees=self.camera_degrees, pitch_limit=self.pitch_limit)
        for side in self.frame_size or ():
            within(1, 4096, frame_size=side)
        if self.episode_steps is not None:
            at_least(1, episode_steps=self.episode_steps)
        within(1, 64, history=self.history)
        within(1e-6, 1e6, reward_scale=self.reward_scale)
        within(2, 65_536, action_count=self.action_count)
        within(0, 2**32 - 1, action_seed=self.action_seed, sticky_attack=self.sticky_attack)


def environment_preset(preset: str, options: Mapping[str, Scalar] | None = None) -> EnvironmentConfig:
    """Return the environment of an environment preset, with other options where they are given."""
    values = read_preset("env", preset)
    add_options(values, options or {})
    return build(EnvironmentConfig, values.get("environment"), "environment")


def lies_in_a_run(preset: str) -> bool:
    """Say whether a preset is a file in the folder of a run, or below that of a comparison or a search: those are shared."""
    if not preset.endswith((".yaml", ".yml")):
        return False
    # a link to such a file is no file of the user's own
    folder = Path(preset).resolve().parent
    beside = any((folder / name).exists() for name in ("agent.json", "resume.pt", "result.json", "attempts.jsonl"))
    return beside or any((above / name).exists() for above in (folder, *folder.parents) for name in ("grid.yaml", "trials.jsonl"))


def refuse_unasked(preset: str, environment: EnvironmentConfig, asked: str | None, option: str, given: Mapping[str, Scalar]) -> None:
    """Raise `UserError` where a preset in a run's folder imports a module or says how a game runs, and the command line does not."""
    if lies_in_a_run(preset):
        # brings gymnasium
        from envs.registry import refuse_unasked_import

        refuse_unasked_import(Path(preset), environment.name, asked, option)
        refuse_shared_options(Path(preset), environment.options, given)


def add_options(values: dict[str, Any], options: Mapping[str, Scalar], part: str = "environment", key: str = "options") -> None:
    """Put options of the environment over those of an environment preset's mapping, or of its evaluation's."""
    own = values.get(part, None if part == "environment" else {})
    if options and isinstance(own, dict) and isinstance(own.get(key, {}), dict):
        values[part] = {**own, key: {**own.get(key, {}), **options}}
