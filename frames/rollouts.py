"""Frames collected from an environment: players act, the store fills, with actions and rewards."""

import itertools
import math
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import gymnasium
import numpy as np

from foundation.errors import UserError
from foundation.minerl import acts_like_minerl
from foundation.progress import Advance, progress_bar, say
from foundation.seeds import FIRST_EVALUATION_SEED
from foundation.ticks import TICKS_A_SECOND
from frames.building.appending import appended_meta, check_alike, check_fits
from frames.building.build import BuildSummary, close_summary, finished_summary
from frames.building.fitting import Fitting
from frames.curation.splits import BY_RECORDING, assign_splits
from frames.resize import ResizeMode, resize_frames
from frames.storage.format import RANDOM_PLAYER
from frames.storage.sweeping import remove_leftovers
from frames.storage.writer import StoreWriter, finished_store, store_writer
from frames.store import FrameStore
from frames.watching import Beside, WatchedEnvironment

_CAMERA_DEGREES = 5.0
# MineRL 1.0: one ends the episode, the other opens a screen over the world
_NEVER_PRESSED = ("ESC", "inventory")


class Player(Protocol):
    """Plays an environment from its observation and `info`."""

    def reset(self, seed: int) -> None: ...

    def __call__(self, observation: Any, info: dict[str, Any]) -> Any: ...


@runtime_checkable
class Driver(Protocol):
    """Plays whole episodes by itself, such as an agent, which sees an environment through wrappers of its own."""

    def play(self, env: gymnasium.Env, seed: int) -> Iterator[None]:
        """Reset `env` to the world of `seed` and play until the episode ends; yield after the reset and after every few ticks."""


Anyone = Player | Driver | None
"""Who plays; None plays at random."""


class RandomPlayer:
    """Random actions that stick for some ticks, as a key that is held: 8 on average.

    In MineRL's dictionary `camera` turns by a few degrees a tick instead of anywhere within its bounds; `ESC` and `inventory`, which end
    an episode and cover the world, are never pressed.
    """

    def __init__(self, action_space: gymnasium.Space) -> None:
        self._space = deepcopy(action_space)
        self._random = np.random.default_rng()
        self._left = 0
        self._action: Any = None

    def reset(self, seed: int) -> None:
        self._space.seed(seed)
        self._random, self._left = np.random.default_rng(seed), 0

    def __call__(self, observation: Any, info: dict[str, Any]) -> Any:
        if self._left == 0:
            self._left = int(self._random.geometric(1 / 8))
            self._action = self._space.sample()
            if acts_like_minerl(self._space):
                self._action["camera"] = self._random.normal(0, _CAMERA_DEGREES, 2).astype(np.float32)
                self._action.update({key: 0 for key in _NEVER_PRESSED if key in self._action})
        self._left -= 1
        return deepcopy(self._action)


