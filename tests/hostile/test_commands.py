"""Whole commands on hostile inputs: they end with a status of theirs, say what is wrong in a line, and touch no file but their own."""

import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.hostile import cases, sandbox
from tests.hostile.forking import Forks
from tests.hostile.held import Ended, ended

ROOT = Path(__file__).resolve().parents[2]
ALL = [(kind, number) for kind, (_, count) in cases.KINDS.items() for number in range(count)]
SAMPLED = 4
"""Of each kind; the rest is `extended`."""
SOME = [(kind, number) for kind, (_, count) in cases.KINDS.items() for number in sorted(random.Random(kind).sample(range(count), SAMPLED))]

Run = Callable[[str, int], Ended]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """Return a function that runs a case in a fork of one warm process, on a copy of good things."""
    root = tmp_path_factory.mktemp("hostile")
    forks = Forks(ROOT, root / "home")
    sandbox.build(root / "good", forks)
    yield lambda kind, number: ended(cases.case(kind, number), forks, root / "good", root / "place")
    forks.close()


def check(found: Ended) -> None:
    assert found.faults == (), f"status {found.status}\n{found.output[-3000:]}"


def test_there_are_more_than_four_hundred_of_all_kinds() -> None:
    assert len(ALL) >= 400
    assert {kind for kind, _ in SOME} == set(cases.KINDS)


@pytest.mark.parametrize(("kind", "number"), SOME)
def test_a_command_takes_a_hostile_input_or_refuses_it(run: Run, kind: str, number: int) -> None:
    check(run(kind, number))


@pytest.mark.extended
@pytest.mark.parametrize(("kind", "number"), [one for one in ALL if one not in SOME])
def test_so_does_it_all_others(run: Run, kind: str, number: int) -> None:
    check(run(kind, number))
