"""Players that do not learn play the worlds that agents are evaluated in, and each seed plays in a way of its own."""

import json
from pathlib import Path
from typing import Any

import gymnasium
import pytest

from agents.run.config import EvaluationConfig
from agents.run.environment_config import EnvironmentConfig
from agents.run.pictures import FILM
from comparison.config import ComparisonConfig, PartConfig
from comparison.grid import Part
from comparison.players import PlayerRun, play_player
from envs import make_env
from foundation.seeds import FIRST_EVALUATION_SEED

TICKS, EPISODES = 20, 3


class Noticed(gymnasium.Wrapper):
    """Keeps the seed of every episode, and its rewards tick by tick."""

    def __init__(self, env: gymnasium.Env) -> None:
        super().__init__(env)
        self.seeds: list[int | None] = []
        self.rewards: list[list[float]] = []

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        self.seeds.append(seed)
        self.rewards.append([])
        return super().reset(seed=seed, options=options)

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        found = super().step(action)
        self.rewards[-1].append(float(found[1]))
        return found


@pytest.fixture
def noticed(monkeypatch: pytest.MonkeyPatch) -> list[Noticed]:
    """Return the worlds that are made from now on."""
    made: list[Noticed] = []

    def make(name: str, **options: Any) -> Noticed:
        made.append(Noticed(make_env(name, **options)))
        return made[-1]

    monkeypatch.setattr("envs.make_env", make)
    return made


@pytest.fixture
def part(tmp_path: Path) -> Part:
    """Return a task in which agents are trained for longer episodes than they are evaluated in."""
    shared = ComparisonConfig(
        environment=EnvironmentConfig("VoxelNavigateDense-v0", options={"episode_ticks": 2 * TICKS}),
        evaluation=EvaluationConfig(every=32, episodes=2, final_episodes=EPISODES, environment={"episode_ticks": TICKS}),
        controls=("pixels",),
        seeds=2,
        run=tmp_path / "comparison",
    )
    return Part(PartConfig("task", "agent", shared, shared.algorithm))


@pytest.mark.parametrize("player", ["random", "scripted"])
def test_every_seed_of_a_player_plays_all_evaluation_worlds_as_agents_find_them(part: Part, noticed: list[Noticed], player: str) -> None:
    (row,) = [row for row in part.players if row.player == player]
    cells = part.cells_of(row)
    assert [cell.seed for cell in cells] == [0, 1]
    results, worlds = [], []
    for cell in cells:
        noticed.clear()
        assert isinstance(cell.run, PlayerRun)
        play_player(cell.run, lambda steps, note: False)
        worlds.append([(world.seeds[0], len(world.rewards[0])) for world in noticed])
        results.append(json.loads((cell.folder / "result.json").read_text()))
        assert results[-1]["final_returns"] == pytest.approx([sum(world.rewards[0]) for world in noticed])
        assert results[-1]["final_return"] == pytest.approx(sum(results[-1]["final_returns"]) / EPISODES)
    assert worlds[0] == worlds[1] == [(FIRST_EVALUATION_SEED + number, TICKS) for number in range(EPISODES)]
    assert [result["seed"] for result in results] == [0, 1]
    films = {(cell.folder / "pictures" / FILM).read_bytes() for cell in cells}
    assert len(films) == 2
    # the scripted player looks up and down by chance, but walks the same way
    assert (results[0]["final_returns"] == results[1]["final_returns"]) == (player == "scripted")
