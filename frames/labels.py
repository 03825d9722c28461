"""Labels from recordings: what they hold beside the frames, by frame, for whoever learns from it or is judged by it.

Shapes: N clips, T frames of a clip, F frames of an episode, A numbers of an action, S numbers of a state.
"""

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np

from foundation.errors import UserError, nearest
from frames.rates import Strides
from frames.rewards import check_rewards, near_rewards, rewards_of, steps_to_reward, to_come
from frames.storage.format import RANDOM_PLAYER, Episode
from frames.store import FrameStore

STATE = "observation.state."
SEGMENTATION = "observation.segmentation"
_ACTIONS_AT_ONCE = 100_000

Reader = Callable[[np.ndarray], dict[str, np.ndarray]]
"""Gives the labels of the frames int64 (N, T), by name."""


class Labels:
    """The labels `wanted` of a store's frames: {name: options}, as docs/frame_store.md lists them.

    Raises `UserError` for a label or an option that there is not, and where the store lacks what a label needs.
    """

    def __init__(self, store: FrameStore, wanted: Mapping[str, Mapping[str, Any]]) -> None:
        kinds = {name: _made(name, options) for name, options in wanted.items()}
        self._store = store
        self._readers = [kind.reader(store) for kind in kinds.values()]
        self.identity = {name: dataclasses.asdict(kind) for name, kind in kinds.items()}
        """What was asked for, with every option: plain numbers and texts."""

    def at(self, starts: np.ndarray, length: int = 1, stride: int | Strides = 1) -> dict[str, np.ndarray]:
        """Return the labels of the clips that begin at `starts`, each (N, T, ...), float32 with NaN where it is not known.

        Pictures (`segmentation`, `frames_ahead`) are uint8. Raises IndexError for a clip that leaves its episode.
        """
        if not self._readers:
            return {}
        frames = self._store.window_indices(starts, length, stride)
        return {name: values for read in self._readers for name, values in read(frames).items()}


@dataclass(frozen=True)
class Label(ABC):
    """A kind of label; its fields are the options, all with defaults."""

    @abstractmethod
    def reader(self, store: FrameStore) -> Reader:
        """Return what reads it; raise `UserError` where the store lacks what it needs."""


@dataclass(frozen=True)
class RewardToCome(Label):
    """The discounted reward to come, R_t = min(1, r_t + gamma R_{t+1}), backwards within the episode: (N, T).

    `binarised` counts a reward greater than 0 as 1, and any other as 0. Frames within `leave_out_before` frames before a reward or
    `leave_out_after` after it are NaN; with `reference_gaps` they are dropped before discounting, as the published critic does.
    """

    gamma: float = 0.98
    binarised: bool = True
    capped: bool = True
    leave_out_before: int = 0
    leave_out_after: int = 0
    reference_gaps: bool = False

    def __post_init__(self) -> None:
        _check(self, "gamma", 0 < self.gamma <= 1, "greater than 0 and at most 1")
        for name in ("leave_out_before", "leave_out_after"):
            _check(self, name, getattr(self, name) >= 0, "0 frames or more")

    def reader(self, store: FrameStore) -> Reader:
        check_rewards(store, never=not self.binarised, always=not self.binarised)
        return _column(store, "reward_to_come", self._values)

    def _values(self, store: FrameStore, episode: Episode) -> np.ndarray | None:
        rewards = rewards_of(store, episode)
        if rewards is None:
            return None
        after = np.append((rewards > 0).astype(np.float64) if self.binarised else rewards, 0.0)
        known = ~near_rewards(rewards, self.leave_out_before, self.leave_out_after)
        values = np.full(len(after), np.nan)
        if self.reference_gaps:
            values[known] = to_come(after[known], self.gamma, self.capped)
        else:
            values[known] = to_come(after, self.gamma, self.capped)[known]
        return values


@dataclass(frozen=True)
class TimeToReward(Label):
    """Seconds to the next reward, inf where none comes in the episode: (N, T)."""

    def reader(self, store: FrameStore) -> Reader:
        check_rewards(store, always=True)
        return _column(store, "time_to_reward", _seconds_to_reward)


