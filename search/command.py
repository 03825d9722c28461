"""The command `tune_agent.py`, behind its door."""

from collections.abc import Sequence

from search.config import read_search


def tune(argv: Sequence[str]) -> int:
    """Run what is missing of a search and write its report; return the exit status: 1 where a trial failed."""
    config = read_search(argv)
    # brings torch, Ray and matplotlib: not before the options are known to be right
    from search.running import run_search

    return run_search(config, argv)
