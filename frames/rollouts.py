"""Frames collected from an environment: players act, the store fills, with actions and rewards."""

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import gymnasium
import numpy as np

from foundation.errors import UserError, nearest
from foundation.progress import Advance, progress_bar, say
from foundation.seeds import FIRST_EVALUATION_SEED
from frames.building.build import BuildSummary, close_summary, finished_summary
from frames.curation.splits import BY_RECORDING, assign_splits
from frames.resize import ResizeMode, resize_frames, resize_kinds
from frames.storage.format import RANDOM_PLAYER
from frames.storage.writer import StoreWriter, finished_store, store_writer

_CAMERA_DEGREES = 5.0
_USUAL_RATE = 20.0
"""Frames a second of Minecraft, for environments that name none."""
_PICTURE = "pov"
_STATE, _SEGMENTATION = "state", "segmentation"
RECORDED = (_STATE, _SEGMENTATION)
"""What is recorded beside observations on request."""
# MineRL 1.0: one ends the episode, the other opens a screen over the world
_NEVER_PRESSED = ("ESC", "inventory")


class Player(Protocol):
    """Plays an environment from its observation and `info`."""

    def reset(self, seed: int) -> None: ...

    def __call__(self, observation: Any, info: dict[str, Any]) -> Any: ...


class RandomPlayer:
    """Random actions that stick for some ticks, as a key that is held: 8 on average.

    An action called `camera` turns by a few degrees a tick instead of anywhere within its bounds; `ESC` and `inventory`, which end an
    episode and cover the world, are never pressed.
    """

    def __init__(self, action_space: gymnasium.Space) -> None:
        self._space = deepcopy(action_space)
        self._random = np.random.default_rng()
        self._left, self._action = 0, None

    def reset(self, seed: int) -> None:
        self._space.seed(seed)
        self._random, self._left = np.random.default_rng(seed), 0

    def __call__(self, observation: Any, info: dict[str, Any]) -> Any:
        if self._left == 0:
            self._left = int(self._random.geometric(1 / 8))
            self._action = self._space.sample()
            if isinstance(self._action, dict) and "camera" in self._action:
                self._action["camera"] = self._random.normal(0, _CAMERA_DEGREES, 2).astype(np.float32)
                self._action.update({key: 0 for key in _NEVER_PRESSED if key in self._action})
        self._left -= 1
        return deepcopy(self._action)


def record(
    make_env: Callable[[], gymnasium.Env],
    player: Player | Sequence[Player | None] | None,
    path: str | Path,
    *,
    frames: int = 20_000,
    seed: int = 0,
    name: str = "rollouts",
    episode_frames: int = 500,
    frame_size: tuple[int, int] = (64, 64),
    resize: ResizeMode = "squash",
    frames_per_second: float | None = None,
    split: str = BY_RECORDING,
    val: float = 0.1,
    test: float = 0.0,
    beside: Collection[str] = (),
) -> BuildSummary:
    """Fill the store at `path` with `frames` frames of episodes played in the environment that `make_env` gives.

    Its observation is an RGB picture uint8 (H, W, 3), or a dictionary with one, under `pov` where there are several; the rest of the
    dictionary is kept too where it is of numbers. None plays at random; several players take turns, an episode each. Episodes end with the
    environment's or after `episode_frames`. The worlds' seeds follow from `seed`, so that the same call gives the same fingerprint, and lie
    below those that agents are evaluated with. `name` says what is recorded, and an interrupted recording goes on only under the same.
    Frames a second are those that the environment's metadata names (`render_fps`), unless given.
    Where `info["error"]` tells that a game died, the episode is kept up to its last true frame. `beside` records what some environments
    offer (docs/environments.md): "state", the numbers of `info["state"]`, and "segmentation", what every pixel shows.
    Raises `UserError` when the environment fails, the disk is full or something else is at `path`.
    """
    path, began = Path(path), time.monotonic()
    assign_splits([], split, val, test)
    if frames < 1 or episode_frames < 1:
        raise UserError(f"{frames} frames in episodes of {episode_frames}: both must be at least 1")
    if seed < 0:
        raise UserError(f"seed {seed}: must be 0 or more")
    players = list(player) if isinstance(player, Sequence) else [player]
    plan = {
        "source": name,
        "frames": frames,
        "seed": seed,
        "episode_frames": episode_frames,
        "players": [_player_name(player) for player in players],
        "frame_size": list(frame_size),
        "resize": resize,
        "split": [split, val, test],
        **({"beside": sorted(beside)} if beside else {}),
    }
    if (finished := finished_store(path, plan)) is not None:
        return finished_summary(finished)
    with closing(make_env()) as env, store_writer(path, plan, (*frame_size, 3)) as writer:
        kept, task = len(writer.committed), env.spec.id if env.spec is not None else name
        try:
            watching = _Watching(env, beside, partial(resize_kinds, size=frame_size, mode=resize))
            rollouts = _Rollouts(env, players, seed, partial(resize_frames, size=frame_size, mode=resize), watching)
            _fill(writer, rollouts, frames, episode_frames, name, task, frames_per_second or _named_rate(env, name))
        except BaseException:
            # nothing to go on with, and a folder left behind would refuse another plan
            if not writer.committed:
                writer.abandon()
            raise
        return close_summary(writer, kept, [], began, partial(assign_splits, split=split, val=val, test=test), resize)


