"""What tests of several rooms stand on: a tiny world, tiny encoders, a store of moving squares; and how tests are shared out."""

import os
from pathlib import Path

import pytest

pytest_plugins = ["tests.fixtures.agents", "tests.fixtures.clips", "tests.fixtures.encoders", "tests.fixtures.packages"]

STARTING_RAY = {
    "clusters": ("agents/cluster", "search"),
    "local Ray": (
        "agents/remote",
        "agents/test_third_party",
        "encoders/test_distributed.py",
        "envs/minerl/test_whole_path.py",
        "envs/test_atari.py",
    ),
}
"""Tests that start a Ray, each with what it needs of it: in two processes, one of which has all that stand clusters up."""
LONG = ("frames/test_corruptions.py", "encoders/test_nvae_numbers.py", "encoders/test_cwvae_numbers.py", "frames/building")
_TESTS = Path(__file__).parent


def pytest_xdist_auto_num_workers() -> int:
    """Return one process more than there are cores: those that start Ray wait more than they compute."""
    return len(os.sched_getaffinity(0)) + 1


# last: other plugins have sorted the items by then
@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give each file of tests to one process as a whole, those that start Ray to two processes; the longest begin."""
    for item in items:
        item.add_marker(pytest.mark.xdist_group(_group(item)))
    items.sort(key=lambda item: (_group(item) not in STARTING_RAY, not _name(item).startswith(LONG)))


def _group(item: pytest.Item) -> str:
    name = _name(item)
    return next((group for group, places in STARTING_RAY.items() if name.startswith(places)), name)


def _name(item: pytest.Item) -> str:
    return item.path.relative_to(_TESTS).as_posix()
