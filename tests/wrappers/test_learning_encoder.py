"""An encoder that learns with its agent begins as the frozen one, learns in all its parts, and PPO's first update finds a ratio of 1."""

from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3.common.vec_env import DummyVecEnv

from agents.learning.algorithms import build_algorithm
from encoders import StoreReference, make_encoder, prepare
from encoders.encoder import batch_norms
from encoders.used import used_parameters, without_unused
from foundation.errors import UserError
from tests.agents.learning.test_learners import CONTINUOUS, TINY
from wrappers import FrozenEncoder
from wrappers.features import learning_parameters
from wrappers.learning_encoder import LearningEncoder, refuse_not_learning
from wrappers.opening import open_encoder

STORE = StoreReference(path="gone", fingerprint="0", frames_per_second=20.0, resize="squash")
SIZES = {"conv_vae": "debug", "points": "points_tiny", "nvae": "nvae_debug", "slots": "efficientmorl_debug"}


class Pictures(gymnasium.Env):
    """Random pictures, alone or beside two numbers; the reward is random."""

    metadata = {"render_fps": 20}

    def __init__(self, side: int, continuous: bool = False, beside: bool = False) -> None:
        picture = spaces.Box(0, 255, (side, side, 3), np.uint8)
        self.observation_space = spaces.Dict({"compass": spaces.Box(-1, 1, (2,), np.float32), "pov": picture}) if beside else picture
        self.action_space = spaces.Box(-1, 1, (2,), np.float32) if continuous else spaces.Discrete(3)
        self.steps = 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        return self.observation_space.sample(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.steps += 1
        return self.observation_space.sample(), float(self.steps % 3), self.steps % 7 == 0, False, {}

    def action_masks(self) -> np.ndarray:
        return np.ones(3, bool)


@pytest.fixture(scope="module")
def encoders(tmp_path_factory) -> dict[str, FrozenEncoder]:
    """Encoders of every family whose agents can learn them, with statistics of their own."""
    made = {}
    for name, preset in SIZES.items():
        torch.manual_seed(0)
        model = make_encoder(preset)
        for layer in batch_norms(model):
            layer.running_mean.uniform_(-0.5, 0.5)
            layer.running_var.uniform_(0.5, 2)
        frames = np.random.default_rng(0).integers(0, 256, (40, *model.frame_shape), np.uint8)
        made[name] = FrozenEncoder(prepare(model, frames, tmp_path_factory.mktemp(name), store=STORE))
    return made


def algorithm_of(kind: str, encoder: FrozenEncoder, beside: bool = False, **settings: Any) -> Any:
    side = encoder.frame_shape[0]
    venv = DummyVecEnv([lambda: Pictures(side, kind in CONTINUOUS, beside)] * 2)
    venv.seed(0)
    values = {"kind": kind, "n_envs": 2, "net_arch": [8], **TINY[kind], **settings}
    return build_algorithm(values).make(venv, 0, "cpu", encoder=encoder)


def learners(policy: Any) -> list[LearningEncoder]:
    return [part for part in policy.modules() if isinstance(part, LearningEncoder)]


@pytest.mark.parametrize("kind", ["ppo", "a2c", "maskable_ppo", "recurrent_ppo", "dqn", "qrdqn", "sac", "td3"])
def test_before_any_update_a_policy_sees_what_a_frozen_encoder_shows(kind, encoders) -> None:
    frozen = encoders["conv_vae"]
    policy = algorithm_of(kind, frozen).policy
    pictures = np.random.default_rng(1).integers(0, 256, (5, *frozen.frame_shape), np.uint8)
    shown = torch.from_numpy(frozen.encode(pictures)[0])
    found = learners(policy)
    # one for actor and critic together, one for a target network; SAC and TD3 have one for each network
    counts = {"dqn": 2, "qrdqn": 2, "sac": 3, "td3": 4}
    assert len(found) == counts.get(kind, 1)
    observations, _ = policy.obs_to_tensor(pictures)
    for part in found:
        torch.testing.assert_close(policy.eval().extract_features(observations, part), shown, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", SIZES)
@pytest.mark.parametrize("beside", [False, True])
def test_every_family_is_seen_as_when_frozen_alone_or_beside_numbers(name, beside, encoders) -> None:
    frozen = encoders[name]
    policy = algorithm_of("ppo", frozen, beside, set_policy="flat").policy.eval()
    pictures = np.random.default_rng(1).integers(0, 256, (5, *frozen.frame_shape), np.uint8)
    compass = np.random.default_rng(2).uniform(-1, 1, (5, 2)).astype(np.float32)
    observations, _ = policy.obs_to_tensor({"pov": pictures, "compass": compass} if beside else pictures)
    shown = torch.from_numpy(frozen.encode(pictures)[0]).flatten(1)
    expected = torch.cat([torch.from_numpy(compass), shown], 1) if beside else shown
    torch.testing.assert_close(policy.extract_features(observations), expected, atol=2e-5, rtol=1e-4)


def test_slots_that_learn_are_pooled_whatever_their_order(encoders) -> None:
    (part,) = learners(algorithm_of("ppo", encoders["slots"]).policy)
    rows, numbers = encoders["slots"].latent_shape
    assert part.features_dim == 2 * 64
    assert next(iter(part.extractors.values())).of_row[0].in_features == numbers
    assert rows > 1


@pytest.mark.parametrize("kind", ["ppo", "recurrent_ppo", "dqn", "sac"])
def test_learning_reaches_every_parameter_of_the_encoder(kind, encoders) -> None:
    algorithm = algorithm_of(kind, encoders["points"])
    # the first that the optimizers change: of PPO the only one, of DQN the one that is no target
    online = {"dqn": "q_net", "sac": "actor"}.get(kind)
    part = learners(getattr(algorithm.policy, online) if online else algorithm.policy)[0]
    before = {name: parameter.clone() for name, parameter in part.encoder.named_parameters()}
    algorithm.learn(64)
    assert len(before) == len(list(encoders["points"].model.parameters()))
    assert [name for name, parameter in part.encoder.named_parameters() if torch.equal(parameter, before[name])] == []


@pytest.mark.parametrize("name", SIZES)
def test_gradients_reach_what_a_reading_depends_on_and_the_rest_is_gone(name, encoders) -> None:
    frozen = encoders[name]
    (part,) = learners(algorithm_of("ppo", frozen).policy)
    height, width, channels = frozen.frame_shape
    part.train()(torch.rand(3, channels, height, width)).square().sum().backward()
    expected = used_parameters(frozen.model, frozen.reading)
    reached = {name for name, parameter in part.encoder.named_parameters() if parameter.grad is not None}
    assert reached == set(expected)
    assert sum(one.numel() for one in part.encoder.parameters()) < sum(one.numel() for one in frozen.model.parameters()) or name == "points"


@pytest.mark.parametrize("name", ["points", "nvae"])
@pytest.mark.parametrize("kind", ["ppo", "recurrent_ppo"])
def test_the_first_minibatch_has_a_ratio_of_one_in_training_mode_too(kind, name, encoders) -> None:
    # 32 steps, one minibatch: its ratios are those before any update
    algorithm = algorithm_of(kind, encoders[name], batch_size=32)
    ratios: list[float] = []
    recorded = algorithm.logger.record

    def record(key: str, value: Any, *rest: Any, **options: Any) -> None:
        if key in ("train/approx_kl", "train/clip_fraction"):
            ratios.append(abs(float(value)))
        recorded(key, value, *rest, **options)

    algorithm.logger.record = record
    buffers = {key: value.clone() for key, value in learners(algorithm.policy)[0].encoder.named_buffers()}
    algorithm.learn(32)
    assert len(ratios) == 2
    assert max(ratios) < 1e-9
    after = dict(learners(algorithm.policy)[0].encoder.named_buffers())
    # running means among them: statistics are those of the frozen encoder, for ever
    assert all(torch.equal(value, after[key]) for key, value in buffers.items())
    assert name == "points" or batch_norms(learners(algorithm.policy)[0].encoder)


def test_what_learns_is_counted_by_hand(encoders) -> None:
    frozen = encoders["conv_vae"]
    of_encoder = sum(parameter.numel() for parameter in used_parameters(frozen.model).values())
    latents = frozen.latent_shape[0]
    layer = latents * 8 + 8
    # two networks of one layer of 8; three actions and one value
    assert learning_parameters(algorithm_of("ppo", frozen)) == of_encoder + 2 * layer + (8 * 3 + 3) + (8 + 1)
    # targets are not counted
    assert learning_parameters(algorithm_of("dqn", frozen)) == of_encoder + layer + (8 * 3 + 3)
    # an actor of two means and two deviations; two critics that see two actions, and one encoder between them; the entropy's coefficient
    critic = (latents + 2) * 8 + 8 + 8 + 1
    assert learning_parameters(algorithm_of("sac", frozen)) == 2 * of_encoder + layer + 2 * (8 * 2 + 2) + 2 * critic + 1


def test_used_parameters_are_those_whose_change_changes_a_reading(encoders) -> None:
    model = encoders["conv_vae"].model
    used = used_parameters(model, "mean")
    assert {name.partition(".")[0] for name in used} == {"encoder", "to_posterior"}
    # the model is left as it was: frozen, in evaluation
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert not model.training
    small = without_unused(make_encoder("debug"), "mean")
    assert sum(one.numel() for one in small.parameters()) == sum(one.numel() for one in used.values())


@pytest.mark.parametrize(
    ("preset", "why"),
    [("cwvae_debug", "has memory"), ("pca", "is computed, not trained")],
)
def test_an_encoder_that_cannot_learn_with_an_agent_is_refused_in_one_line(preset, why, tmp_path) -> None:
    model = make_encoder(preset, **({"frame_shape": [16, 16, 3], "latent_dim": 3} if preset == "pca" else {}))
    shape = (8, model.clip_length, *model.frame_shape) if model.initial_state(1) else (8, *model.frame_shape)
    actions = np.zeros((8, model.clip_length, model.action_size), np.float32) if model.action_size else None
    prepare(model, np.random.default_rng(0).integers(0, 256, shape, np.uint8), tmp_path, store=STORE, actions=actions)
    with pytest.raises(UserError, match=why):
        refuse_not_learning(open_encoder(tmp_path))


def test_pictures_of_another_size_are_refused(encoders) -> None:
    venv = DummyVecEnv([lambda: Pictures(36)])
    with pytest.raises(UserError, match=r"built for frames of \(64, 64, 3\), and the pictures here are \(36, 36, 3\)"):
        build_algorithm({"kind": "ppo", "n_envs": 1, **TINY["ppo"]}).make(venv, 0, "cpu", encoder=encoders["conv_vae"])


@pytest.mark.parametrize("name", ["conv_vae", "slots"])
@pytest.mark.parametrize("scale", ["global", "whiten"])
def test_latents_are_scaled_as_when_frozen(name, scale, encoders, tmp_path) -> None:
    model = encoders[name].model
    frames = np.random.default_rng(0).integers(0, 256, (40, *model.frame_shape), np.uint8)
    frozen = FrozenEncoder(prepare(model, frames, tmp_path, store=STORE), scale=scale)
    (part,) = learners(algorithm_of("ppo", frozen, set_policy="flat").policy)
    shown = torch.from_numpy(frozen.encode(frames[:5])[0]).flatten(1)
    seen = torch.from_numpy(frames[:5]).movedim(-1, 1).float() / 255
    torch.testing.assert_close(part(seen), shown, atol=1e-4, rtol=1e-3)
