"""What an environment actor runs: a few environments stepped at the same time, with an encoder over them where latents travel."""

import os
import pickle
import threading
import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from typing import Any

import gymnasium
import ray
import torch
from ray import cloudpickle
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv
from stable_baselines3.common.vec_env.base_vec_env import VecEnvObs, VecEnvStepReturn

from encoders.encoder import State
from foundation.connections import KeyedListener
from wrappers import PictureEncoder, VecLatent

Counts = dict[str, int]
Factory = Callable[[Counts], gymnasium.Env]
"""Makes an environment, told what the one that it replaces had in `info["counts"]`, its death included (nothing: there was none)."""


class ThreadedVecEnv(DummyVecEnv):
    """A `DummyVecEnv` whose environments step and reset at the same time, each in a thread: for those that wait more than they compute."""

    def __init__(self, factories: Sequence[Callable[[], gymnasium.Env]]) -> None:
        super().__init__(list(factories))
        self._threads = ThreadPoolExecutor(self.num_envs)

    def reset(self) -> VecEnvObs:
        self._each(self._reset_one)
        self._reset_seeds()
        self._reset_options()
        return self._obs_from_buf()

    def step_wait(self) -> VecEnvStepReturn:
        self._each(self._step_one)
        return self._obs_from_buf(), self.buf_rews.copy(), self.buf_dones.copy(), list(self.buf_infos)

    def close(self) -> None:
        self._each(lambda index: self.envs[index].close())
        self._threads.shutdown()

    def _each(self, do: Callable[[int], None]) -> None:
        if self.num_envs == 1:
            do(0)
        else:
            list(self._threads.map(do, range(self.num_envs)))

    def _reset_one(self, index: int) -> None:
        options = {"options": self._options[index]} if self._options[index] else {}
        observation, self.reset_infos[index] = self.envs[index].reset(seed=self._seeds[index], **options)
        self._save_obs(index, observation)

    def _step_one(self, index: int) -> None:
        # copied: an environment may change what it is given, and draw the next episode into the arrays of this one's end
        observation, reward, terminated, truncated, info = self.envs[index].step(deepcopy(self.actions[index]))
        self.buf_rews[index], self.buf_dones[index] = float(reward), terminated or truncated
        info = {**info, "TimeLimit.truncated": truncated and not terminated}
        if terminated or truncated:
            info = deepcopy({**info, "terminal_observation": observation})
            observation, self.reset_infos[index] = self.envs[index].reset()
        self.buf_infos[index] = info
        self._save_obs(index, observation)


class EnvironmentHost:
    """The actor. `start` makes its environments; nothing that can fail is in the constructor, so that errors keep their type.

    Its other methods are called through `answer`: by requests that come over a connection of its own, or in a Ray call.
    """

    def __init__(self) -> None:
        torch.set_num_threads(1)

    def start(
        self,
        key: bytes,
        factories: Sequence[Factory],
        counts: Sequence[Counts],
        attributes: dict[tuple[int, str], Any],
        frozen: PictureEncoder | None,
        begin: bool,
    ) -> dict[str, Any]:
        """Make the environments and return their spaces and metadata, and the address at which whoever has the key may connect.

        `attributes` are set on the environments, by index and name. With `begin`, their first episodes begin here.
        """
        made = [lambda factory=factory, count=count: factory(count) for factory, count in zip(factories, counts, strict=True)]
        self.bare = ThreadedVecEnv(made)
        for (index, name), value in attributes.items():
            self.bare.set_attr(name, value, index)
        self.venv: VecEnv = self.bare if frozen is None else VecLatent(self.bare, frozen)
        self._begun = self.reset([None] * len(factories), [{}] * len(factories)) if begin else None
        listener = KeyedListener(ray.util.get_node_ip_address(), key)
        threading.Thread(target=self._serve, args=(listener,), daemon=True).start()
        spaces = {"observation_space": self.venv.observation_space, "action_space": self.venv.action_space}
        return {**spaces, "metadata": self.bare.metadata, "address": listener.address}

    def answer(self, request: bytes) -> bytes:
        """Do what a request asks, (number, pickled method and arguments); return its number, and the value or the exception."""
        number, call = pickle.loads(request)
        try:
            method, arguments = pickle.loads(call)
            return cloudpickle.dumps((number, getattr(self, method)(*arguments), None))
        except Exception as error:
            return cloudpickle.dumps((number, None, _portable(error)))

    def begun(self) -> Any:
        """Return what `reset` returned to `start`."""
        return self._begun

    def reset(self, seeds: list[int | None], options: list[dict[str, Any]]) -> tuple[VecEnvObs, list[dict[str, Any]]]:
        """Begin all episodes; return the observations and the infos of the resets."""
        self.bare._seeds, self.bare._options = list(seeds), list(options)
        return self.venv.reset(), self.bare.reset_infos

    def step(self, actions: Any) -> tuple[Any, ...]:
        """Step all; return what `VecEnv.step` returns, and the infos of the resets of those that are done, by index."""
        observation, rewards, dones, infos = self.venv.step(actions)
        return observation, rewards, dones, infos, {int(index): self.bare.reset_infos[index] for index in dones.nonzero()[0]}

    def get_attr(self, indices: list[int], name: str) -> list[Any]:
        return self.bare.get_attr(name, indices)

    def has_attr(self, indices: list[int], name: str) -> list[bool]:
        return [self.bare.has_attr(name)] * len(indices)

    def set_attr(self, indices: list[int], name: str, value: Any) -> list[None]:
        self.bare.set_attr(name, value, indices)
        return [None] * len(indices)

    def env_method(self, indices: list[int], name: str, arguments: tuple[Any, ...], options: dict[str, Any]) -> list[Any]:
        return self.bare.env_method(name, *arguments, indices=indices, **options)

    def env_is_wrapped(self, indices: list[int], wrapper: type[gymnasium.Wrapper]) -> list[bool]:
        return self.bare.env_is_wrapped(wrapper, indices)

    def get_images(self, indices: list[int]) -> list[Any]:
        images = self.bare.get_images()
        return [images[index] for index in indices]

    def encoder_state(self, indices: list[int]) -> list[State]:
        """Return the encoder's memory, one row an environment; nothing where the actor does not encode."""
        state = self.venv.encoder_state() if isinstance(self.venv, VecLatent) else {}
        return [{name: tensor[index : index + 1] for name, tensor in state.items()} for index in indices]

    def restore_encoder_state(self, indices: list[int], state: State) -> list[None]:
        """Go on from the rows of a memory."""
        if isinstance(self.venv, VecLatent):
            self.venv.restore_encoder_state(state)
        return [None] * len(indices)

    def describe(self, indices: list[int]) -> list[dict[str, Any]]:
        """Say where the environments run: process, torch threads, CUDA devices let in."""
        about = {"pid": os.getpid(), "threads": torch.get_num_threads(), "cuda": os.environ.get("CUDA_VISIBLE_DEVICES")}
        return [about] * len(indices)

    def close(self) -> None:
        """Close the environments."""
        self.venv.close()

    def _serve(self, listener: KeyedListener) -> None:
        with listener.accept() as connection:
            while True:
                try:
                    request = connection.recv_bytes()
                except (EOFError, OSError):
                    return
                connection.send_bytes(self.answer(request))


def _portable(error: Exception) -> Exception:
    """Return an exception that another process can read, with the place it comes from."""
    try:
        pickle.loads(cloudpickle.dumps(error))
    except Exception:
        error = RuntimeError(f"{type(error).__name__}: {error}")
    error.add_note(traceback.format_exc())
    return error
