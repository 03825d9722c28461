"""Agents on a set, such as slots, act alike whatever the order of its rows; their runs resume and play like any other."""

from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3.common.vec_env import DummyVecEnv
from torch import Tensor

from agents.learning.algorithms import BUILT_IN, build_algorithm
from agents.learning.learner import Learner
from agents.playing import play
from agents.run.config import EvaluationConfig
from agents.run.environment_config import EnvironmentConfig
from agents.run.representation import reading_line
from agents.run.training import train_agent
from encoders import StoreReference, make_encoder, prepare
from foundation.errors import UserError
from tests.agents.learning.test_learners import CONTINUOUS, assert_same_run, die_at, go_on, tiny
from wrappers import SetSpace

ROWS, NUMBERS = 5, 3


class SetWorld(gymnasium.Env):
    """A set alone, or in a dictionary beside numbers and a picture."""

    def __init__(self, continuous: bool, beside: bool) -> None:
        latent = SetSpace(-np.inf, np.inf, (ROWS, NUMBERS), np.float32)
        others: dict[str, spaces.Space] = {"compass": spaces.Box(-1, 1, (2,), np.float32), "map": spaces.Box(0, 255, (36, 36, 3), np.uint8)}
        self.observation_space = spaces.Dict({"latent": latent, **others}) if beside else latent
        self.action_space = spaces.Box(-1, 1, (2,), np.float32) if continuous else spaces.Discrete(4)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        return self.observation_space.sample(), {}

    def action_masks(self) -> np.ndarray:
        return np.ones(4, bool)


def policy_of(kind: str, beside: bool = False, **settings: Any) -> Any:
    venv = DummyVecEnv([lambda: SetWorld(kind in CONTINUOUS, beside)] * 2)
    return tiny(kind, **settings).make(venv, 0, "cpu").policy.eval()


def drawn(policy: Any) -> Any:
    """A batch of observations as the policy gets them."""
    random = np.random.default_rng(1)
    seen = {
        "latent": random.normal(size=(6, ROWS, NUMBERS)).astype(np.float32),
        "compass": random.uniform(-1, 1, (6, 2)).astype(np.float32),
        "map": random.integers(0, 256, (6, 3, 36, 36), np.uint8),
    }
    return seen if isinstance(policy.observation_space, spaces.Dict) else seen["latent"]


def with_rows(seen: Any, rows: np.ndarray) -> Any:
    return {**seen, "latent": rows} if isinstance(seen, dict) else rows


def rows_of(seen: Any) -> np.ndarray:
    return seen["latent"] if isinstance(seen, dict) else seen


@torch.no_grad()
def outputs(kind: str, policy: Any, seen: Any) -> Tensor:
    """Everything that a policy says of observations: what it would do, and what it expects."""
    tensors, _ = policy.obs_to_tensor(seen)
    if kind in ("dqn", "qrdqn"):
        return (policy.q_net if kind == "dqn" else policy.quantile_net)(tensors).flatten(1)
    if kind in CONTINUOUS:
        actions = policy.actor(tensors)
        return torch.cat([actions, *policy.critic(tensors, torch.zeros_like(actions))], 1)
    memory: tuple[Any, ...] = ()
    if kind == "recurrent_ppo":
        before = torch.zeros(1, len(rows_of(seen)), policy.lstm_actor.hidden_size)
        memory = ((before, before), torch.zeros(len(rows_of(seen))))
    distribution = policy.get_distribution(tensors, *memory)
    distribution = distribution[0] if kind == "recurrent_ppo" else distribution
    return torch.cat([distribution.distribution.logits, policy.predict_values(tensors, *memory)], 1)


@pytest.mark.parametrize(("set_policy", "beside"), [("deepsets", False), ("attention", True)])
@pytest.mark.parametrize("kind", BUILT_IN)
def test_the_order_of_a_set_s_rows_changes_nothing_and_their_numbers_do(kind: str, set_policy: str, beside: bool) -> None:
    # SAC draws its actions, here with the same noise
    policy = policy_of(kind, beside, set_policy=set_policy, set_width=8)
    seen = drawn(policy)
    orders = np.array([np.random.default_rng(number).permutation(ROWS) for number in range(6)])
    permuted = with_rows(seen, np.take_along_axis(rows_of(seen), orders[..., None], 1))
    torch.manual_seed(0)
    expected = outputs(kind, policy, seen)
    torch.manual_seed(0)
    torch.testing.assert_close(outputs(kind, policy, permuted), expected, rtol=1e-4, atol=1e-5)
    other = rows_of(seen).copy()
    other[:, 0] *= -2
    torch.manual_seed(0)
    assert (outputs(kind, policy, with_rows(seen, other)) - expected).abs().amax(1).min() > 1e-5
    if beside:
        torch.manual_seed(0)
        assert not torch.allclose(outputs(kind, policy, {**seen, "compass": -seen["compass"]}), expected)