def record(
    make_env: Callable[[], gymnasium.Env],
    player: Anyone | Sequence[Anyone],
    path: str | Path,
    *,
    frames: int = 20_000,
    seed: int = 0,
    name: str = "rollouts",
    task: str | None = None,
    episode_frames: int = 500,
    frame_size: tuple[int, int] = (64, 64),
    resize: ResizeMode = "squash",
    frames_per_second: float | None = None,
    split: str = BY_RECORDING,
    val: float = 0.1,
    test: float = 0.0,
    beside: Collection[str] = (),
    shares: Sequence[float] | None = None,
    append: bool = False,
) -> BuildSummary:
    """Fill the store at `path` with `frames` frames of episodes played in the environment that `make_env` gives, or add them to it.

    Its observation is an RGB picture uint8 (H, W, 3), or a dictionary with one, under `pov` where there are several; the rest of the
    dictionary is kept too where it is of numbers. None plays at random; several players take turns, an episode each, or as often as
    their `shares` say. Episodes end with the environment's or after `episode_frames`. The worlds' seeds follow from `seed`, so that the
    same call gives the same fingerprint, and lie below those that agents are evaluated with. `name` says what is recorded, and an
    interrupted recording goes on only under the same; `task` is the environment's id if not given. Frames a second are those that the
    environment's metadata names (`render_fps`), unless given. Where `info["minerl/error"]` tells that a game died, the episode is kept up
    to its last true frame. `beside` records what some environments offer (docs/environments.md): "state", the numbers of `info["state"]`,
    and "segmentation", what every pixel shows. With `append` the episodes join the finished store at `path`, whose own stay as they are.
    Raises `UserError` when the environment fails, the disk is full or something else is at `path`.
    """
    path, began = Path(path), time.monotonic()
    assign_splits([], split, val, test)
    players = list(player) if isinstance(player, Sequence) else [player]
    _check(frames, episode_frames, seed, players, shares)
    plan = {
        "source": name,
        "frames": frames,
        "seed": seed,
        "episode_frames": episode_frames,
        "players": [_player_name(player) for player in players],
        "frame_size": list(frame_size),
        "resize": resize,
        "split": [split, val, test],
        # only where given, so that recordings of before there were such options go on
        **({"beside": sorted(beside)} if beside else {}) | ({"shares": list(shares)} if shares else {}),
    }
    onto = _appended_to(path, plan) if append else None
    if (finished := _finished(path, plan, onto)) is not None:
        return finished_summary(finished)
    with closing(make_env()) as env, store_writer(path, plan, (*frame_size, 3), onto=onto) as writer:
        held = {} if onto is None else {episode.name: episode.split for episode in onto.episodes}
        kept, task = len(writer.committed), task or (env.spec.id if env.spec is not None else name)
        with _kept_if_any(writer, held):
            watched = WatchedEnvironment(env, partial(resize_frames, size=frame_size, mode=resize), Beside(env, beside, frame_size, resize))
            rollouts = _Rollouts(watched, players, seed, shares)
            _fill(writer, rollouts, frames, episode_frames, name, task, frames_per_second or _named_rate(env, name), onto)
        splitter = partial(assign_splits, split=split, val=val, test=test, kept=held)
        return close_summary(writer, kept, [], began, splitter, resize, appended_meta(onto, plan, [], []) if onto else {}, held)


@contextmanager
def _kept_if_any(writer: StoreWriter, held: Collection[str]) -> Iterator[None]:
    """Leave nothing behind of a recording that fails before its first episode is whole: a folder would refuse another plan."""
    try:
        yield
    except BaseException:
        if not writer.committed.keys() - held:
            writer.abandon()
        raise


def _check(frames: int, episode_frames: int, seed: int, players: Sequence[Anyone], shares: Sequence[float] | None) -> None:
    if frames < 1 or episode_frames < 1:
        raise UserError(f"{frames} frames in episodes of {episode_frames}: both must be at least 1")
    if seed < 0:
        raise UserError(f"seed {seed}: must be 0 or more")
    if shares and (len(shares) != len(players) or not all(0 < share < math.inf for share in shares)):
        raise UserError(f"shares {', '.join(f'{share:g}' for share in shares)}: give one greater than 0 for each player")


def _finished(path: Path, plan: dict[str, Any], onto: FrameStore | None) -> FrameStore | None:
    if onto is None:
        return finished_store(path, plan)
    return onto if plan in onto.meta["appended"] else None


def _appended_to(path: Path, plan: dict[str, Any]) -> FrameStore:
    """Return the store that rollouts are added to; raise `UserError` where they do not fit, or play its worlds again."""
    store = FrameStore(path)
    check_fits(store, Fitting(tuple(plan["frame_size"]), plan["resize"], None))
    remove_leftovers(path)
    seeds = _seeds(store)
    if plan not in store.meta["appended"] and plan["seed"] in seeds:
        other = 1 + max(seeds)
        raise UserError(f"{path}: has rollouts of seed {plan['seed']} already, in the same worlds; give --seed {other}")
    return store


def _seeds(store: FrameStore) -> set[int]:
    return {found[0] for episode in store.episodes if (found := episode.rollout)}


