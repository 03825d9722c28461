"""What is counted of environments that die, and handed to those that replace them."""

from collections.abc import Mapping

RESTARTS = ("deaths", "failed_resets")
"""What an environment that can die counts in its info, as `minerl/deaths`: ended episodes, and resets that had to be tried again."""


def counts_after(cause: str, counts: Mapping[str, int]) -> dict[str, int]:
    """Return the `info["counts"]` that an environment goes on from which replaces one that died, for a cause of `RESTARTS`.

    An episode that was cut off is begun again where only whole ones count.
    """
    again = counts.get("repeating", 0) if cause == "deaths" else 0
    return {**counts, cause: counts.get(cause, 0) + 1, "episodes": counts.get("episodes", 0) - again}
