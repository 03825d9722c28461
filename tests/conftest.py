"""What tests of several rooms stand on: a tiny world, tiny encoders, a store of moving squares; and how tests are shared out."""

from pathlib import Path

import pytest

_FIXTURES = ("agents", "clients", "clips", "encoders", "judged", "packages", "service", "slots")
pytest_plugins = [f"tests.fixtures.{name}" for name in _FIXTURES]

STARTING_RAY = (
    "agents/cluster",
    "agents/remote",
    "agents/test_third_party",
    "encoders/test_distributed.py",
    "envs/minerl/test_whole_path.py",
    "envs/test_atari.py",
    "foundation/test_local_ray.py",
    "search",
    "service/test_cluster.py",
)
"""Tests that start a Ray, each with what it needs of it: one after the other, in one process."""
LONG = (
    "frames/test_corruptions.py",
    "encoders/efficientmorl/test_golden.py",
    "encoders/test_nvae_numbers.py",
    "encoders/test_cwvae_numbers.py",
    "frames/building",
)
_TESTS = Path(__file__).parent


def pytest_itemcollected(item: pytest.Item) -> None:
    """Give each file of tests to one process as a whole, all that start Ray to the same one."""
    # here and not below, where pytest-xdist has read the groups already
    item.add_marker(pytest.mark.xdist_group(_group(item)))


# last: other plugins have sorted the items by then
@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let those that start Ray begin, and then the longest."""
    items.sort(key=lambda item: (_group(item) != "ray", not _name(item).startswith(LONG)))


def _group(item: pytest.Item) -> str:
    return "ray" if _name(item).startswith(STARTING_RAY) else _name(item)


def _name(item: pytest.Item) -> str:
    return item.path.relative_to(_TESTS).as_posix()
