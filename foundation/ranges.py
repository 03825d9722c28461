"""Least and largest values of options."""

import math

from foundation.errors import UserError


def at_least(least: float, **values: float) -> None:
    """Raise `UserError` for the first option whose value is below `least`, or no number."""
    within(least, math.inf, **values)


def within(least: float, most: float, **values: float) -> None:
    """Raise `UserError` for the first option whose value is not from `least` to `most`."""
    for name, value in values.items():
        if not value >= least:
            raise UserError(f"'{name}' must be at least {least}, got {value}")
        if value > most:
            raise UserError(f"'{name}' must be at most {most:,}, got {value}")
