"""What probes are to tell of a frame: whatever a store's recordings hold beside it.

Shapes: M frames, K columns of a target, S numbers of a state, A numbers of an action.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from evaluation.probing import Metric, Target
from foundation.errors import UserError
from frames import FrameStore
from frames.labels import Labels, action_columns_described, state_names

_FEWEST = 20
_FEWEST_NUMBERS = 50


@dataclass(frozen=True)
class Wanted:
    """Where a value of reward to come counts as high, within how many seconds a reward counts as soon, and the longest time to one."""

    above: float = 0.3
    seconds: float = 2.0
    longest: float = 10.0


def has_targets(store: FrameStore) -> bool:
    """Whether the store holds anything that a probe could tell."""
    return any(_labels(store, name, {}) is not None for name in ("state", "next_actions", "reward_to_come"))


def targets_of(store: FrameStore, indices: np.ndarray, first_half: np.ndarray, wanted: Wanted) -> tuple[list[Target], list[str]]:
    """Return what there is to tell of frames (M,), and the names of what varies too little in either half, bool (M,)."""
    found, left_out = [], []
    for name, metric, columns in [*_state(store, indices), *_action(store, indices), *_reward(store, indices, wanted)]:
        enough = {part: values for part, values in columns.items() if _varies(values, first_half, metric)}
        # a sine means nothing without its cosine
        if not enough or (metric == "R2" and len(enough) < len(columns)):
            left_out.append(name)
        else:
            found.append(Target(name, metric, np.stack(list(enough.values()), 1).astype(np.float64), tuple(enough)))
    return found, left_out


_Found = tuple[str, Metric, dict[str, np.ndarray]]


def _state(store: FrameStore, indices: np.ndarray) -> Iterator[_Found]:
    """Angles given as sine and cosine are one target, and so are columns of 0 and 1 that begin alike: block_log, block_leaves."""
    labels = _labels(store, "state", {})
    if labels is None:
        return
    columns = dict(zip(state_names(store), labels.at(indices)["state"][:, 0].T, strict=True))
    kinds: dict[str, dict[str, np.ndarray]] = {}
    for name, values in columns.items():
        stem = name.rsplit("_", 1)[0]
        if name in (f"{stem}_sin", f"{stem}_cos"):
            kinds.setdefault(stem, {})[name] = values
        elif np.isin(values[~np.isnan(values)], (0.0, 1.0)).all():
            kinds.setdefault(name.split("_")[0], {})[name] = values
        else:
            kinds.setdefault(name, {})[name] = values
    for name, parts in kinds.items():
        binary = all(np.isin(values[~np.isnan(values)], (0.0, 1.0)).all() for values in parts.values())
        yield name, "AUC" if binary else "R2", parts


def _action(store: FrameStore, indices: np.ndarray) -> Iterator[_Found]:
    """Whether each key is pressed at the frame, and which way the camera turns where it does; of players that are not random."""
    labels = _labels(store, "next_actions", {"count": 1})
    if labels is None:
        return
    actions = labels.at(indices)["next_actions"][:, 0, 0].T
    parts = {}
    for column, values in zip(action_columns_described(store, players="acting"), actions, strict=True):
        told = (values > 0).astype(np.float64)
        unknown = np.isnan(values) if column.kind == "key" else np.isnan(values) | (values == 0)
        parts[column.name.removeprefix("action.")] = np.where(unknown, np.nan, told)
    yield "action", "balanced accuracy", parts


def _reward(store: FrameStore, indices: np.ndarray, wanted: Wanted) -> Iterator[_Found]:
    asked = {"reward_to_come": {}, "rewarded_within": {"seconds": wanted.seconds}, "time_to_reward": {}}
    labels = [_labels(store, name, options) for name, options in asked.items()]
    value, soon, time = (None if one is None else one.at(indices)[name][:, 0] for name, one in zip(asked, labels, strict=True))
    if value is not None:
        yield "reward_to_come", "AUC", {"reward_to_come": np.where(np.isnan(value), np.nan, value > wanted.above)}
    if soon is not None:
        yield "reward_soon", "AUC", {"reward_soon": soon}
    if time is not None:
        yield "time_to_reward", "R2", {"time_to_reward": _log_time(store, indices, time, wanted.longest)}


def _log_time(store: FrameStore, indices: np.ndarray, seconds: np.ndarray, longest: float) -> np.ndarray:
    """Return the logarithm of the time to the next reward, at most `longest`; NaN where the episode ends before anyone could know."""
    episodes = [store.episode_at(index) for index in indices.tolist()]
    left = np.array([(one.first + one.length - 1 - index) / one.frames_per_second for one, index in zip(episodes, indices, strict=True)])
    unknown = np.isnan(seconds) | (np.isinf(seconds) & (left < longest))
    return np.where(unknown, np.nan, np.log(np.minimum(seconds, longest)))


def _varies(values: np.ndarray, first_half: np.ndarray, metric: Metric) -> bool:
    """Whether both halves hold enough of it to learn from and to score."""
    for half in (values[first_half], values[~first_half]):
        known = half[~np.isnan(half)]
        if metric == "R2":
            if len(known) < _FEWEST_NUMBERS or known.std() < 1e-6:
                return False
        elif min((known > 0.5).sum(), (known <= 0.5).sum()) < _FEWEST:
            return False
    return True


def _labels(store: FrameStore, name: str, options: Mapping[str, Any]) -> Labels | None:
    try:
        return Labels(store, {name: options})
    except UserError:
        return None
