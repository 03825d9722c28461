"""Rewards of recordings: what is still to come at each frame, how long it takes, and whether there is enough to learn from.

T steps lead through F = T + 1 frames; the reward of step t comes between frame t and frame t + 1. A step is rewarded where its reward is
greater than 0.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from foundation.errors import UserError
from frames.storage.format import Episode
from frames.store import FrameStore

REWARD = "reward"


@dataclass(frozen=True)
class RewardCounts:
    """How many recorded steps there are, how many of them are rewarded, and in how many of the episodes."""

    steps: int
    rewarded: int
    episodes: int
    rewarded_episodes: int


def rewards_of(store: FrameStore, episode: Episode) -> np.ndarray | None:
    """Return an episode's rewards float64 (T,), or None where it has none: pictures without order, and recordings without them."""
    info = episode.arrays.get(REWARD)
    if info is None or not episode.ordered or len(info.shape) != 1 or np.dtype(info.dtype).kind not in "fiub":
        return None
    return store.array(episode, REWARD)[: episode.length - 1].astype(np.float64)


def reward_counts(store: FrameStore, split: str = "all") -> RewardCounts:
    """Count the steps of a split, and those that are rewarded; all 0 for recordings without rewards."""
    counts = np.zeros(4, np.int64)
    for _, rewards in _rewarding(store, split):
        rewarded = int((rewards > 0).sum())
        counts += (len(rewards), rewarded, 1, rewarded > 0)
    return RewardCounts(*counts.tolist())


def check_rewards(store: FrameStore, split: str = "all", *, never: bool = False, always: bool = False) -> None:
    """Raise `UserError` where a split has no rewards, none is greater than 0 (allowed by `never`), or all are (allowed by `always`)."""
    counts = reward_counts(store, split)
    where = f"{store.path}" if split == "all" else f"{store.path}, split '{split}'"
    if not counts.steps:
        raise UserError(f"{where}: has no rewards; build it from recordings with rewards, or leave out what needs them")
    if not counts.rewarded and not never:
        remedy = "record a player that earns some, or leave out what needs them"
        raise UserError(f"{where}: none of its {counts.steps:,} rewards is greater than 0; {remedy}")
    if counts.rewarded == counts.steps and not always:
        remedy = "so no frame is worth more than another; leave out what needs them (the label can have them as they are: binarised=False)"
        raise UserError(f"{where}: all of its {counts.steps:,} rewards are greater than 0, {remedy}")


def to_come(rewards: np.ndarray, gamma: float, capped: bool) -> np.ndarray:
    """Return float64 (F,): R_t = r_t + gamma R_{t+1}, at most 1 where `capped`; `rewards` (F,) has the reward after each frame."""
    total, totals = 0.0, []
    for reward in reversed(rewards.tolist()):
        total = reward + gamma * total
        if capped and total > 1.0:
            total = 1.0
        totals.append(total)
    return np.array(totals[::-1], np.float64)


def near_rewards(rewards: np.ndarray, before: int, after: int) -> np.ndarray:
    """Return bool (F,): the last `before` frames up to each of the rewards (T,), and the first `after` frames that follow it."""
    rewarded = np.flatnonzero(rewards > 0)
    edges = np.zeros(len(rewards) + 2, np.int64)
    np.add.at(edges, np.maximum(rewarded + 1 - before, 0), 1)
    np.add.at(edges, np.minimum(rewarded + 1 + after, len(rewards) + 1), -1)
    return np.cumsum(edges)[:-1] > 0


def steps_to_reward(rewards: np.ndarray) -> np.ndarray:
    """Return float64 (F,): after how many steps from each frame a reward has come, 1 for the next step; inf where none comes."""
    frames = np.arange(len(rewards) + 1)
    rewarded = np.append(np.flatnonzero(rewards > 0).astype(np.float64), np.inf)
    return rewarded[np.searchsorted(rewarded, frames)] + 1 - frames


def _rewarding(store: FrameStore, split: str) -> Iterator[tuple[Episode, np.ndarray]]:
    for episode in store.of_split(split):
        rewards = rewards_of(store, episode)
        if rewards is not None and len(rewards):
            yield episode, rewards