@dataclass(frozen=True)
class RewardedWithin(Label):
    """1 where a reward comes within so many seconds, else 0; NaN where the episode ends before and none came: (N, T)."""

    seconds: float = 2.0

    def __post_init__(self) -> None:
        _check(self, "seconds", 0 < self.seconds < float("inf"), "a number greater than 0")

    def reader(self, store: FrameStore) -> Reader:
        check_rewards(store)
        return _column(store, "rewarded_within", self._values)

    def _values(self, store: FrameStore, episode: Episode) -> np.ndarray | None:
        rewards = rewards_of(store, episode)
        if rewards is None:
            return None
        steps = max(1, round(self.seconds * episode.frames_per_second))
        soon = steps_to_reward(rewards) <= steps
        unseen = np.arange(len(soon))[::-1] < steps
        return np.where(soon | ~unseen, soon, np.nan)


@dataclass(frozen=True)
class NextActions(Label):
    """The actions of the `count` recorded steps after each frame, as the store numbers them: (N, T, count, A).

    NaN beyond the episode's end, and where the player is not one of `players`: "acting" are all but the random player, "all" everybody;
    else names of players or how they begin, with commas between ("ScriptedPlayer,agent").
    """

    count: int = 8
    players: str = "acting"

    def __post_init__(self) -> None:
        _check(self, "count", self.count >= 1, "1 step or more")
        _check(self, "players", all(_words(self.players)), "'acting', 'all', or names with commas between")

    def reader(self, store: FrameStore) -> Reader:
        if store.action_names is None:
            remedy = "build it from recordings with the same actions, or leave out what needs them"
            raise UserError(f"{store.path}: has no actions that all of its ordered recordings share; {remedy}")
        _check_players(store, self.players)
        ends = _ends(store)
        counts = np.array([_acts(episode) and plays(episode, self.players) for episode in store.episodes])
        single = Strides(store.frames_per_second, np.ones(len(store.episodes), np.int64))

        def read(frames: np.ndarray) -> dict[str, np.ndarray]:
            episodes = np.searchsorted(ends, frames, side="right")[..., None]
            after = frames[..., None] + 1 + np.arange(self.count)
            known = (after < ends[episodes]) & counts[episodes]
            # the store keeps an action with the frame that it led to
            actions = store.action_windows(np.where(known, after, frames[..., None]).reshape(-1), 1, single)
            assert actions is not None
            actions = actions.reshape(*after.shape, -1)
            return {"next_actions": np.where(known[..., None], actions, np.float32(np.nan))}

        return read


@dataclass(frozen=True)
class FramesAhead(Label):
    """The frame `ahead` recorded frames later, uint8 (N, T, H, W, C), or the episode's last.

    `frames_ahead_known` (N, T) is 1 where the episode goes on so long, else 0.
    """

    ahead: int = 8

    def __post_init__(self) -> None:
        _check(self, "ahead", self.ahead >= 1, "1 frame or more")

    def reader(self, store: FrameStore) -> Reader:
        ends = _ends(store)
        steps = np.array([self.ahead if episode.ordered else 0 for episode in store.episodes])

        def read(frames: np.ndarray) -> dict[str, np.ndarray]:
            episodes = np.searchsorted(ends, frames, side="right")
            wanted = frames + steps[episodes]
            pictures = store.frames(np.minimum(wanted, ends[episodes] - 1).reshape(-1))
            known = (wanted < ends[episodes]) & (steps[episodes] > 0)
            return {"frames_ahead": pictures.reshape(*frames.shape, *store.frame_shape), "frames_ahead_known": known.astype(np.float32)}

        return read


@dataclass(frozen=True)
class State(Label):
    """What the environment tells of its state: (N, T, S), in the order of `state_names`."""

    def reader(self, store: FrameStore) -> Reader:
        names = state_names(store)
        if not names:
            raise UserError(f"{store.path}: has no state beside its frames; record it (make_frames.py build --record state)")
        return _column(store, "state", lambda store, episode: _state(store, episode, names), (len(names),))


@dataclass(frozen=True)
class Segmentation(Label):
    """The kind of block that every pixel shows: uint8 (N, T, H, W)."""

    def reader(self, store: FrameStore) -> Reader:
        if not has_segmentation(store):
            remedy = "record a store with it (make_frames.py build --record segmentation)"
            raise UserError(f"{store.path}: not every recording has a segmentation of its frames; {remedy}")
        shape = store.frame_shape[:2]

        def read(frames: np.ndarray) -> dict[str, np.ndarray]:
            return {"segmentation": store.array_rows(SEGMENTATION, frames.reshape(-1)).reshape(*frames.shape, *shape)}

        return read


