"""Every algorithm learns on a second device what it learns on the CPU, and never mixes the two."""

from typing import Any

import pytest

from tests.agents.learning.test_sets import SetWorld
from tests.fixtures.processes import found_by_another, write_found

# without recurrent_ppo: its LSTM is one operation, which the CPU lacks
KINDS = ("ppo", "a2c", "maskable_ppo", "dqn", "qrdqn", "sac", "td3")


class Drawn(SetWorld):
    """The same observations and rewards each time, whatever is done."""

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        if seed is not None:
            self.observation_space.seed(seed)
        return super().reset()

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        seen = self.observation_space.sample()
        return seen, float(seen["compass"][0]), bool(seen["compass"][1] > 0.9), False, {}


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """What came of each algorithm, by its name."""
    return found_by_another(learn_on_both, tmp_path_factory.mktemp("devices"))


@pytest.mark.parametrize("kind", KINDS)
def test_an_algorithm_learns_the_same_on_a_second_device(found: dict[str, dict[str, Any]], kind: str) -> None:
    here = found[kind]
    assert here.get("error") is None
    assert here["devices"] == ["elsewhere:0"]
    assert here["learned"] > 1e-4
    assert here["apart"] < 1e-5


def learn_on_both(folder: str) -> None:
    """Let each algorithm learn on the CPU and on the second device, and write how far apart they are. Call this in a process of its own."""
    import torch

    from tests.fixtures.second_device import ELSEWHERE

    torch.set_num_threads(1)
    write_found(KINDS, lambda kind: _apart(kind, str(ELSEWHERE)), folder)


def _apart(kind: str, elsewhere: str) -> dict[str, Any]:
    from stable_baselines3.common.vec_env import DummyVecEnv

    from tests.agents.learning.test_learners import CONTINUOUS, tiny

    weights, devices = [], set()
    for device in ("cpu", elsewhere):
        settings = tiny(kind)
        venv = DummyVecEnv([lambda: Drawn(kind in CONTINUOUS, True)] * settings.n_envs)
        algorithm = settings.make(venv, 0, device)
        before = [weight.detach().cpu().clone() for weight in algorithm.policy.parameters()]
        algorithm.learn(64)
        devices = {str(weight.device) for weight in algorithm.policy.parameters()}
        weights.append([weight.detach().cpu() for weight in algorithm.policy.parameters()])
    return {
        "devices": sorted(devices),
        "learned": max(float((one - start).abs().max()) for one, start in zip(weights[1], before, strict=True)),
        "apart": max(float((one - other).abs().max()) for one, other in zip(*weights, strict=True)),
    }
