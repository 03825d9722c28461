"""A `VecEnv` whose environments live in Ray actors, on any node; an actor that dies is replaced and its episodes are truncated."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
import ray
import torch
from gymnasium import spaces
from ray.exceptions import NodeDiedError, ObjectLostError, RayActorError, RayTaskError, WorkerCrashedError
from stable_baselines3.common.vec_env import VecEnv
from stable_baselines3.common.vec_env.base_vec_env import VecEnvIndices, VecEnvObs, VecEnvStepReturn

from agents.config import ACTOR_CPUS
from agents.remote.host import Counts, EnvironmentHost, Factory
from encoders.encoder import State
from foundation.errors import UserError
from wrappers import FrozenEncoder

_DEATHS = (RayActorError, WorkerCrashedError, NodeDiedError, ObjectLostError)
_LONGEST_BACKOFF = 60.0
_CLOSE_SECONDS = 20.0


@dataclass
class Results:
    """One step of all environments, in the making: the rows that `arrivals` has yielded are whole."""

    observation: Any
    rewards: np.ndarray
    dones: np.ndarray
    infos: list[dict[str, Any]]

    def as_step(self) -> VecEnvStepReturn:
        """Return what `VecEnv.step_wait` returns."""
        return self.observation, self.rewards, self.dones, self.infos


@dataclass(eq=False)
class _Actor:
    rows: slice
    handle: Any = None
    started: Any = None
    """Reference to the spaces of its environments, or to the error in making them."""
    playing: bool = False
    """Episodes are under way in it."""
    cut_off: bool = False
    """It replaces one whose episodes have not been ended towards the learner yet."""
    fresh: Any = None
    """Reference to the reset that follows."""
    failures: int = 0
    """Deaths since it last answered."""


class RayVecEnv(VecEnv):
    """Environments in `actors` Ray actors, neighbours together, stepped at the same time in threads of their actor.

    Results are taken as they come (`arrivals`). With `frozen`, actors encode on their CPU and the observation is that of
    `VecLatent`; the encoder's memory is then theirs. A dead actor is replaced by a new one: the step that was under way gives
    its last observations, reward 0 and done with `TimeLimit.truncated`, `actor_died` and `error` in the info, and new episodes
    begin. `info["counts"]` of an environment goes to the one that replaces it, one death more (one failed reset, where no
    episode was under way). The first replacement is made at once, later ones without an answer between them after
    `backoff_seconds`, doubled each time, at most a minute.

    Raises `UserError` where Ray does not run or is too small, for more actors than environments, and for the death after
    `replacements` of them. Errors that an environment raises are raised here. Needs `ray.init`, or a Ray worker around it.
    """

    def __init__(
        self,
        factories: Sequence[Factory],
        actors: int,
        *,
        frozen: FrozenEncoder | None = None,
        replacements: int = 20,
        backoff_seconds: float = 1.0,
    ) -> None:
        _check_cluster(actors, len(factories))
        self.factories, self.replacements, self.backoff_seconds = factories, replacements, backoff_seconds
        self.replaced = 0
        """Actors replaced so far."""
        self._frozen = None if frozen is None else ray.put(frozen.on_cpu())
        self._counts: list[Counts] = [{} for _ in factories]
        self._attributes: dict[tuple[int, str], Any] = {}
        self._pending: dict[Any, tuple[_Actor, Any]] = {}
        self._actors = [_Actor(slice(int(rows[0]), int(rows[-1]) + 1)) for rows in np.array_split(np.arange(len(factories)), actors)]
        for actor in self._actors:
            self._start(actor)
        try:
            about = self._answers(self._actors, lambda actor: actor.started)[self._actors[0]]
            super().__init__(len(factories), about["observation_space"], about["action_space"])
        except BaseException:
            self.close()
            raise
        self.metadata = about["metadata"]
        self.results = self._empty()

    def reset(self) -> VecEnvObs:
        seeds, options = self._seeds, self._options

        def begin(actor: _Actor) -> Any:
            return actor.handle.reset.remote(seeds[actor.rows], options[actor.rows])

        for actor in self._actors:
            actor.playing = actor.cut_off = False
        self.results = self._empty()
        self._pending = {}
        for actor, answer in self._answers(self._actors, begin).items():
            self._take_reset(actor, *answer)
        self._reset_seeds()
        self._reset_options()
        return self.results.observation

    def step_async(self, actions: np.ndarray) -> None:
        def ask(actor: _Actor) -> Any:
            return self._begin_anew(actor) if actor.cut_off else actor.handle.step.remote(actions[actor.rows])

        self._pending = self._asked(self._actors, ask)

    def step_wait(self) -> VecEnvStepReturn:
        for _ in self.arrivals():
            pass
        return self.results.as_step()

    def arrivals(self) -> Iterator[slice]:
        """Wait for the step under way, as `step_wait` does, but yield the rows of each actor as soon as `results` holds them."""
        before, self.results = self.results, self._empty()
        for actor, reference, answer in self._as_they_come(self._pending, self._begin_anew):
            if reference == actor.fresh:
                self._cut_off(actor, before.observation)
                self._take_reset(actor, *answer)
            else:
                self._take_step(actor, *answer)
            yield actor.rows

    def close(self) -> None:
        if not ray.is_initialized():
            return
        closing = [actor.handle.close.remote() for actor in self._actors if actor.handle is not None]
        if closing:
            ray.wait(closing, num_returns=len(closing), timeout=_CLOSE_SECONDS)
        for actor in self._actors:
            if actor.handle is not None:
                ray.kill(actor.handle)
                actor.handle = None

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        return self._ask("get_attr", indices, attr_name)

    def has_attr(self, attr_name: str) -> bool:
        return all(self._ask("has_attr", None, attr_name))

    def set_attr(self, attr_name: str, value: Any, indices: VecEnvIndices = None) -> None:
        self._ask("set_attr", indices, attr_name, value)
        # an environment that replaces one is set likewise
        self._attributes.update({(row, attr_name): value for row in self._get_indices(indices)})

    def env_method(self, method_name: str, *method_args: Any, indices: VecEnvIndices = None, **method_kwargs: Any) -> list[Any]:
        return self._ask("env_method", indices, method_name, method_args, method_kwargs)

    def env_is_wrapped(self, wrapper_class: type[gymnasium.Wrapper], indices: VecEnvIndices = None) -> list[bool]:
        return self._ask("env_is_wrapped", indices, wrapper_class)

    def get_images(self) -> Sequence[np.ndarray | None]:
        return self._ask("get_images", None)

    def actors(self) -> list[Any]:
        """Return the handles of the actors, in the order of their environments."""
        return [actor.handle for actor in self._actors]

    def places(self) -> list[dict[str, Any]]:
        """Return for each environment its actor's process (`pid`), torch threads, and `CUDA_VISIBLE_DEVICES` (`cuda`)."""
        return self._ask("describe", None)

    def encoder_state(self) -> State:
        """Return the memory of the actors' encoders, one row an environment, to be kept in a checkpoint."""
        rows = self._ask("encoder_state", None)
        return {name: torch.cat([row[name] for row in rows]) for name in rows[0]}

    def restore_encoder_state(self, state: State) -> None:
        """Go on from what `encoder_state` returned."""
        for actor in self._actors:
            rows = {name: tensor[actor.rows] for name, tensor in state.items()}
            self._ask("restore_encoder_state", range(actor.rows.start, actor.rows.stop), rows)

    def _ask(self, method: str, indices: VecEnvIndices, *arguments: Any) -> list[Any]:
        """Call a method of the actors that have `indices`; it returns one value an environment."""
        wanted = list(self._get_indices(indices))
        theirs = {actor: [row for row in wanted if actor.rows.start <= row < actor.rows.stop] for actor in self._actors}

        def call(actor: _Actor) -> Any:
            if actor.cut_off:
                self._begin_anew(actor)
            return getattr(actor.handle, method).remote([row - actor.rows.start for row in theirs[actor]], *arguments)

        values: dict[int, Any] = {}
        for actor, answer in self._answers([actor for actor in self._actors if theirs[actor]], call).items():
            values.update(zip(theirs[actor], answer, strict=True))
        return [values[row] for row in wanted]

    def _answers(self, actors: Sequence[_Actor], ask: Callable[[_Actor], Any]) -> dict[_Actor, Any]:
        return {actor: answer for actor, _, answer in self._as_they_come(self._asked(actors, ask), ask)}

    def _asked(self, actors: Sequence[_Actor], ask: Callable[[_Actor], Any]) -> dict[Any, tuple[_Actor, Any]]:
        return {ask(actor): (actor, actor.handle) for actor in actors}

    def _as_they_come(self, pending: dict[Any, tuple[_Actor, Any]], again: Callable[[_Actor], Any]) -> Iterator[tuple[_Actor, Any, Any]]:
        """Yield actors, references and answers as they come; an actor that died is replaced, and the new one asked what `again` asks."""
        while pending:
            (reference, *_), _ = ray.wait(list(pending))
            actor, asked = pending.pop(reference)
            try:
                answer = ray.get(reference)
            except _DEATHS as error:
                if asked is actor.handle:
                    self._replace(actor, error)
                pending[again(actor)] = actor, actor.handle
            except RayTaskError as error:
                raise self._cause(actor, error) from None
            else:
                actor.failures = 0
                yield actor, reference, answer

    def _cause(self, actor: _Actor, error: RayTaskError) -> Exception:
        """Return what an environment raised: in being made, where that is what failed."""
        try:
            ray.get(actor.started)
        except RayTaskError as first:
            error = first
        return error.cause if isinstance(error.cause, UserError) else error

    def _start(self, actor: _Actor) -> None:
        variables = {"env_vars": {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}}
        host: Any = ray.remote(EnvironmentHost)
        actor.handle = host.options(num_cpus=ACTOR_CPUS, num_gpus=0, max_restarts=0, runtime_env=variables).remote()
        first, last = actor.rows.start, actor.rows.stop
        attributes = {(row - first, name): value for (row, name), value in self._attributes.items() if first <= row < last}
        theirs = self.factories[actor.rows], self._counts[actor.rows]
        actor.started = actor.handle.start.remote(*theirs, attributes, self._frozen)

    def _replace(self, actor: _Actor, error: Exception) -> None:
        """Start another actor in the place of a dead one, and count the death for each of its environments."""
        reason = str(error).strip().splitlines()[0]
        if self.replaced >= self.replacements:
            raise UserError(
                f"the actor of environments {actor.rows.start} to {actor.rows.stop - 1} died ({reason}), and {self.replaced} were replaced "
                "already, as many as may be: find out what kills them (memory?), or allow more with --remote.replacements"
            ) from error
        if actor.failures:
            time.sleep(min(self.backoff_seconds * 2 ** (actor.failures - 1), _LONGEST_BACKOFF))
        cause = "deaths" if actor.playing else "failed_resets"
        for row in range(actor.rows.start, actor.rows.stop):
            self._counts[row] = {**self._counts[row], cause: self._counts[row].get(cause, 0) + 1}
        actor.cut_off, actor.playing = actor.cut_off or actor.playing, False
        actor.failures += 1
        actor.fresh = None
        self.replaced += 1
        # one that only cannot be reached must not live on beside its replacement
        ray.kill(actor.handle)
        self._start(actor)

    def _begin_anew(self, actor: _Actor) -> Any:
        """Return the reference to the first reset of an actor that replaces another."""
        if actor.fresh is None:
            rows = actor.rows.stop - actor.rows.start
            actor.fresh = actor.handle.reset.remote([None] * rows, [{}] * rows)
        return actor.fresh

    def _take_reset(self, actor: _Actor, observation: Any, infos: list[dict[str, Any]]) -> None:
        _put(self.results.observation, actor.rows, observation)
        self.reset_infos[actor.rows] = infos
        self._remember(actor, infos)
        actor.playing, actor.cut_off, actor.fresh = True, False, None

    def _take_step(
        self, actor: _Actor, observation: Any, rewards: np.ndarray, dones: np.ndarray, infos: list[dict], resets: dict[int, dict]
    ) -> None:
        _put(self.results.observation, actor.rows, observation)
        self.results.rewards[actor.rows], self.results.dones[actor.rows] = rewards, dones
        self.results.infos[actor.rows] = infos
        for index, info in resets.items():
            self.reset_infos[actor.rows.start + index] = info
        # the last answer of an actor that was found dead since: its counts are older than those with its death
        if not actor.cut_off:
            self._remember(actor, [resets.get(index, info) for index, info in enumerate(infos)])

    def _cut_off(self, actor: _Actor, last: Any) -> None:
        """End the episodes that died with an actor."""
        self.results.rewards[actor.rows], self.results.dones[actor.rows] = 0.0, True
        for row in range(actor.rows.start, actor.rows.stop):
            self.results.infos[row] = {
                "TimeLimit.truncated": True,
                "terminal_observation": _row(last, row),
                "actor_died": True,
                "error": "the actor of this environment died",
                "counts": self._counts[row],
            }

    def _remember(self, actor: _Actor, infos: list[dict[str, Any]]) -> None:
        for row, info in enumerate(infos, actor.rows.start):
            self._counts[row] = info.get("counts", self._counts[row])

    def _empty(self) -> Results:
        count = self.num_envs
        numbers = np.zeros(count, np.float32), np.zeros(count, bool)
        return Results(_empty(self.observation_space, count), *numbers, [{} for _ in range(count)])