KINDS: dict[str, type[Label]] = {
    "reward_to_come": RewardToCome,
    "time_to_reward": TimeToReward,
    "rewarded_within": RewardedWithin,
    "next_actions": NextActions,
    "frames_ahead": FramesAhead,
    "state": State,
    "segmentation": Segmentation,
}
PICTURES = ("frames_ahead", "segmentation")
"""Labels that are mirrored with the frame."""
SIDED = ("next_actions", "state")
"""Labels that know left from right, and would be wrong beside a mirrored frame."""


class ActionColumn(NamedTuple):
    """A number of the store's action vector: a "key" (always 0 or 1) or a "number", whose `scale` is its deviation (1 for keys)."""

    name: str
    kind: Literal["key", "number"]
    scale: float


def action_columns_described(store: FrameStore, players: str = "all") -> list[ActionColumn]:
    """Describe each of the A numbers of an action of some players; [] for a store without actions.

    The kind is that of every recorded value, held-out ones too: of a third one, however rare, a cross-entropy has no lower bound. Scales
    are of the training recordings, or of all where none of those acts.
    """
    episodes = [episode for episode in store.episodes if _acts(episode) and plays(episode, players)]
    if store.action_names is None or not episodes:
        return []
    trained = [episode for episode in episodes if episode.split == "train"] or episodes
    keys = np.logical_and.reduce([np.isin(actions, (0.0, 1.0)).all(0) for actions in _led(store, episodes)])
    scales = _deviations(_led(store, trained))
    widths = {name: store.action_width(name) for name in store.action_names}
    names = [name if width == 1 else f"{name}[{place}]" for name, width in widths.items() for place in range(width)]
    described = zip(names, keys.tolist(), scales.tolist(), strict=True)
    return [ActionColumn(name, "key", 1.0) if key else ActionColumn(name, "number", scale or 1.0) for name, key, scale in described]


def state_names(store: FrameStore) -> list[str]:
    """Return what the recorded state holds, sorted, without the leading "observation.state."; [] for a store without."""
    names = {name for episode in store.episodes for name, info in episode.arrays.items() if len(info.shape) == 1}
    return sorted(name.removeprefix(STATE) for name in names if name.startswith(STATE))


def has_segmentation(store: FrameStore) -> bool:
    """Say whether every recording has the kind of block of all its pixels."""
    infos = [(episode.arrays.get(SEGMENTATION), episode.length) for episode in store.episodes]
    return all(info is not None and (info.dtype, info.shape) == ("|u1", (length, *store.frame_shape[:2])) for info, length in infos)


def check_values(
    store: FrameStore,
    split: str = "train",
    options: Mapping[str, Any] | None = None,
    *,
    high: float = 0.7,
    low: float = 0.3,
    least: int = 500,
) -> tuple[int, int]:
    """Return how many frames of a split have a `reward_to_come` above `high`, and how many one below `low`.

    Where both are one number, a frame that has just that counts as low: then every frame is one or the other.

    Raises `UserError` where either are fewer than `least`.
    """
    values = Labels(store, {"reward_to_come": options or {}}).at(store.indices(split))["reward_to_come"]
    above, below = int((values > high).sum()), int((values <= low if low == high else values < low).sum())
    if min(above, below) < least:
        counted = f"{above:,} frames of split '{split}' have a value above {high:g} and {below:,} one below {low:g}"
        raise UserError(f"{store.path}: {counted}, and {least:,} of each are needed; record more, or choose another gamma or thresholds")
    return above, below


def is_random(episode: Episode) -> bool:
    """Say whether an episode was played by the random player, as a rollout's source tells."""
    return episode.source.endswith(f", {RANDOM_PLAYER}")


def player_of(episode: Episode) -> str:
    """Return who played a rollout, as its source tells after a comma; empty for recordings."""
    return episode.source.rpartition(", ")[2] if ", " in episode.source and not episode.origin else ""


def plays(episode: Episode, players: str) -> bool:
    """Say whether an episode is one of `players`, as the label `next_actions` names them."""
    if players in ("all", "acting"):
        return players == "all" or not is_random(episode)
    return any(f"{player_of(episode)} ".startswith(f"{word} ") for word in _words(players))


def _words(players: str) -> list[str]:
    return [word.strip() for word in players.split(",")]


