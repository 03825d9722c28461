"""A `VecEnv` whose environments live in Ray actors, on any node; an actor that dies is replaced and its episodes are truncated."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import gymnasium
import numpy as np
import ray
import torch
from gymnasium import spaces
from stable_baselines3.common.vec_env import VecEnv
from stable_baselines3.common.vec_env.base_vec_env import VecEnvIndices, VecEnvObs, VecEnvStepReturn

from agents.remote.config import ACTOR_CPUS
from agents.remote.connection import ActorConnection, ActorLost, answered
from agents.remote.host import Counts, EnvironmentHost, Factory
from agents.remote.restarts import counts_after
from encoders.encoder import State
from foundation.errors import UserError
from foundation.minerl import GAME_ERROR
from wrappers import PictureEncoder

_LONGEST_BACKOFF = 60.0
_CLOSE_SECONDS = 20.0
_FREE_SECONDS = 60.0
"""Where a run goes on after a death, the actors of its last attempt may hold their CPUs for a while."""


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
class _Group:
    """Neighbouring rows, and the actor that has their environments."""

    rows: slice
    actor: ActorConnection = field(init=False)
    playing: bool = False
    """Episodes are under way in it."""
    cut_off: bool = False
    """It replaces one whose episodes have not been ended towards the learner yet, and has begun the next ones."""
    failures: int = 0
    """Deaths since it last answered."""


class RayVecEnv(VecEnv):
    """Environments in `actors` Ray actors, neighbours together, stepped at the same time in threads of their actor.

    Results are taken as they come (`arrivals`). With `frozen`, actors encode on their CPU and the observation is that of
    `VecLatent`; the encoder's memory is then theirs. A dead actor is replaced by a new one: the step that was under way gives
    its last observations, reward 0 and done with `TimeLimit.truncated`, `actor_died` and `minerl/error` in the info, and new episodes
    begin. An actor that does not answer within `timeout_seconds` counts as dead. `info["counts"]` of an environment goes to the
    one that replaces it, one death more (one failed reset, where no episode was under way; see `counts_after`). The first
    replacement is made at once, later ones without an answer between them after `backoff_seconds`, doubled each time, at most a
    minute.

    Raises `UserError` where Ray does not run or is too small, for more actors than environments, and for the death after
    `replacements` of them. Errors that an environment raises are raised here. Needs `ray.init`, or a Ray worker around it.
    Actors, each of which asks for `cpus`, are started and ended by Ray; steps take a connection to each of them.
    """

    def __init__(
        self,
        factories: Sequence[Factory],
        actors: int,
        *,
        frozen: PictureEncoder | None = None,
        replacements: int = 20,
        backoff_seconds: float = 1.0,
        timeout_seconds: float = 1800.0,
        cpus: float = ACTOR_CPUS,
    ) -> None:
        _check_cluster(actors, len(factories), cpus)
        self.factories, self.replacements, self.backoff_seconds = factories, replacements, backoff_seconds
        self.timeout_seconds, self.cpus = timeout_seconds, cpus
        self.replaced = 0
        """Actors replaced so far."""
        self._frozen = None if frozen is None else ray.put(frozen.on_cpu())
        self._counts: list[Counts] = [{} for _ in factories]
        self._attributes: dict[tuple[int, str], Any] = {}
        self._stepping = False
        self._groups = [_Group(slice(int(rows[0]), int(rows[-1]) + 1)) for rows in np.array_split(np.arange(len(factories)), actors)]
        for group in self._groups:
            self._start(group)
        try:
            for _ in self._as_they_come(self._groups, lambda group: None):
                pass
        except BaseException:
            self.close()
            raise
        about = self._groups[0].actor.about
        super().__init__(len(factories), about["observation_space"], about["action_space"])
        self.metadata = about["metadata"]
        self.results = self._empty()

    def reset(self) -> VecEnvObs:
        seeds, options = self._seeds, self._options

        def begin(group: _Group) -> None:
            group.actor.ask("reset", seeds[group.rows], options[group.rows])

        for group in self._groups:
            group.playing = group.cut_off = False
        self._stepping = False
        self.results = self._empty()
        for group, answer in self._asked(self._groups, begin):
            self._take_reset(group, *answer)
        self._reset_seeds()
        self._reset_options()
        return self.results.observation

    def step_async(self, actions: np.ndarray) -> None:
        self._refuse_while_stepping("another step_async")
        for group in self._groups:
            if group.cut_off:
                group.actor.ask("begun")
            else:
                group.actor.ask("step", actions[group.rows])
        self._stepping = True

    def step_wait(self) -> VecEnvStepReturn:
        for _ in self.arrivals():
            pass
        return self.results.as_step()

    def arrivals(self) -> Iterator[slice]:
        """Wait for the step under way, as `step_wait` does, but yield the rows of each actor as soon as `results` holds them."""
        before, self.results = self.results, self._empty()
        for group, answer in self._as_they_come(self._groups, lambda group: group.actor.ask("begun")):
            if group.cut_off:
                self._cut_off(group, before.observation)
                self._take_reset(group, *answer)
            else:
                self._take_step(group, *answer)
            yield group.rows
        self._stepping = False

    def close(self) -> None:
        if not ray.is_initialized():
            return
        closing = [group.actor for group in self._groups]
        self._groups = []
        for actor in closing:
            actor.ask("close", within=_CLOSE_SECONDS)
        while closing:
            for actor in answered(closing):
                closing.remove(actor)
                actor.end()

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        return self._ask("get_attr", indices, attr_name)

    def has_attr(self, attr_name: str) -> bool:
        return all(self._ask("has_attr", None, attr_name))

    def set_attr(self, attr_name: str, value: Any, indices: VecEnvIndices = None) -> None:
        self._ask("set_attr", indices, attr_name, value)
        # an environment that replaces one is set likewise
        self._attributes.update({(row, attr_name): value for row in self._get_indices(indices)})

    def _get_indices(self, indices: VecEnvIndices) -> list[int]:
        """Return rows from 0; negative indices count from the last, as in a list. Raises IndexError for one that is not there."""
        every = range(self.num_envs)
        return [every[index] for index in super()._get_indices(indices)]

    def env_method(self, method_name: str, *method_args: Any, indices: VecEnvIndices = None, **method_kwargs: Any) -> list[Any]:
        return self._ask("env_method", indices, method_name, method_args, method_kwargs)

    def env_is_wrapped(self, wrapper_class: type[gymnasium.Wrapper], indices: VecEnvIndices = None) -> list[bool]:
        return self._ask("env_is_wrapped", indices, wrapper_class)

    def get_images(self) -> Sequence[np.ndarray | None]:
        return self._ask("get_images", None)

    def actors(self) -> list[Any]:
        """Return the handles of the actors, in the order of their environments."""
        return [group.actor.handle for group in self._groups]

    def cut_off(self) -> np.ndarray:
        """Return which environments' last episodes ended with an actor, bool (B,), and will be said to be done by the next step."""
        return np.repeat([group.cut_off for group in self._groups], [group.rows.stop - group.rows.start for group in self._groups])

    def places(self) -> list[dict[str, Any]]:
        """Return for each environment its actor's process (`pid`), torch threads, and `CUDA_VISIBLE_DEVICES` (`cuda`)."""
        return self._ask("describe", None)

    def encoder_state(self) -> State:
        """Return the memory of the actors' encoders, one row an environment, to be kept in a checkpoint."""
        rows = self._ask("encoder_state", None)
        return {name: torch.cat([row[name] for row in rows]) for name in rows[0]}

    def restore_encoder_state(self, state: State) -> None:
        """Go on from what `encoder_state` returned."""
        for group in self._groups:
            rows = {name: tensor[group.rows] for name, tensor in state.items()}
            self._ask("restore_encoder_state", range(group.rows.start, group.rows.stop), rows)

    def _ask(self, method: str, indices: VecEnvIndices, *arguments: Any) -> list[Any]:
        """Call a method of the actors that have `indices`; it returns one value an environment."""
        self._refuse_while_stepping(method)
        wanted = self._get_indices(indices)
        # by their places among the indices, which may name an environment twice
        theirs = {group: [place for place, row in enumerate(wanted) if group.rows.start <= row < group.rows.stop] for group in self._groups}

        def call(group: _Group) -> None:
            group.actor.ask(method, [wanted[place] - group.rows.start for place in theirs[group]], *arguments)

        values: dict[int, Any] = {}
        for group, answer in self._asked([group for group in self._groups if theirs[group]], call):
            values.update(zip(theirs[group], answer, strict=True))
        return [values[place] for place in range(len(wanted))]

    def _refuse_while_stepping(self, method: str) -> None:
        if self._stepping:
            raise RuntimeError(f"a step is under way: step_wait() comes before {method}()")

    def _asked(self, groups: Iterable[_Group], ask: Callable[[_Group], None]) -> Iterator[tuple[_Group, Any]]:
        groups = list(groups)
        for group in groups:
            ask(group)
        return self._as_they_come(groups, ask)

    def _as_they_come(self, groups: Iterable[_Group], again: Callable[[_Group], None]) -> Iterator[tuple[_Group, Any]]:
        """Yield groups and their actors' answers as they come; an actor that died is replaced, and the new one asked `again`."""
        pending = list(groups)
        while pending:
            by_actor = {group.actor: group for group in pending}
            for actor in answered(by_actor):
                group = by_actor[actor]
                try:
                    answer = actor.take()
                except ActorLost as error:
                    self._replace(group, error)
                    again(group)
                else:
                    group.failures = 0
                    pending.remove(group)
                    yield group, answer

    def _start(self, group: _Group) -> None:
        variables = {"env_vars": {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}}
        host: Any = ray.remote(EnvironmentHost)
        handle = host.options(num_cpus=self.cpus, num_gpus=0, max_restarts=0, runtime_env=variables).remote()
        first, last = group.rows.start, group.rows.stop
        attributes = {(row - first, name): value for (row, name), value in self._attributes.items() if first <= row < last}
        arguments = self.factories[group.rows], self._counts[group.rows], attributes, self._frozen, group.cut_off
        group.actor = ActorConnection(handle, arguments, self.timeout_seconds)

    def _replace(self, group: _Group, error: ActorLost) -> None:
        """Start another actor in the place of a dead one, and count the death for each of its environments."""
        # one that only cannot be reached must not live on beside its replacement
        group.actor.end()
        if self.replaced >= self.replacements:
            raise UserError(
                f"the actor of environments {group.rows.start} to {group.rows.stop - 1} died ({error}) after {self.replaced} replacements, "
                "the limit: find out what kills them (memory?), or allow more with --remote.replacements"
            ) from error
        if group.failures:
            time.sleep(min(self.backoff_seconds * 2 ** (group.failures - 1), _LONGEST_BACKOFF))
        cause = "deaths" if group.playing else "failed_resets"
        self._counts[group.rows] = [counts_after(cause, counts) for counts in self._counts[group.rows]]
        group.cut_off, group.playing = group.cut_off or group.playing, False
        group.failures += 1
        self.replaced += 1
        self._start(group)

    def _take_reset(self, group: _Group, observation: Any, infos: list[dict[str, Any]]) -> None:
        _put(self.results.observation, group.rows, observation)
        self.reset_infos[group.rows] = infos
        self._remember(group, infos)
        group.playing, group.cut_off = True, False

    def _take_step(
        self, group: _Group, observation: Any, rewards: np.ndarray, dones: np.ndarray, infos: list[dict], resets: dict[int, dict]
    ) -> None:
        _put(self.results.observation, group.rows, observation)
        self.results.rewards[group.rows], self.results.dones[group.rows] = rewards, dones
        self.results.infos[group.rows] = infos
        for index, info in resets.items():
            self.reset_infos[group.rows.start + index] = info
        self._remember(group, [resets.get(index, info) for index, info in enumerate(infos)])

    def _cut_off(self, group: _Group, last: Any) -> None:
        """End the episodes that died with an actor."""
        self.results.rewards[group.rows], self.results.dones[group.rows] = 0.0, True
        for row in range(group.rows.start, group.rows.stop):
            self.results.infos[row] = {
                "TimeLimit.truncated": True,
                "terminal_observation": _row(last, row),
                "actor_died": True,
                GAME_ERROR: "the actor of this environment died",
                "counts": self._counts[row],
                "again": bool(self._counts[row].get("repeating")),
            }

    def _remember(self, group: _Group, infos: list[dict[str, Any]]) -> None:
        for row, info in enumerate(infos, group.rows.start):
            self._counts[row] = info.get("counts", self._counts[row])

    def _empty(self) -> Results:
        count = self.num_envs
        numbers = np.zeros(count, np.float32), np.zeros(count, bool)
        return Results(_empty(self.observation_space, count), *numbers, [{} for _ in range(count)])


def _check_cluster(actors: int, environments: int, cpus: float) -> None:
    if not 1 <= actors <= environments:
        raise UserError(f"'remote.actors' must be from 1 to the number of environments, {environments}, got {actors}")
    if not ray.is_initialized():
        raise UserError("remote environments need Ray, which is not running: call ray.init() first")
    total, deadline = ray.cluster_resources().get("CPU", 0.0), time.monotonic() + _FREE_SECONDS
    while cpus * actors > (free := ray.available_resources().get("CPU", 0.0)) + 1e-6:
        if cpus * actors > total or time.monotonic() > deadline:
            raise UserError(
                f"{actors} environment actors ask Ray for {cpus} CPUs each, and {free:g} of its {total:g} are free: "
                "lower --remote.actors, or give Ray more CPUs"
            )
        time.sleep(0.2)


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
