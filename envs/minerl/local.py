"""A game whose client, the `minerl` package, runs in this process."""

import copy
import math
import struct
from typing import Any

from envs.minerl import installation, launching, spaces
from envs.minerl.game import Action, GameDied, Observation
from envs.minerl.mission import check_stand_in
from foundation.errors import UserError

_BROKEN_MESSAGE = (struct.error, TypeError, ValueError, AttributeError)
REPLY_TIMEOUT = 240.0
START_TIMEOUT = 600.0


class LocalGame:
    """A `Game` over the installed `minerl`, on Minecraft or on the voxel server.

    `timeout`: seconds without a reply after which the game counts as hung; `start_timeout`: seconds it has to start up.
    Raises `UserError` for an unknown task, and where `minerl` is missing.
    """

    def __init__(
        self,
        task_id: str,
        server: str = "minecraft",
        timeout: float = REPLY_TIMEOUT,
        start_timeout: float = START_TIMEOUT,
        headless: bool | None = None,
    ) -> None:
        # a client changes its spec at every reset
        self._spec = copy.deepcopy(installation.spec(task_id))
        self.task_id = task_id
        self.observation_space = spaces.dictionary(spaces.describe(self._spec.observation_space))
        self.action_space = spaces.dictionary(spaces.describe(self._spec.action_space))
        self.max_episode_steps = int(self._spec.max_episode_steps)
        if server == "voxel":
            check_stand_in(task_id, self._spec.to_xml())
        self._server, self._headless = server, headless
        self._timeout, self._start_timeout = seconds("timeout", timeout), seconds("start_timeout", start_timeout)
        self._client: Any = None
        self._launched: launching.Launched | None = None
        self._steps = 0

    def reset(self, seed: int | None = None) -> Observation:
        """Start the game where it does not run, and begin an episode in the world of `seed`."""
        if self._client is None:
            self._launched = launching.launch(self._server, self._start_timeout, self._headless)
            self._client = self._connect(self._launched.instance)
        self._steps = 0
        try:
            self._client.seed(seed, seed_spaces=False)
            return spaces.read_observation(self.observation_space, self._client.reset())
        # a lost connection is an AttributeError, a TypeError or a struct.error, as chance will have it
        except Exception as error:
            raise self._died("reset", error) from error
        except BaseException:
            # Ctrl-C in the middle of a message: the rest of it would be taken for the next
            self.close()
            raise

    def step(self, action: Action) -> tuple[Observation, float, bool, dict[str, Any]]:
        """Advance one tick."""
        commands = spaces.write_action(self.action_space, action)
        if self._client is None:
            raise GameDied(f"{self.task_id}: a step before a reset")
        self._steps += 1
        try:
            observation, reward, done, info = self._client.step(commands)
            if "error" in info:
                # what came with it is no observation but a random sample of the space; it says "timed out" whatever happened
                raise ConnectionError("no whole reply came")
            return spaces.read_observation(self.observation_space, observation), float(reward), bool(done), dict(info)
        except Exception as error:
            raise self._died(f"step {self._steps}", error) from error
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """End the connection and the game's processes."""
        if self._client is not None:
            connection = self._launched.instance.client_socket if self._launched else None
            if self._launched:
                self._launched.instance.running = False
            self._client.close()
            if connection is not None:
                connection.close()
        if self._launched is not None:
            self._launched.end()
        self._client = self._launched = None

    def processes(self) -> list[int]:
        """Return the ids of the processes that it has started and that live."""
        return [] if self._launched is None else self._launched.processes()

    def _connect(self, instance: Any) -> Any:
        client = self._spec.make(instances=[instance], is_fault_tolerant=False)
        # the client would kill the game that it cannot reach and start one of its own, which nobody knows of
        client._TO_MOVE_handle_frozen_minecraft = lambda instance: None
        connect = instance.create_multiagent_instance_socket
        instance.create_multiagent_instance_socket = lambda socktime: connect(socktime=self._timeout)
        return client

    def _died(self, when: str, error: Exception) -> GameDied:
        """End what is left; return what to say about it."""
        said = "no whole reply came" if isinstance(error, _BROKEN_MESSAGE) else " ".join(str(error).split())
        words = self._launched.last_words() if self._launched is not None else "it does not run"
        self.close()
        return GameDied(f"{self.task_id} died at {when}: {said or type(error).__name__}; {words}")


def seconds(name: str, value: float) -> float:
    """Return a number of seconds; raises `UserError` for what is none."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not (math.isfinite(value) and value > 0):
        raise UserError(f"{name}={value!r}: must be a number of seconds above 0")
    return float(value)
