"""What MineRL's client costs over the voxel world: `python benchmarks/minerl_client.py [--python PATH]`.

The same actions are played on the bare voxel environment, on the `minerl` client in this process, and on the client in another
interpreter (this one, where none is named), in turns and in the same run, so that all three meet the same load.
"""

import argparse
import os
import statistics
import sys
import time
import warnings
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"  # before numpy is loaded
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import gymnasium
from rich.console import Console
from rich.table import Table

import envs

TICKS = 400
REPEATS = 7
TASKS = ("Treechop", "Navigate")
Actions = list[dict[str, Any]]


def recorded_actions(task: str) -> Actions:
    """Return the actions of the scripted player with much noise on one world, so that the views are those of play."""
    name = f"Voxel{task}-v0"
    env, player = envs.make_env(name), envs.scripted_player(name, noise=0.5)
    observation, info = env.reset(seed=1)
    actions = []
    for _ in range(TICKS):
        actions.append(player(observation, info))
        observation, _, _, _, info = env.step(actions[-1])
    return actions


def steps_a_second(env: gymnasium.Env[Any, Any], actions: Actions) -> float:
    env.reset(seed=1)
    start = time.perf_counter()
    for action in actions:
        env.step(action)
    return len(actions) / (time.perf_counter() - start)


def measure(task: str, python: str) -> dict[str, list[float]]:
    """Return steps a second by way of playing, and the seconds from nothing to the first observation."""
    actions = recorded_actions(task)
    ways: dict[str, gymnasium.Env[Any, Any]] = {"the bare voxel environment": envs.make_env(f"Voxel{task}-v0")}
    figures: dict[str, list[float]] = {}
    for way, options in (("the client in this process", {}), ("the client in another interpreter", {"python": python})):
        start = time.perf_counter()
        ways[way] = envs.make_env(f"MineRL{task}-v0", server="voxel", **options)
        ways[way].reset(seed=1)
        figures[f"start: {way}"] = [time.perf_counter() - start]
    for _ in range(REPEATS):
        for way, env in ways.items():
            figures.setdefault(way, []).append(steps_a_second(env, actions))
    for env in ways.values():
        env.close()
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description="What MineRL's client costs over the voxel world.")
    parser.add_argument("--python", default=sys.executable, help="an interpreter that has minerl (default: this one)")
    python = parser.parse_args().python
    warnings.simplefilter("ignore")
    measured = {task: measure(task, python) for task in TASKS}
    table = Table("", *TASKS, "", title="MineRL's client over the voxel world, 64x64 frames (medians; in brackets the best)")
    for row in sorted(measured[TASKS[0]], key=lambda row: row.startswith("start")):
        starts = row.startswith("start")
        cells = [(statistics.median(measured[task][row]), (min if starts else max)(measured[task][row])) for task in TASKS]
        table.add_row(row, *(f"{m:.1f}" if starts else f"{m:,.0f} ({best:,.0f})" for m, best in cells), "s" if starts else "steps/s")
    Console(width=110).print(table)


if __name__ == "__main__":
    main()
