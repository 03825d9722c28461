"""Least values of options."""

from foundation.errors import UserError


def at_least(least: float, **values: float) -> None:
    """Raise `UserError` for the first option whose value is below `least`."""
    for name, value in values.items():
        if value < least:
            raise UserError(f"'{name}' must be at least {least}, got {value}")
