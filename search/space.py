"""A search space: what may vary and how, read from YAML, and the trials that a seed draws from it with Ray Tune's samplers."""

import itertools
import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from foundation.errors import UserError, nearest
from foundation.limits import MOST_INTEGER
from foundation.presets import read_preset

KINDS = ("loguniform", "uniform", "randint", "choice", "grid")
_DIGITS = 4
_ATTEMPTS = 100
"""Draws of one trial before the space is taken to have no other."""


@dataclass(frozen=True)
class Parameter:
    """A hyperparameter that varies: its dotted name, the kind of its distribution, and the bounds or the values."""

    name: str
    kind: str
    values: tuple[Any, ...]

    @property
    def bounded(self) -> bool:
        """Whether `values` are the two bounds of an interval."""
        return self.kind in ("loguniform", "uniform", "randint")

    def draw(self, random: np.random.Generator) -> Any:
        """Draw a value; real numbers are rounded to four significant digits, so that a command can name them."""
        from ray import tune

        if not self.bounded:
            # by number: a value may be a list
            return self.values[int(tune.choice(list(range(len(self.values)))).sample(random_state=random))]
        value = getattr(tune, self.kind)(*self.values).sample(random_state=random)
        return int(value) if self.kind == "randint" else min(max(float(f"{value:.{_DIGITS}g}"), self.values[0]), self.values[1])


@dataclass(frozen=True)
class Space:
    """The hyperparameters that vary, by name."""

    parameters: tuple[Parameter, ...]

    @property
    def names(self) -> list[str]:
        return [parameter.name for parameter in self.parameters]

    def plain(self) -> dict[str, dict[str, list[Any]]]:
        """Return the space as its file says it, numbers as numbers."""
        return {parameter.name: {parameter.kind: list(parameter.values)} for parameter in self.parameters}

    def draw(self, count: int, seed: int) -> list[dict[str, Any]]:
        """Draw `count` different trials; the first of them are the same for every count. Grids are gone through in order.

        Raises `UserError` where the space has fewer points.
        """
        trials: list[dict[str, Any]] = []
        seen: set[str] = set()
        for number in range(count):
            random = np.random.default_rng([seed, number])
            for _ in range(_ATTEMPTS):
                values = self._draw(number, random)
                if (key := json.dumps(values, sort_keys=True)) not in seen:
                    break
            else:
                raise UserError(f"the space has no more than {number} different trials: give --trials {number}, or widen it")
            seen.add(key)
            trials.append(values)
        return trials

    def _draw(self, number: int, random: np.random.Generator) -> dict[str, Any]:
        grid = [parameter for parameter in self.parameters if parameter.kind == "grid"]
        points = list(itertools.product(*(parameter.values for parameter in grid)))
        fixed = dict(zip((parameter.name for parameter in grid), points[number % len(points)], strict=True))
        # in the order of their names: lines of a file may change places
        drawn = {one.name: one.draw(random) for one in sorted(self.parameters, key=lambda one: one.name) if one.kind != "grid"}
        return {name: fixed.get(name, drawn.get(name)) for name in self.names}


def read_space(preset: str, known: Callable[[list[str]], list[str]]) -> Space:
    """Read a space from a preset of `configs/search/` or a YAML file, strictly.

    `known` returns the names that may vary, given those that do. Raises `UserError` that names the key which is wrong.
    """
    content = read_preset("search", preset)
    if not content:
        raise UserError(
            f"{preset}: nothing to search: name hyperparameters, such as 'algorithm.learning_rate: {{loguniform: [1.0e-5, 1.0e-2]}}'"
        )
    names = known([str(key) for key in content])
    for key in content:
        if key not in names:
            raise UserError(f"{preset}: unknown key '{key}': {nearest(str(key), names)}")
    return Space(tuple(_parameter(str(key), value, f"{preset}: '{key}'") for key, value in content.items()))


def _parameter(name: str, content: Any, where: str) -> Parameter:
    if not isinstance(content, dict) or len(content) != 1:
        raise UserError(f"{where} must say one of {', '.join(KINDS)} with a list, such as {{uniform: [0.9, 0.999]}}; got {content!r}")
    kind, values = next(iter(content.items()))
    if kind not in KINDS:
        raise UserError(f"{where}: unknown kind '{kind}': {nearest(str(kind), KINDS)}")
    if not isinstance(values, list) or not values:
        raise UserError(f"{where}: {kind} takes a list, got {values!r}")
    if kind in ("choice", "grid"):
        return Parameter(name, kind, tuple(values))
    return Parameter(name, kind, _bounds(kind, values, where))


def _bounds(kind: str, values: list[Any], where: str) -> tuple[float, float]:
    try:
        # YAML 1.1 reads 1e-4 (no dot) as a string
        low, high = (float(value) for value in values)
    except (TypeError, ValueError):
        raise UserError(f"{where}: {kind} takes two numbers, the lower and the upper bound, got {values!r}") from None
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise UserError(f"{where}: the lower bound of {kind} must be below the upper one, got {values!r}")
    if kind == "loguniform" and low <= 0:
        raise UserError(f"{where}: the bounds of loguniform must be above 0, got {values!r}")
    if kind != "randint":
        return low, high
    if max(abs(low), abs(high)) > MOST_INTEGER:
        raise UserError(f"{where}: randint takes numbers of at most 64 bits, got {values!r}")
    if low != int(low) or high != int(high):
        raise UserError(f"{where}: randint takes whole numbers, got {values!r}")
    return int(low), int(high)