def test_a_flat_policy_tells_rows_apart_by_their_places() -> None:
    policy = policy_of("ppo", set_policy="flat")
    seen = drawn(policy)
    assert policy.features_dim == ROWS * NUMBERS
    assert not torch.allclose(outputs("ppo", policy, seen), outputs("ppo", policy, seen[:, ::-1].copy()))


def test_pooling_is_what_a_loop_over_rows_gives() -> None:
    rows = torch.randn(2, ROWS, NUMBERS)
    pooling = policy_of("ppo", set_width=8).features_extractor.extractors["set"]
    seen = torch.stack([torch.stack([pooling.of_row(row) for row in one]) for one in rows])
    torch.testing.assert_close(pooling(rows), torch.stack([torch.cat([sum(one), torch.stack([*one]).max(0).values]) for one in seen]))
    attention = policy_of("ppo", set_policy="attention", set_width=8).features_extractor.extractors["set"]
    expected = []
    for one in rows:
        made = [attention.of_row(row) for row in one]
        scores = torch.stack([attention.questions(row).exp() for row in made])
        weights = scores / scores.sum(0)
        expected.append(torch.cat([sum(weights[k, head] * made[k] for k in range(ROWS)) for head in range(4)]))
    torch.testing.assert_close(attention(rows), torch.stack(expected))


def test_an_algorithm_with_an_extractor_of_its_own_keeps_it(monkeypatch: pytest.MonkeyPatch) -> None:
    from stable_baselines3.common.torch_layers import FlattenExtractor

    settings = BUILT_IN["ppo"]
    options = settings.policy_options
    monkeypatch.setattr(settings, "policy_options", lambda self: {**options(self), "features_extractor_class": FlattenExtractor})
    assert isinstance(policy_of("ppo").features_extractor, FlattenExtractor)


def test_a_width_of_nothing_is_one_line() -> None:
    for kind in BUILT_IN:
        with pytest.raises(UserError, match=r"'algorithm.set_width' must be at least 1, got 0"):
            tiny(kind, set_width=0)


@pytest.fixture(scope="module")
def slots(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The folder of an untrained encoder whose first reading is a set; it remembers where its slots were."""
    folder = tmp_path_factory.mktemp("slots")
    frames = np.random.default_rng(0).integers(0, 256, (8, 2, 64, 64, 3), np.uint8)
    store = StoreReference(path="gone", fingerprint="0", frames_per_second=5.0, resize="squash")
    prepare(make_encoder("efficientmorl_debug", frame_shape=[64, 64, 3], tracking=True), frames, folder, store=store)
    return folder


def test_a_history_of_slots_is_refused_where_the_command_says_what_is_seen(slots) -> None:
    assert "numbers a frame" in reading_line(slots)
    with pytest.raises(UserError, match=r"these are a set: use --environment\.history 1"):
        reading_line(slots, history=2)


@pytest.mark.parametrize("kind", ["ppo", "sac"])
def test_a_run_on_slots_that_died_ends_with_the_bits_of_one_that_did_not_and_plays(kind, slots, small_run, tmp_path, capsys) -> None:
    def config(name: str) -> Any:
        return small_run(
            environment=EnvironmentConfig(name="Bright", options={"episode_ticks": 20}, frame_skip=4, continuous=kind in CONTINUOUS),
            evaluation=EvaluationConfig(every=32, episodes=1, final_episodes=1),
            algorithm=tiny(kind, set_width=8),
            control=None,
            encoder=slots,
            steps=64,
            run=tmp_path / name,
        )

    result = train_agent(config("whole"), go_on)
    assert result["encoder"]["reading"] == "slots"
    with pytest.raises(MemoryError):
        train_agent(config("broken"), die_at(64))
    train_agent(config("broken"), go_on)
    assert_same_run(tmp_path / "broken", tmp_path / "whole")
    policy = torch.load(tmp_path / "whole" / "resume.pt", weights_only=True)["parameters"]["policy"]
    assert any("extractors.set.of_row" in name for name in policy)
    assert play([str(tmp_path / "broken"), "--episodes", "2"]) == 0
    assert "mean return" in capsys.readouterr().out


def test_settings_say_which_pooling() -> None:
    settings = build_algorithm({"kind": "a2c", "set_policy": "attention", "set_width": 16})
    assert isinstance(settings, Learner)
    assert (settings.set_policy, settings.set_width) == ("attention", 16)
    with pytest.raises(UserError, match=r"algorithm.set_policy.*deepsets, attention, flat"):
        build_algorithm({"kind": "a2c", "set_policy": "sum"})
