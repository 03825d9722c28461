"""Films of a trained agent, or of a player that does not learn, and what they returned."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from stable_baselines3.common.utils import set_random_seed
from stable_baselines3.common.vec_env import VecEnv

from agents.learning.algorithms import build_algorithm
from agents.play_config import PlayConfig
from agents.run.agent import seen_and_learned
from agents.run.agent_files import load_policy, read_agent
from agents.run.environment import MakeEnv, bare_environments, evaluation_environments
from agents.run.environment_config import EnvironmentConfig, add_options, environment_preset, refuse_unasked
from agents.run.episodes import evaluation_seed
from agents.run.evaluation import Act, Acting, scripted_episode
from encoders.training.devices import choose_device
from envs.episode_limit import tell_of_no_limit
from envs.registry import refuse_unasked_import
from foundation.env_options import Scalar, refuse_shared_options
from foundation.errors import UserError
from foundation.minerl import GAME_ERROR
from foundation.places import AnyPlace, missing_folder, recorded_place
from foundation.presets import build, preset_names
from foundation.progress import progress_bar, tell_result
from foundation.ticks import TICKS_A_SECOND
from foundation.videos import write_video
from wrappers import PictureEncoder, open_encoder
from wrappers.opening import info_of, recorded_views

_SCALE = 4
_CHUNK = 32


@dataclass
class Film:
    """One episode: its pictures uint8 (H, W, 3), where a video is wanted; pictures a second of game time, its return, its steps."""

    pictures: list[np.ndarray]
    frames_per_second: float
    episode_return: float
    steps: int
    cut_off: bool = False
    """Its game died, also when it was played again."""


def show(name: str, config: PlayConfig, options: Mapping[str, Scalar]) -> int:
    """Play episodes of the agent in the folder `name`, or of a player in the environment of that name; return the exit status.

    `options` are the environment's. Prints the returns, and writes the video.
    """
    if config.player:
        films, frozen = _player_films(name, config, options), None
    else:
        films, frozen = _agent_films(Path(name), config, options)
    for number, film in enumerate(films):
        returned = f"return {film.episode_return:.2f} in {film.steps} steps{' (cut off: its game died)' if film.cut_off else ''}"
        tell_result(f"episode {number} (world {config.world + number}): {returned}")
    if len(whole := [film.episode_return for film in films if not film.cut_off]) > 1:
        tell_result(f"mean return {np.mean(whole):.2f} over {len(whole)} episodes")
    if config.video is not None:
        shown = chain.from_iterable(_frames(film, frozen) for film in films)
        codec = write_video(config.video, shown, films[0].frames_per_second)
        tell_result(f"wrote {config.video} ({codec}, {films[0].frames_per_second:g} frames/s as the agent saw them)")
    return 0


def _frames(film: Film, frozen: PictureEncoder | None) -> Iterator[np.ndarray]:
    """Yield the enlarged frames of a film, reconstructions on the right, a few pictures at a time: a long film does not fit in memory."""
    for start in range(0, len(film.pictures), _CHUNK):
        pictures = np.stack(film.pictures[start : start + _CHUNK])
        parts = [pictures]
        if frozen is not None and frozen.generates:
            parts.append(frozen.reconstruct(pictures))
        beside = np.concatenate(parts, axis=2)
        yield from beside.repeat(_SCALE, axis=1).repeat(_SCALE, axis=2)


def _agent_films(folder: Path, config: PlayConfig, options: Mapping[str, Scalar]) -> tuple[list[Film], PictureEncoder | None]:
    """Play with the policy of a run's folder."""
    venv, acting, frozen = seated(folder, config, options)
    return _film(venv, acting, config), frozen


def playable(folder: Path, config: PlayConfig, options: Mapping[str, Scalar]) -> tuple[dict[str, Any], EnvironmentConfig]:
    """Return what `agent.json` says, and the environment that the agent plays in; raise `UserError` for one that it must not ask for."""
    about = read_agent(folder)
    add_options(about["settings"], options)
    environment = build(EnvironmentConfig, about["settings"]["environment"], "environment")
    if config.environment not in (None, environment.name):
        raise UserError(f"--environment {config.environment}: the agent in {folder} was trained in {environment.name}")
    refuse_unasked_import(folder / "agent.json", environment.name, config.environment, "--environment")
    refuse_shared_options(folder / "agent.json", environment.options, options)
    return about, environment


