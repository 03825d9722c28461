"""What can be known before a comparison runs: that algorithms can act, that encoders fit what they are to see, that stores are there."""

from collections.abc import Mapping, Sequence

import gymnasium
from gymnasium import spaces

from agents.learning.algorithms import refuse_misfit
from agents.run.config import LEARNING
from agents.run.environment import agent_environment, refuse_other_resize
from agents.run.environment_config import EnvironmentConfig
from comparison.grid import MADE_ONCE, Part
from encoders.artifact import INFO_FILE, read_info
from envs.episode_limit import tell_of_no_limit
from foundation.errors import UserError
from foundation.places import AnyPlace
from frames.store import FrameStore
from pretraining.controls import opened_store
from pretraining.supervised import supervised_options
from wrappers import PictureEncoder, open_encoder
from wrappers.action_vectors import check_actions
from wrappers.flat_observation import PICTURE
from wrappers.latents import check_rate
from wrappers.learning_encoder import refuse_not_learning
from wrappers.opening import original
from wrappers.state_observation import state_space
from wrappers.vec_history import history_space, refuse_history


def refuse_misfits(parts: Sequence[Part]) -> None:
    """Raise `UserError`, with the task and the algorithm, where an algorithm, an encoder or a store does not fit.

    Loads every encoder once, and makes one environment of each part, without starting an episode.
    """
    named = dict.fromkeys(place for part in parts for place in part.config.encoders)
    scale, flat = parts[0].config.scale if parts else None, all(part.config.algorithm.set_policy == "flat" for part in parts)
    encoders = {place: open_encoder(place, scale=scale, flat=flat) for place in named}
    for part in parts:
        try:
            for environment in part.config.evaluation.worlds_of(part.config.environment):
                _refuse_misfits_of(part, environment, encoders)
            _refuse_missing_store(part, encoders)
            _refuse_other_frames(part)
        except UserError as error:
            raise UserError(f"{part.name}: {error}") from error


def _refuse_misfits_of(part: Part, environment: EnvironmentConfig, encoders: Mapping[AnyPlace, PictureEncoder]) -> None:
    env = agent_environment(environment)
    try:
        tell_of_no_limit(env, environment.name, environment.episode_steps)
        refuse_misfit(part.config.algorithm, env.action_space, env.has_wrapper_attr("action_masks"))
        if "pixels" in part.config.controls:
            history_space(env.observation_space, environment.history)
        if "oracle" in part.config.controls:
            state_space(env, environment.name)
        for place in part.config.encoders:
            _refuse_misfit(place, encoders[place], part, env)
        if set(LEARNING) & set(part.config.controls):
            refuse_not_learning(encoders[part.config.encoders[0]])
    finally:
        env.close()


def _refuse_misfit(place: AnyPlace, frozen: PictureEncoder, part: Part, env: gymnasium.Env) -> None:
    space = env.observation_space
    seen = (space[PICTURE] if isinstance(space, spaces.Dict) else space).shape
    if seen != frozen.frame_shape:
        height, width, _ = frozen.frame_shape
        raise UserError(
            f"{place} was trained on frames of {frozen.frame_shape}, and the pictures here are {seen}: add --environment.frame-size "
            f"{height} {width}, or train an encoder on frames of that size"
        )
    try:
        refuse_other_resize(part.config.environment, frozen)
        check_rate(frozen, env.metadata, any_rate=False)
        check_actions(frozen, env)
        refuse_history(frozen, part.config.environment.history)
    except UserError as error:
        raise UserError(f"{place}: {error}") from error


def _refuse_missing_store(part: Part, encoders: Mapping[AnyPlace, PictureEncoder]) -> None:
    """Raise `UserError` where a control is yet to be made, and its frames are gone or mean something else than the encoder's."""
    missing = {cell.row.control for cell in part.missing()}
    to_make = {control for control in MADE_ONCE if control in missing and not (part.made_folder(control) / INFO_FILE).is_file()}
    if missing & {"untrained", "pixels_same"} or to_make:
        mirrored = encoders[part.config.encoders[0]]
        opened_store(mirrored.info, mirrored, part.config.store)
    if "supervised" in to_make:
        folder = part.made_folder("supervised")
        supervised_options(original(part.config.encoders[0]), folder, 0, part.config.store, part.mirrored_reading)


def _refuse_other_frames(part: Part) -> None:
    """Raise `UserError` where what a control sees was made from other frames than those of the store that is named now."""
    store = part.config.store
    made = [control for control in MADE_ONCE if control in part.config.controls and (part.made_folder(control) / INFO_FILE).is_file()]
    if store is None or not store.exists() or not made:
        return
    asked = FrameStore(store).fingerprint
    for control in made:
        source = read_info(part.made_folder(control)).store
        if source.fingerprint != asked:
            raise UserError(
                f"control '{control}' of this comparison was made from other frames ({source.path}, {source.fingerprint[:12]}) than "
                f"--store {store} has ({asked[:12]}): name the store of before, or give another --run"
            )
