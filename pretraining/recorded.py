"""What a store's recordings hold beside frames, as heads and an encoder's card need it."""

import numpy as np

import frames
from encoders.heads.config import Column, HeadsConfig, Labels, Recorded
from frames.labels import action_columns_described, player_of, plays, state_names

_MOST_STATES = 100_000
_REWARDS = ("reward_to_come", "time_to_reward", "rewarded_within")


def what_is_recorded(store: frames.FrameStore, heads: HeadsConfig) -> Recorded:
    """Describe the numbers of a store's actions and states that active heads are to predict."""
    acting = next((heads.active[name].players for name in ("actions", "inverse") if name in heads.active), None)  # type: ignore[attr-defined]
    actions = () if acting is None else tuple(Column(*column) for column in action_columns_described(store, acting))
    return Recorded(actions, _states(store) if "state" in heads.active else ())


def tasks_of(store: frames.FrameStore) -> tuple[str, ...]:
    """Return the tasks that were recorded, by name, as far as the recordings say."""
    return tuple(sorted({episode.task for episode in store.episodes if episode.task}))


def what_was_seen(store: frames.FrameStore, labels: Labels, takes_actions: bool) -> tuple[str, ...]:
    """Say in words what is learned from beside frames."""
    seen = []
    if takes_actions or "next_actions" in labels:
        whose = "all" if takes_actions else labels["next_actions"].get("players", "acting")
        seen.append(f"actions of {_players(store, whose)}")
    if labels.keys() & set(_REWARDS):
        seen.append("rewards")
    return (*seen, *(name for name in ("state", "segmentation") if name in labels))


def _players(store: frames.FrameStore, players: str) -> str:
    names = {player_of(episode) for episode in store.episodes if plays(episode, players)} - {""}
    return ", ".join(sorted(names)) or ("all who acted" if players == "acting" else "all")


def _states(store: frames.FrameStore) -> tuple[Column, ...]:
    """Return the numbers of a state with their deviations over at most 100,000 training frames."""
    indices = store.indices("train")
    spread = indices[np.linspace(0, len(indices) - 1, min(len(indices), _MOST_STATES)).round().astype(np.int64)]
    values = frames.Labels(store, {"state": {}}).at(spread)["state"].reshape(len(spread), -1)
    deviations = np.nan_to_num(np.nanstd(values.astype(np.float64), axis=0))
    return tuple(Column(name, "number", float(scale) or 1.0) for name, scale in zip(state_names(store), deviations, strict=True))