def seated(
    folder: Path, config: PlayConfig, options: Mapping[str, Scalar], make: MakeEnv | None = None
) -> tuple[VecEnv, Acting, PictureEncoder | None]:
    """Return an agent's environment, one that `make` gives below its wrappers; the policy at play in it; the encoder it sees through."""
    about, environment = playable(folder, config, options)
    settings = build_algorithm(about["settings"]["algorithm"])
    device = choose_device(config.device).type
    torch.set_num_threads(about["settings"]["threads"])
    encoder = _agents_encoder(folder, about, config.encoder, device)
    seen, learned = seen_and_learned(about["settings"]["control"], encoder)
    venv = evaluation_environments(environment, 1, seen, make=make)
    tell_of_no_limit(bare_environments(venv)[0], environment.name, environment.episode_steps)
    algorithm = settings.for_playing().make(venv, config.seed, device, **learned)
    load_policy(folder, algorithm)
    set_random_seed(config.seed)
    acting = Acting(algorithm.policy, venv, config.deterministic, settings.epsilon, config.seed)
    return venv, acting, None if learned else encoder


def _agents_encoder(folder: Path, about: dict[str, Any], moved_to: AnyPlace | None, device: str) -> PictureEncoder | None:
    """Load the encoder the agent was trained with, and no other."""
    expected = about["settings"]["encoder_sha256"]
    if expected is None:
        return None
    own = folder / "encoder"
    place = moved_to or (own if own.is_dir() else recorded_place(about["encoder_folder"]))
    if missing := missing_folder(place):
        raise UserError(f"{missing}: the encoder this agent was trained with is missing; give its folder with --encoder FOLDER")
    seen = recorded_views(place, about["encoder"].get("reading"), about["encoder"].get("scale"))
    if info_of(seen).weights_sha256 != expected:
        raise UserError(f"{place}: not the encoder this agent was trained with (its weights differ); give its folder with --encoder FOLDER")
    return open_encoder(seen, device, flat=True)


def _player_films(preset: str, config: PlayConfig, options: Mapping[str, Scalar]) -> list[Film]:
    """Play with a player that does not learn."""
    if preset not in preset_names("env") and not preset.endswith((".yaml", ".yml")):
        raise UserError(f"--player plays an environment preset ({', '.join(preset_names('env'))}), not '{preset}'")
    environment = environment_preset(preset, options)
    refuse_unasked(preset, environment, config.environment, "--environment", options)
    if config.player == "random":
        venv = evaluation_environments(environment, 1, None)
        tell_of_no_limit(bare_environments(venv)[0], environment.name, environment.episode_steps)
        venv.action_space.seed(config.seed)
        set_random_seed(config.seed)
        return _film(venv, lambda *_: np.array([venv.action_space.sample()]), config)
    films = []
    with progress_bar("playing", config.episodes, "episodes") as advance:
        for number in range(config.episodes):
            pictures, total, _ = scripted_episode(environment, config.world + number, config.seed + number)
            seen = pictures[:: environment.frame_skip]
            kept = [] if config.video is None else seen
            films.append(Film(kept, TICKS_A_SECOND / environment.frame_skip, total, len(seen)))
            advance()
    return films


def _film(venv: Any, act: Act, config: PlayConfig) -> list[Film]:
    world = bare_environments(venv)[0]
    world.seed_of = lambda episode: evaluation_seed(config.world + episode)
    films = []
    with progress_bar("playing", config.episodes, "episodes") as advance:
        # what a dying game cuts off is played again
        venv.set_options({"start_over": True})
        observation, dones = venv.reset(), np.array([True])
        for _ in range(config.episodes):
            pictures: list[np.ndarray] = []
            done = False
            while not done:
                if config.video is not None:
                    pictures.append(np.array(world.picture))
                observation, _, dones, infos = venv.step(act(observation, dones))
                done = bool(dones[0]) and not infos[0]["again"]
                if dones[0] and not done:
                    pictures.clear()
            ended = infos[0]["episode"]
            films.append(Film(pictures, float(world.metadata["render_fps"]), ended["r"], ended["l"], GAME_ERROR in infos[0]))
            advance()
    venv.close()
    return films
