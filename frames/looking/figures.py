"""What a store holds, in numbers: by split and task, rewards, actions, brightness, what was left out."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from frames.labels import has_segmentation, state_names
from frames.looking.inspecting import look
from frames.rewards import reward_counts
from frames.storage.format import SPLITS, Episode
from frames.store import FrameStore

_MOST_BYTES = 32 << 20
_MOST_EPISODES = 2_000
_EPISODE_SAMPLE = 256
_MOST_VALUES = 16
_MOST_COMPONENTS = 4
_BINS = 20
_TAIL = 0.005
_QUANTILES = (0, 5, 25, 50, 75, 95, 100)


def store_figures(store: FrameStore, listed: int) -> dict[str, Any]:
    """Return the figures of a store as plain numbers, texts, lists and mappings, ready for JSON.

    Shares are in [0, 1], brightness in grey levels of 0 to 255. Counts are exact. How frames look is measured on at most 4,096 evenly
    spread frames a split; actions and rewards on at most 2,000 evenly chosen episodes, and of an action on 32 MiB of
    evenly spread ticks. Every figure says how many it was taken from. `episodes` holds the `listed` longest episodes.
    """
    return {
        "store": str(store.path),
        "fingerprint": store.fingerprint,
        "frame_shape": list(store.frame_shape),
        "resize": store.meta["resize"],
        "frames": len(store),
        "frames_per_second": store.frames_per_second,
        "splits": {split: _split_figures(store, store.of_split(split)) for split in SPLITS if store.of_split(split)},
        "tasks": _task_counts(store.episodes),
        "rewards": {name: found for name in _array_names(store.episodes, "reward") if (found := _reward_figures(store, name))},
        "action_names": None if store.action_names is None else list(store.action_names),
        "actions": {name: _action_figures(store, name) for name in _array_names(store.episodes, "action")},
        "labels": _label_figures(store),
        "trimmed": store.meta["trimmed"],
        "left_out": store.meta["left_out"],
        "episode_count": len(store.episodes),
        "episodes": [_episode_figures(store, episode) for episode in longest(store.episodes, listed)],
    }


def _label_figures(store: FrameStore) -> dict[str, Any]:
    """Return what there is to learn from beside the frames: `rewarded` counts the steps whose reward is greater than 0."""
    state = state_names(store)
    return {**asdict(reward_counts(store)), "action_numbers": store.action_size, "state": state, "segmentation": has_segmentation(store)}


def longest(episodes: Sequence[Episode], most: int) -> list[Episode]:
    """Return the longest episodes first: a reader sees what a store mostly holds."""
    return sorted(episodes, key=lambda episode: -episode.length)[:most]


def values_figures(values: np.ndarray) -> dict[str, Any]:
    """Return what values (T, ...) of one array are like.

    `kind` is "binary" (zeros and ones: `in_use` is the share of ones), "values" (texts, or at most 16 different numbers: how many are
    distinct, and the shares of the commonest) or "numbers" (`components`: quantiles, the share that is not 0, and a histogram, for each of
    up to 4 numbers a tick, for all together where there are more).
    """
    width = int(np.prod(values.shape[1:], dtype=np.int64))
    counted = {"ticks": len(values), "width": width}
    if width == 1:
        distinct, counts = np.unique(values.reshape(-1), return_counts=True)
        text = values.dtype.kind == "U"
        if not text and len(values) and np.isin(distinct, (0, 1)).all():
            return {"kind": "binary", **counted, "in_use": float((values != 0).mean())}
        if text or len(distinct) <= _MOST_VALUES:
            return {"kind": "values", **counted, "distinct": len(distinct), "shares": _shares(distinct, counts)}
    columns = values.reshape(len(values), -1).T if width <= _MOST_COMPONENTS else values.reshape(1, -1)
    return {"kind": "numbers", **counted, "components": [_number_figures(column) for column in columns]}


def _split_figures(store: FrameStore, episodes: list[Episode]) -> dict[str, Any]:
    minutes = sum(episode.length / episode.frames_per_second for episode in episodes if episode.ordered) / 60
    seen = asdict(look(store, episodes))
    looked_at = seen.pop("frames")
    counts = {"episodes": len(episodes), "frames": sum(episode.length for episode in episodes), "minutes": minutes}
    return {**counts, **seen, "looked_at": looked_at}


def _task_counts(episodes: Sequence[Episode]) -> dict[str, dict[str, int]]:
    """Return for each task its episodes, and its frames in every split; what has no task is under ""."""
    tasks: dict[str, dict[str, int]] = {}
    for episode in episodes:
        counts = tasks.setdefault(episode.task, dict.fromkeys(("episodes", *SPLITS), 0))
        counts["episodes"] += 1
        counts[episode.split] += episode.length
    return dict(sorted(tasks.items()))


def _episode_figures(store: FrameStore, episode: Episode) -> dict[str, Any]:
    seen = asdict(look(store, [episode], _EPISODE_SAMPLE))
    kinds = sorted({name.split(".")[0] for name in episode.arrays})
    about = {"name": episode.name, "split": episode.split, "task": episode.task, "frames": episode.length}
    return {**about, "frames_per_second": episode.frames_per_second, **seen, "frames": episode.length, "arrays": kinds}


def _reward_figures(store: FrameStore, name: str) -> dict[str, Any] | None:
    """Return what episodes return, and how often and how much a tick is rewarded; None where rewards are no numbers."""
    numbers = [episode for episode in _with_array(store.episodes, name) if np.dtype(episode.arrays[name].dtype).kind in "fiub"]
    if not numbers:
        return None
    episodes = _evenly(numbers, _MOST_EPISODES)
    returns, rewarded, ticks = [], [], 0
    for episode in episodes:
        rewards = store.array(episode, name).astype(np.float64)
        returns.append(rewards.sum())
        rewarded.append(rewards[rewards != 0])
        ticks += len(rewards)
    rewarding = np.concatenate(rewarded)
    return {
        "episodes": len(episodes),
        "ticks": ticks,
        "in_use": len(rewarding) / ticks,
        "returns": _number_figures(np.array(returns)),
        "rewards": values_figures(rewarding),
    }


def _action_figures(store: FrameStore, name: str) -> dict[str, Any]:
    """Return what an action is like, in the episodes that have it in the commonest shape."""
    having = _with_array(store.episodes, name)
    (width, kind), _ = Counter(_form(episode, name) for episode in having).most_common(1)[0]
    episodes = _evenly([episode for episode in having if _form(episode, name) == (width, kind)], _MOST_EPISODES)
    infos = [episode.arrays[name] for episode in episodes]
    size = sum(int(np.prod(info.shape, dtype=np.int64)) * np.dtype(info.dtype).itemsize for info in infos)
    step = max(1, -(-size // _MOST_BYTES))
    values = np.concatenate([store.array(episode, name)[::step] for episode in episodes])
    return {"episodes": len(episodes), **values_figures(values)}


def _form(episode: Episode, name: str) -> tuple[tuple[int, ...], str]:
    info = episode.arrays[name]
    return info.shape[1:], np.dtype(info.dtype).kind


def _number_figures(values: np.ndarray) -> dict[str, Any]:
    """Return quantiles, the mean, the share that is not 0 and a histogram of numbers; infinite and missing ones are only counted."""
    finite = values[np.isfinite(values)].astype(np.float64)
    if not len(finite):
        return {"not_finite": len(values)}
    # the ends of the histogram hold all beyond
    low, high = np.quantile(finite, (_TAIL, 1 - _TAIL))
    edges = np.linspace(low, high if high > low else low + 1, _BINS + 1)
    counts, _ = np.histogram(finite.clip(edges[0], edges[-1]), edges)
    return {
        "not_finite": len(values) - len(finite),
        "mean": float(finite.mean()),
        "in_use": float((finite != 0).mean()),
        "quantiles": dict(zip(map(str, _QUANTILES), np.percentile(finite, _QUANTILES).tolist(), strict=True)),
        "histogram": {"edges": edges.tolist(), "counts": counts.tolist()},
    }


def _shares(distinct: np.ndarray, counts: np.ndarray) -> dict[str, float]:
    """Return the shares of the 16 commonest values, the commonest first."""
    order = np.argsort(-counts, kind="stable")[:_MOST_VALUES].tolist()
    names = [str(distinct[at]) if distinct.dtype.kind == "U" else f"{distinct[at]:g}" for at in order]
    return {name: int(counts[at]) / int(counts.sum()) for name, at in zip(names, order, strict=True)}


def _array_names(episodes: Sequence[Episode], kind: str) -> list[str]:
    return sorted({name for episode in episodes for name in episode.arrays if name.split(".")[0] == kind and _with_array([episode], name)})


def _with_array(episodes: Sequence[Episode], name: str) -> list[Episode]:
    """Return the episodes that have an array with entries in it."""
    return [episode for episode in episodes if name in episode.arrays and 0 not in episode.arrays[name].shape]


def _evenly(episodes: Sequence[Episode], most: int) -> list[Episode]:
    return [episodes[at] for at in np.unique(np.linspace(0, len(episodes) - 1, min(most, len(episodes))).round().astype(int))]