def _check_cluster(actors: int, environments: int) -> None:
    if not 1 <= actors <= environments:
        raise UserError(f"'remote.actors' must be from 1 to the number of environments, {environments}, got {actors}")
    if not ray.is_initialized():
        raise UserError("remote environments need Ray, and it does not run here: call ray.init() first")
    free = ray.available_resources().get("CPU", 0.0)
    if ACTOR_CPUS * actors > free + 1e-6:
        raise UserError(
            f"{actors} environment actors ask Ray for {ACTOR_CPUS} CPUs each, and {free:g} of its "
            f"{ray.cluster_resources().get('CPU', 0):g} are free: lower --remote.actors, or give Ray more CPUs"
        )


def _empty(space: spaces.Space, rows: int) -> Any:
    if isinstance(space, spaces.Dict):
        return {key: _empty(one, rows) for key, one in space.spaces.items()}
    if isinstance(space, spaces.Tuple):
        return tuple(_empty(one, rows) for one in space.spaces)
    return np.zeros((rows, *(space.shape or ())), space.dtype)


def _put(into: Any, rows: slice, part: Any) -> None:
    if isinstance(into, dict):
        for key, one in into.items():
            _put(one, rows, part[key])
    elif isinstance(into, tuple):
        for one, other in zip(into, part, strict=True):
            _put(one, rows, other)
    else:
        into[rows] = part


def _row(observation: Any, row: int) -> Any:
    if isinstance(observation, dict):
        return {key: _row(one, row) for key, one in observation.items()}
    if isinstance(observation, tuple):
        return tuple(_row(one, row) for one in observation)
    return observation[row].copy()
