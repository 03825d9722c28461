"""Any action space as one that algorithms act in: a choice, several choices, or numbers from -1 to 1."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from foundation.errors import UserError, in_one_line
from wrappers.bounds import bounded


class PlainActions(gymnasium.ActionWrapper):
    """Replace an action space by a plain one: Stable-Baselines3 ignores where choices start, how they nest, bounds and types.

    One choice becomes `Discrete(n)` from 0; several (`MultiDiscrete`, `MultiBinary`, dictionaries and tuples of choices)
    `MultiDiscrete (K,)` from 0. Where there are numbers (`Box`), all become `Box(-1, 1, (K,))`, scaled to their bounds; whole numbers and
    choices among them share the range from -1 to 1 out equally. Raises `UserError` for numbers without finite bounds and for spaces that
    are neither.
    """

    def __init__(self, env: gymnasium.Env) -> None:
        super().__init__(env)
        self._leaves = [_Leaf.of(name, space) for name, space in _leaves(env.action_space)]
        if not self._leaves:
            raise UserError(f"the action is {in_one_line(env.action_space)}: there is nothing to choose")
        self._continuous = any(isinstance(leaf.space, spaces.Box) for leaf in self._leaves)
        sizes = [len(leaf.low) for leaf in self._leaves]
        self._cuts = np.cumsum(sizes)[:-1]
        if self._continuous:
            self.action_space = spaces.Box(-1.0, 1.0, (sum(sizes),), np.float32)
        else:
            counts = np.concatenate([leaf.counts() for leaf in self._leaves])
            self.action_space = spaces.Discrete(int(counts[0])) if len(counts) == 1 else spaces.MultiDiscrete(counts)

    def action(self, action: Any) -> Any:
        parts = np.split(np.asarray(action).reshape(-1), self._cuts)
        read = [leaf.of_numbers if self._continuous else leaf.of_choices for leaf in self._leaves]
        return _nested(self.env.action_space, iter([one(part) for one, part in zip(read, parts, strict=True)]))


def is_plain(space: spaces.Space) -> bool:
    """Say whether an action space is one that algorithms act in as it is."""
    if isinstance(space, spaces.Discrete):
        return int(space.start) == 0
    if isinstance(space, spaces.MultiDiscrete):
        return space.nvec.ndim == 1 and not space.start.any()
    return isinstance(space, spaces.Box) and space.dtype.kind == "f" and bool((space.low == -1).all() and (space.high == 1).all())


@dataclass(frozen=True)
class _Leaf:
    """One entry of an action: K numbers from `low` to `high`, (K,) each; whole ones if `whole`."""

    space: spaces.Space
    low: np.ndarray
    high: np.ndarray
    whole: bool

    @classmethod
    def of(cls, name: str, space: spaces.Space) -> "_Leaf":
        what = f"the action{name and f' {name!r}'} is {in_one_line(space)}"
        if isinstance(space, spaces.Discrete):
            return cls(space, np.array([space.start]), np.array([space.start + space.n - 1]), whole=True)
        if isinstance(space, spaces.MultiDiscrete):
            start = space.start.reshape(-1)
            return cls(space, start, start + space.nvec.reshape(-1) - 1, whole=True)
        if isinstance(space, spaces.MultiBinary):
            zeros = np.zeros(int(np.prod(space.shape)), np.int64)
            return cls(space, zeros, zeros + 1, whole=True)
        if not isinstance(space, spaces.Box):
            raise UserError(f"{what}: neither a choice nor numbers; wrap the environment so that it fills this in by itself")
        low, high = space.low.reshape(-1).astype(np.float64), space.high.reshape(-1).astype(np.float64)
        if not bounded(space).all():
            raise UserError(f"{what}: an agent must know how far it can go; declare finite bounds in the environment")
        return cls(space, low, high, whole=space.dtype.kind in "biu")

    def counts(self) -> np.ndarray:
        """Return among how many each of the K numbers chooses, int64 (K,)."""
        return (self.high - self.low).astype(np.int64) + 1

    def of_choices(self, choices: np.ndarray) -> Any:
        """Return the entry for choices from 0, (K,)."""
        return self._shaped(self.low + choices)

    def of_numbers(self, numbers: np.ndarray) -> Any:
        """Return the entry for numbers from -1 to 1, (K,)."""
        share = (np.clip(numbers.astype(np.float64), -1, 1) + 1) / 2
        if self.whole:
            return self.of_choices(np.minimum(np.floor(share * self.counts()), self.high - self.low))
        return self._shaped(self.low + share * (self.high - self.low))

    def _shaped(self, values: np.ndarray) -> Any:
        typed = values.astype(self.space.dtype).reshape(self.space.shape or ())
        # rounded to fewer digits, a number may have left its bounds
        typed = np.clip(typed, self.space.low, self.space.high) if isinstance(self.space, spaces.Box) else typed
        return typed[()] if isinstance(self.space, spaces.Discrete) else np.asarray(typed)


def _leaves(space: spaces.Space, path: str = "") -> Iterator[tuple[str, spaces.Space]]:
    """Yield the entries of an action that are no dictionaries or tuples, by name, in the order of `_nested`."""
    inner = space.spaces if isinstance(space, spaces.Dict) else dict(enumerate(space.spaces)) if isinstance(space, spaces.Tuple) else None
    if inner is None:
        yield path, space
        return
    for key, sub in inner.items():
        yield from _leaves(sub, f"{path}/{key}" if path else str(key))


def _nested(space: spaces.Space, values: Iterator[Any]) -> Any:
    """Put the entries' values into dictionaries and tuples again."""
    if isinstance(space, spaces.Dict):
        return {key: _nested(sub, values) for key, sub in space.spaces.items()}
    if isinstance(space, spaces.Tuple):
        return tuple(_nested(sub, values) for sub in space.spaces)
    return next(values)