def _acts(episode: Episode) -> bool:
    return episode.ordered and episode.length > 1


def _check_players(store: FrameStore, players: str) -> None:
    """Raise `UserError` unless every one of `players` acts in a store."""
    acting = [episode for episode in store.episodes if _acts(episode)]
    for word in _words(players):
        if not any(plays(episode, word) for episode in acting):
            if word in ("acting", "all"):
                remedy = "record another player, or ask for players='all'"
                raise UserError(f"{store.path}: nobody but the random player acts in it; {remedy}")
            known = ", ".join(sorted({player_of(episode) for episode in acting} - {""})) or "none that is known by name"
            raise UserError(f"{store.path}: no '{word}' acts in it; its players: {known}")


def _led(store: FrameStore, episodes: Sequence[Episode]) -> Iterator[np.ndarray]:
    """Yield all actions of some episodes, float64 (N, A), a part at a time."""
    single = Strides(store.frames_per_second, np.ones(len(store.episodes), np.int64))
    led = np.concatenate([np.arange(episode.first + 1, episode.first + episode.length) for episode in episodes])
    for at in range(0, len(led), _ACTIONS_AT_ONCE):
        actions = store.action_windows(led[at : at + _ACTIONS_AT_ONCE], 1, single)
        assert actions is not None
        yield actions[:, 0].astype(np.float64)


def _deviations(parts: Iterable[np.ndarray]) -> np.ndarray:
    """Return the standard deviations (A,) of the rows of all parts (N, A) together (Chan, Golub and LeVeque 1983)."""
    count, mean, squares = 0, np.zeros(()), np.zeros(())
    for part in parts:
        size, apart = len(part), part.mean(0) - mean
        count += size
        squares = squares + ((part - part.mean(0)) ** 2).sum(0) + apart**2 * size * (count - size) / count
        mean = mean + apart * size / count
    deviations = np.sqrt(squares / count)
    # what is left of a number that never changes is its rounding
    return np.where(deviations > 1e-9 * np.abs(mean), deviations, 0.0)


def _made(name: str, options: Mapping[str, Any]) -> Label:
    """Make a label of its options; raise `UserError` for what there is not."""
    if name not in KINDS:
        raise UserError(f"no label '{name}': {nearest(name, KINDS)}")
    known = {field.name: field.default for field in dataclasses.fields(KINDS[name])}
    for option, value in options.items():
        if option not in known:
            raise UserError(f"label '{name}' has no option '{option}': {nearest(option, known)}")
        kind = type(known[option])
        if type(value) is not kind and not (kind is float and type(value) is int):
            raise UserError(f"label '{name}': {option}={value!r} must be a {kind.__name__}")
    return KINDS[name](**options)


def _check(label: Label, option: str, right: bool, must_be: str) -> None:
    if not right:
        name = next(name for name, kind in KINDS.items() if kind is type(label))
        raise UserError(f"label '{name}': {option}={getattr(label, option)!r} must be {must_be}")


def _ends(store: FrameStore) -> np.ndarray:
    """Return int64 (E,): the index after each episode's last frame."""
    return np.cumsum([episode.length for episode in store.episodes])


def _column(store: FrameStore, name: str, values: Callable[[FrameStore, Episode], np.ndarray | None], shape: Sequence[int] = ()) -> Reader:
    """Return a reader of numbers that are worked out for all frames at the first call; None from `values` is NaN."""
    known: list[np.ndarray] = []

    def read(frames: np.ndarray) -> dict[str, np.ndarray]:
        if not known:
            column = np.full((len(store), *shape), np.nan, np.float32)
            for episode in store.episodes:
                found = values(store, episode)
                if found is not None:
                    column[episode.first : episode.first + len(found)] = found
            known.append(column)
        return {name: known[0][frames]}

    return read


def _seconds_to_reward(store: FrameStore, episode: Episode) -> np.ndarray | None:
    rewards = rewards_of(store, episode)
    return None if rewards is None else steps_to_reward(rewards) / episode.frames_per_second


def _state(store: FrameStore, episode: Episode, names: Sequence[str]) -> np.ndarray:
    columns = np.full((episode.length, len(names)), np.nan, np.float32)
    for number, name in enumerate(names):
        if STATE + name in episode.arrays:
            found = store.array(episode, STATE + name)
            columns[: len(found), number] = found
    return columns
