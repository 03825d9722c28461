"""Train an agent through the MineRL client while its servers are killed: python benchmarks/minerl_kills.py --kills 20

Prints what the run's result says: its steps, the episodes that a death cut off, the resets that had to be tried again, and which
processes are left. Ends with status 1 where these do not add up to the kills. Needs the Python side of minerl (make minerl).
"""

import argparse
import random
import sys
import tempfile
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
# this folder comes first otherwise, and its frames.py is not the room
sys.path.insert(0, str(ROOT))

import psutil  # noqa: E402

from agents.learning.on_policy import PPOSettings  # noqa: E402
from agents.run.config import AgentRun, EvaluationConfig  # noqa: E402
from agents.run.environment_config import EnvironmentConfig  # noqa: E402
from agents.run.training import train_agent  # noqa: E402

_SERVER = "envs.minerl.voxel_server"


@dataclass
class Killer:
    """Kills the servers below this process, each once, in a thread: number k of n once k / (n + 1) of the steps are done.

    Every third meets the server that replaces the last one, while it is still starting.
    """

    kills: int
    steps: int
    done: int = 0
    killed: list[int] = field(default_factory=list)

    def report(self, steps: int, note: str) -> bool:
        """Take note of a run's progress; never asks it to stop."""
        self.done = steps
        return False

    def work(self, moments: random.Random) -> None:
        known: list[int] = []
        while len(self.killed) < self.kills and self.done < self.steps:
            newborn = len(self.killed) % 3 == 2
            due = newborn or self.done >= (len(self.killed) + 1) * self.steps / (self.kills + 1)
            spared = known if newborn else self.killed
            found = [one for one in servers() if one.pid not in spared] if due else []
            if found:
                victim = moments.choice(found)
                # anywhere in a step, in a reset, or between the two
                time.sleep(moments.uniform(0, 0.1))
                known = [one.pid for one in servers()]
                # it may have ended by itself meanwhile
                with suppress(psutil.NoSuchProcess):
                    victim.kill()
                    self.killed.append(victim.pid)
            time.sleep(0.005)


def servers() -> list[psutil.Process]:
    """Return the living voxel servers below this process."""
    found = []
    for process in psutil.Process().children(recursive=True):
        try:
            if _SERVER in process.cmdline() and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.NoSuchProcess:
            continue
    return found


def train_with_kills(run: Path, kills: int, steps: int, options: dict[str, Any], games: int = 2) -> tuple[dict[str, Any], Killer]:
    """Train a small agent on pixels in the folder `run`, in so many games at once; return its result and who killed."""
    config = AgentRun(
        run=run,
        environment=EnvironmentConfig("MineRLTreechop-v0", {"server": "voxel", "episode_ticks": 400, **options}),
        evaluation=EvaluationConfig(every=steps, episodes=1, final_episodes=1),
        algorithm=PPOSettings(n_envs=games, n_steps=16, batch_size=16, n_epochs=1, net_arch=(16,)),
        steps=steps,
        checkpoint_every=32,
        control="pixels",
        device="cpu",
    )
    killer = Killer(kills, steps)
    thread = threading.Thread(target=killer.work, args=[random.Random(0)], daemon=True)
    thread.start()
    result = train_agent(config, killer.report)
    thread.join()
    return result, killer


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--steps", type=int, default=4000, help="agent steps of 4 ticks")
    parser.add_argument("--python", help="an interpreter that has minerl, for its client; default: the client in this process")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        environment = {"python": options.python} if options.python else {}
        result, killer = train_with_kills(Path(folder) / "run", options.kills, options.steps, environment)
    left = [process.pid for process in psutil.Process().children(recursive=True) if process.status() != psutil.STATUS_ZOMBIE]
    print(f"servers killed: {len(killer.killed)}, in {time.perf_counter() - began:.0f} s")
    print(f"steps: {result['steps']} of {options.steps}, episodes: {result['episodes']}")
    print(f"cut off episodes: {result['deaths']}, resets tried again: {result['failed_resets']}, together: {result['restarts']}")
    print(f"processes left: {len(left)}")
    right = (len(killer.killed), result["restarts"], result["steps"], left) == (options.kills, options.kills, options.steps, [])
    return 0 if right else 1


if __name__ == "__main__":
    sys.exit(main())
