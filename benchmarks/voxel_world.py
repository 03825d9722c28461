"""How fast the voxel world runs on one core: `python benchmarks/voxel_world.py`.

Prints a table beside the rate of a matrix product measured in the same run, so that figures of different (or busy)
machines can be compared.
"""

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"  # before numpy is loaded
ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402
from rich.console import Console  # noqa: E402
from rich.table import Table  # noqa: E402

import envs  # noqa: E402

TICKS = 2000
REPEATS = 5
TASKS = ("VoxelTreechop-v0", "VoxelNavigate-v0", "VoxelForage-v0", "VoxelFindCave-v0", "VoxelRecall-v0")


def recorded_actions(name: str) -> list[dict]:
    """Return the actions of the scripted player with much noise on one world, so that the views are those of play."""
    env, player = envs.make_env(name), envs.scripted_player(name, noise=0.5)
    observation, info = env.reset(seed=1)
    actions = []
    for _ in range(TICKS):
        actions.append(player(observation, info))
        observation, _, terminated, _, info = env.step(actions[-1])
        if terminated:
            observation, info = env.reset(seed=1)
    return actions


def ticks_a_second(name: str, actions: list[dict], skip: int) -> float:
    env = envs.make_env(name)
    env.reset(seed=1)
    start = time.perf_counter()
    for action in actions[::skip]:
        if env.unwrapped.step_ticks(action, skip)[2]:
            env.reset(seed=1)
    return len(actions) / (time.perf_counter() - start)


def reset_milliseconds(name: str) -> float:
    env = envs.make_env(name)
    times = []
    for seed in range(20):
        start = time.perf_counter()
        env.reset(seed=seed)
        times.append(1000 * (time.perf_counter() - start))
    return statistics.median(times)


def start_seconds(name: str) -> float:
    """Return the wall time of a fresh process that imports, makes an environment and resets it, with compiled code cached."""
    command = [sys.executable, "-c", f"import envs; envs.make_env('{name}').reset(seed=0)"]
    start = time.perf_counter()
    subprocess.run(command, cwd=ROOT, check=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
    return time.perf_counter() - start


def product_rate() -> float:
    """Return the GFLOP/s of a float32 product of 512 x 512 matrices on one thread."""
    matrix = np.random.default_rng(0).random((512, 512), np.float32)
    start = time.perf_counter()
    for _ in range(20):
        matrix @ matrix
    return 20 * 2 * 512**3 / (time.perf_counter() - start) / 1e9


def main() -> None:
    table = Table("", *TASKS, "", title="The voxel world on one core, 64x64 frames (medians; in brackets the best)")
    rows: list[tuple[str, Callable[[str], list[float]], str, Callable[[list[float]], float]]] = []
    actions = {name: recorded_actions(name) for name in TASKS}
    rows.append(("a frame each tick", lambda n: [ticks_a_second(n, actions[n], 1) for _ in range(REPEATS)], "ticks/s", max))
    rows.append(("a frame every 4 ticks", lambda n: [ticks_a_second(n, actions[n], 4) for _ in range(REPEATS)], "ticks/s", max))
    rows.append(("reset", lambda n: [reset_milliseconds(n) for _ in range(3)], "ms", min))
    rows.append(("start of a process", lambda n: [start_seconds(n) for _ in range(REPEATS)], "s", min))
    for label, measure, unit, best in rows:
        cells = [(statistics.median(values), best(values)) for values in map(measure, TASKS)]
        table.add_row(label, *(f"{median:,.{_digits(median)}f} ({top:,.{_digits(top)}f})" for median, top in cells), unit)
    products = [product_rate() for _ in range(REPEATS)]
    table.add_row("matrix product", f"{statistics.median(products):.0f} ({max(products):.0f})", "", "GFLOP/s")
    Console(width=170).print(table)


def _digits(value: float) -> int:
    return 0 if value >= 100 else 1 if value >= 10 else 2


if __name__ == "__main__":
    main()