def _fill(
    writer: StoreWriter,
    rollouts: "_Rollouts",
    frames: int,
    episode_frames: int,
    source: str,
    task: str,
    rate: float,
    onto: FrameStore | None,
) -> None:
    """Play the episodes that the store does not have yet, until it has all its frames."""
    done = sum(episode.length for episode in writer.committed.values()) - (0 if onto is None else len(onto))
    total, number = 0, 0
    with progress_bar("recording", frames, "frames", done) as advance:
        while total < frames:
            name, played_by = rollouts.name(number)
            episode = writer.committed.get(name)
            if episode is None:
                episode = writer.add(
                    name,
                    _counted(rollouts.play(number, min(episode_frames, frames - total)), advance),
                    source=f"{source}, {played_by}",
                    frames_per_second=rate,
                    arrays=rollouts.arrays,
                    task=task,
                )
                if onto is not None:
                    try:
                        check_alike(onto, [episode], "record into another store path")
                    except UserError:
                        writer.discard(name)
                        raise
            total, number = total + episode.length, number + 1


def _named_rate(env: gymnasium.Env, name: str) -> float:
    """Return how many steps an environment takes in a second, as it says itself."""
    rate = (env.metadata or {}).get("render_fps")
    if rate:
        return float(rate)
    say(f"{name} names no frames a second (metadata['render_fps']): taking {TICKS_A_SECOND:g}")
    return TICKS_A_SECOND


def _counted(pictures: Iterable[np.ndarray], advance: Advance) -> Iterator[np.ndarray]:
    for picture in pictures:
        yield picture
        advance(1)


class _Rollouts:
    """Plays the numbered episodes of a recording; each depends on its number and the seed alone."""

    def __init__(self, watched: WatchedEnvironment, players: Sequence[Anyone], seed: int, shares: Sequence[float] | None) -> None:
        self._watched, self._seed = watched, seed
        self._names = [_player_name(player) for player in players]
        self._drivers = [_driver(player, watched.action_space) for player in players]
        self._turns = _turns(shares or [1.0] * len(players))
        self._order: list[int] = []

    def name(self, number: int) -> tuple[str, str]:
        """Return an episode's name and its player's. The seed is part of the name: two recordings may join one store."""
        played_by = self._names[self._turn(number)]
        return f"seed {self._seed}/{number:06d} {played_by}", played_by

    def play(self, number: int, length: int) -> Iterator[np.ndarray]:
        """Play an episode of at most `length` frames, and yield each picture uint8 (H, W, 3) as it comes."""
        # no agent is judged in a world whose frames its encoder was trained on
        seed = int(np.random.SeedSequence([self._seed, number]).generate_state(1)[0]) % FIRST_EVALUATION_SEED
        self._watched.begin(seed, length)
        for _ in self._drivers[self._turn(number)].play(self._watched, seed):
            yield from self._watched.take()
            if self._watched.is_over:
                return

    def arrays(self) -> dict[str, np.ndarray]:
        """Return what was recorded beside the pictures of the episode that was played last, by name."""
        return self._watched.arrays()

    def _turn(self, number: int) -> int:
        self._order += itertools.islice(self._turns, max(0, number + 1 - len(self._order)))
        return self._order[number]


@dataclass(frozen=True)
class _Ticks:
    """Plays whole episodes with a player that is asked in every tick."""

    player: Player

    def play(self, env: gymnasium.Env, seed: int) -> Iterator[None]:
        observation, info = env.reset(seed=seed)
        self.player.reset(seed)
        yield
        over = False
        while not over:
            observation, _, terminated, truncated, info = env.step(self.player(observation, info))
            over = terminated or truncated
            yield


def _driver(player: Anyone, actions: gymnasium.Space) -> Driver:
    if player is None:
        return _Ticks(RandomPlayer(actions))
    return player if isinstance(player, Driver) else _Ticks(player)


def _turns(shares: Sequence[float]) -> Iterator[int]:
    """Yield without end whose turn it is: as often as the shares say, spread evenly (Webster's method); equal ones in their order."""
    done = [0] * len(shares)
    while True:
        turn = min(range(len(shares)), key=lambda one: ((2 * done[one] + 1) / shares[one], one))
        done[turn] += 1
        yield turn


def _player_name(player: Anyone) -> str:
    return RANDOM_PLAYER if player is None else str(getattr(player, "name", type(player).__name__))
