"""The rooms inside agents/ and comparison/ know each other in one direction: what a run is made of knows nothing of runs."""

from pathlib import Path

import grimp
import pytest

ROOT = Path(__file__).resolve().parents[2]
FLOORS = {
    "agents": [
        {"command", "playing"},
        {"running", "films"},
        {"run"},
        {"learning", "remote", "cluster"},
        {"jobs"},
    ],
    "comparison": [{"command"}, {"running"}, {"report"}, {"results"}, {"comparison"}, {"grid"}, {"config"}],
}
"""Highest first; those of one floor do not know each other."""


@pytest.mark.parametrize("room", FLOORS)
def test_each_imports_only_from_the_floors_below_it(room: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT))
    graph = grimp.build_graph(room, cache_dir=None)
    assert all(f"{room}.{name}" in graph.modules for floor in FLOORS[room] for name in floor)
    assert graph.find_illegal_dependencies_for_layers(layers=FLOORS[room], containers={room}) == set()