def _fill(
    writer: StoreWriter, rollouts: "_Rollouts", frames: int, episode_frames: int, source: str, task: str, rate: float
) -> None:
    """Play the episodes that the store does not have yet, until it has all its frames."""
    done = sum(episode.length for episode in writer.committed.values())
    total, number = 0, 0
    with progress_bar("recording", frames, "frames", done) as advance:
        while total < frames:
            name, played_by = rollouts.name(number)
            episode = writer.committed.get(name)
            if episode is None:
                rollout = rollouts.play(number, min(episode_frames, frames - total))
                episode = writer.add(
                    name,
                    _counted(rollout.frames(), advance),
                    source=f"{source}, {played_by}",
                    frames_per_second=rate,
                    arrays=rollout.arrays,
                    task=task,
                )
            total, number = total + episode.length, number + 1


def _named_rate(env: gymnasium.Env, name: str) -> float:
    """Return how many steps an environment takes in a second, as it says itself."""
    rate = (env.metadata or {}).get("render_fps")
    if rate:
        return float(rate)
    say(f"{name} names no frames a second (metadata['render_fps']): taking {_USUAL_RATE:g}")
    return _USUAL_RATE


def _counted(pictures: Iterable[np.ndarray], advance: Advance) -> Iterator[np.ndarray]:
    for picture in pictures:
        yield picture
        advance(1)


