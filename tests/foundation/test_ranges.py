"""Numbers that no agent can be trained with are refused with their names and their limits, before anything heavy is imported."""

from pathlib import Path

import pytest

from agents.command import train
from agents.learning.algorithms import BUILT_IN, build_algorithm
from comparison.config import ComparisonConfig, read_grid
from foundation.errors import UserError
from foundation.ranges import at_least
from search.config import read_search


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("algorithm.gamma", "2", "'algorithm.gamma' must be at most 1, got 2.0"),
        ("algorithm.gamma", "nan", "must be at least 0, got nan"),
        ("algorithm.learning-rate", "inf", "must be at most"),
        ("algorithm.learning-rate", "-1", "must be at least 0"),
        ("algorithm.net-arch", "0", "'algorithm.net_arch' must be at least 1, got 0"),
        ("algorithm.net-arch", "1000000000", "must be at most 65,536"),
        ("ray.cpus", "nan", "'cpus' must be at least"),
        ("ray.cpus", "inf", "'cpus' must be at most"),
        ("seed", "9" * 26, "'seed' must be a number of at most 64 bits"),
        ("seed", str(2**40), "'seed' must be from 0"),
        ("threads", "100000", "'threads' must be at most 1,024"),
        ("checkpoint-minutes", "inf", "'checkpoint_minutes' must be a finite number"),
        ("environment.frame-size", "0 64", "'frame_size' must be at least 1"),
        ("environment.camera-degrees", "nan", "'camera_degrees' must be at least 0"),
        ("env.episode_ticks", ".inf", "must be a finite number"),
    ],
)
def test_a_number_that_is_none_is_refused_by_name(option: str, value: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(UserError) as raised:
        train(["debug", "--control", "pixels", "--run", str(tmp_path / "run"), f"--{option}", *value.split()])
    assert said in str(raised.value)
    assert not (tmp_path / "run").exists()


def test_seeds_and_trials_that_no_disk_has_are_refused(tmp_path: Path) -> None:
    run = ["--run", str(tmp_path / "run")]
    with pytest.raises(UserError, match="'seeds' must be at most 100,000, got 99999999999999"):
        read_grid("", ["debug", "--controls", "pixels", "--seeds", "99999999999999", *run])
    with pytest.raises(UserError, match="'trials' must be at most 100,000"):
        read_search(["debug", "--control", "pixels", "--space", "debug", "--trials", "99999999999999", *run])
    assert ComparisonConfig.seeds == 5


@pytest.mark.parametrize("kind", BUILT_IN)
def test_every_algorithm_has_its_ranges_checked(kind: str) -> None:
    build_algorithm({"kind": kind})
    for values in ({"gamma": 2.0}, {"learning_rate": float("nan")}, {"net_arch": [0]}, {"n_envs": 10**9}):
        with pytest.raises(UserError, match=next(iter(values))):
            build_algorithm({"kind": kind, **values})


def test_what_is_no_number_is_below_every_least_value() -> None:
    with pytest.raises(UserError, match="'x' must be at least 0, got nan"):
        at_least(0, x=float("nan"))