class _Watching:
    """Takes down what was asked for beside the observations; raises `UserError` where the environment does not offer it."""

    def __init__(self, env: gymnasium.Env, beside: Collection[str], fit: Callable[[np.ndarray], np.ndarray]) -> None:
        unknown = next((what for what in beside if what not in RECORDED), None)
        if unknown is not None:
            raise UserError(f"nothing called '{unknown}' can be recorded: {nearest(unknown, RECORDED)}")
        if _SEGMENTATION in beside and not env.has_wrapper_attr(_SEGMENTATION):
            raise UserError("this environment has no segmentation to record; leave it out (voxel tasks have it)")
        self._fit, self._state = fit, _STATE in beside
        self._segmented = env.get_wrapper_attr(_SEGMENTATION) if _SEGMENTATION in beside else None

    def __call__(self, info: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """Return what belongs to the frame that `info` came with, by the names that observations have."""
        found: dict[str, np.ndarray] = {}
        if self._state:
            if not isinstance(info.get(_STATE), Mapping):
                raise UserError("this environment tells no info['state'] to record; leave it out (voxel tasks have it)")
            found.update({f"observation.{_STATE}.{name}": np.array(value, np.float32) for name, value in info[_STATE].items()})
        if self._segmented is not None:
            found[f"observation.{_SEGMENTATION}"] = self._fit(self._segmented()[None])[0]
        return found


class _Rollouts:
    """Plays the numbered episodes of a recording; each depends on its number and the seed alone."""

    def __init__(
        self,
        env: gymnasium.Env,
        players: Sequence[Player | None],
        seed: int,
        fit: Callable[[np.ndarray], np.ndarray],
        watching: _Watching,
    ) -> None:
        self._env, self._seed, self._fit, self._watching = env, seed, fit, watching
        self._names = [_player_name(player) for player in players]
        self._players = [RandomPlayer(env.action_space) if player is None else player for player in players]

    def name(self, number: int) -> tuple[str, str]:
        """Return an episode's name and its player's. The seed is part of the name: two recordings may join one store."""
        played_by = self._names[number % len(self._names)]
        return f"seed {self._seed}/{number:06d} {played_by}", played_by

    def play(self, number: int, length: int) -> "_Rollout":
        """Return an episode of at most `length` frames, to be played as its frames are taken."""
        # no agent is judged in a world whose frames its encoder was trained on
        seed = int(np.random.SeedSequence([self._seed, number]).generate_state(1)[0]) % FIRST_EVALUATION_SEED
        return _Rollout(self._env, self._players[number % len(self._players)], seed, length, self._fit, self._watching)


class _Rollout:
    """One episode, played frame by frame: what is beside the frames is known after the last."""

    def __init__(
        self,
        env: gymnasium.Env,
        player: Player,
        seed: int,
        length: int,
        fit: Callable[[np.ndarray], np.ndarray],
        watching: _Watching,
    ) -> None:
        self._env, self._player, self._seed, self._length, self._fit, self._watching = env, player, seed, length, fit, watching
        self._actions: list[dict[str, np.ndarray]] = []
        self._rest: list[dict[str, np.ndarray]] = []
        self._rewards: list[float] = []

    def frames(self) -> Iterator[np.ndarray]:
        """Play, and yield each picture uint8 (H, W, 3) as it comes."""
        with self._failures():
            observation, info = self._env.reset(seed=self._seed)
        self._player.reset(self._seed)
        yield self._seen(observation, info)
        over = False
        while len(self._rest) < self._length and not over:
            action = self._player(observation, info)
            # before the step: an environment may change what it is given
            self._actions.append(_numbers("action", _in_words(self._env.action_space, action)))
            with self._failures():
                observation, reward, terminated, truncated, info = self._env.step(action)
            if "error" in info:
                # what came is the last frame again, and nobody saw what the action did
                self._actions.pop()
                say(f"an episode was cut short at frame {len(self._rest)}: {info['error']}")
                return
            self._rewards.append(float(reward))
            over = terminated or truncated
            yield self._seen(observation, info)

    def arrays(self) -> dict[str, np.ndarray]:
        """Return rewards, actions and what was observed beside the pictures, by name."""
        return {"reward": np.array(self._rewards, np.float32), **_stacked(self._actions), **_stacked(self._rest)}

    @contextmanager
    def _failures(self) -> Iterator[None]:
        """Say where an environment failed; the episodes before are in the store, this one is not."""
        try:
            yield
        except UserError:
            raise
        except Exception as error:
            what = f"{type(error).__name__}: {' '.join(str(error).split())}"
            place = f"world {self._seed} at action {len(self._actions)}" if self._actions else f"the reset to world {self._seed}"
            raise UserError(
                f"the environment failed in {place} ({what}); the episodes before are kept: run the same command again, "
                "or choose another seed and another store path"
            ) from error

    def _seen(self, observation: Any, info: dict[str, Any]) -> np.ndarray:
        picture, beside = _parted(observation)
        self._rest.append({**_numbers("observation", beside), **self._watching(info)})
        # copied: an environment may draw the next picture into the same array
        return self._fit(np.array(picture)[None])[0]


def _parted(observation: Any) -> tuple[np.ndarray, dict[str, Any]]:
    """Part an observation into its RGB picture and what is beside it; raise `UserError` where it is not clear which the picture is."""
    if not isinstance(observation, Mapping):
        observation = {"": observation}
    key = _PICTURE if _PICTURE in observation else _only_picture(observation)
    if not _is_picture(observation[key]):
        raise UserError(f"the observation's '{key}' is {_shown(observation[key])}, no RGB picture uint8 (H, W, 3)")
    return observation[key], {name: value for name, value in observation.items() if name != key}


def _only_picture(observation: Mapping[str, Any]) -> str:
    pictures = [key for key, value in observation.items() if _is_picture(value)]
    if len(pictures) == 1:
        return pictures[0]
    held = ", ".join(f"'{key}' {_shown(value)}" if key else _shown(value) for key, value in observation.items())
    problem = "several pictures and none is called 'pov'" if pictures else "no RGB picture uint8 (H, W, 3)"
    raise UserError(f"the observation holds {problem} ({held}); wrap the environment so that its picture stands under 'pov'")


def _is_picture(value: Any) -> bool:
    return isinstance(value, np.ndarray) and value.dtype == np.uint8 and value.ndim == 3 and value.shape[2] == 3


def _shown(value: Any) -> str:
    return f"{value.dtype} {value.shape}" if isinstance(value, np.ndarray) else type(value).__name__


def _player_name(player: Player | None) -> str:
    return RANDOM_PLAYER if player is None else str(getattr(player, "name", type(player).__name__))


def _in_words(space: gymnasium.Space, action: Any) -> Any:
    """Return an action with words for the numbers of MineRL's enumerations, as recordings have them: tasks number their words anew."""
    if isinstance(space, gymnasium.spaces.Dict) and isinstance(action, Mapping):
        return {key: _in_words(space[key], value) if key in space.spaces else value for key, value in action.items()}
    words = getattr(space, "values", ()) if isinstance(space, gymnasium.spaces.Discrete) else ()
    return str(words[int(action)]) if words and not isinstance(action, str) else action


def _numbers(name: str, value: Any) -> dict[str, np.ndarray]:
    """Flatten nested dictionaries and tuples into arrays by dotted name."""
    if isinstance(value, tuple):
        value = dict(enumerate(value))
    if not isinstance(value, Mapping):
        return {name: np.array(value)}
    return {key: array for part, inner in value.items() for key, array in _numbers(f"{name}.{part}", inner).items()}


def _stacked(rows: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Turn a list of ticks into arrays over the ticks, leaving out what is neither numbers nor text, or not of one shape."""
    if not rows:
        return {}
    named = {name: [row[name] for row in rows] for name in rows[0] if all(name in row for row in rows)}
    columns = {name: np.stack(values) for name, values in named.items() if len({value.shape for value in values}) == 1}
    return {name: column for name, column in columns.items() if column.dtype.kind in "biufU"}
