"""A Clockwork VAE's memory, clock included, is every environment's own."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3.common.vec_env import DummyVecEnv

from encoders import EncoderArtifact, make_encoder
from encoders.scaling import ReadingStatistics
from foundation.errors import UserError
from wrappers import FrozenEncoder, LatentObservation, VecLatent

ENVIRONMENTS = 8
STEPS = 50


class LongerPictures:
    """Mixed into the environment of random pictures: episodes of 1 to 19 steps, over up to five ticks of the top level."""

    def reset(self, **options):
        observation, info = super().reset(**options)
        self.left = int(self.random.integers(1, 20))
        return observation, info


@pytest.fixture
def make_env(pictures_env):
    class Env(LongerPictures, pictures_env):
        pass

    return lambda seed: Env(seed, size=16)


@pytest.fixture
def frozen_cwvae():
    def make(**options):
        torch.manual_seed(0)
        shapes = {"frame_shape": [16, 16, 3], "encoder_kernels": [4, 4], "decoder_kernels": [6, 6]}
        model = make_encoder("cwvae_debug", **shapes, **options)
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, 0, 0.3)
        statistics = {name: ReadingStatistics(torch.zeros(shape), torch.ones(shape)) for name, shape in model.latents.items()}
        info = SimpleNamespace(frames_per_second=5.0, resize="squash", actions=None, scale="unit")
        return FrozenEncoder(EncoderArtifact(model=model, info=info, statistics=statistics), latents="levels")

    return make


@pytest.mark.parametrize("options", [{}, {"filter": "partial"}, {"filter": "bottom"}, {"action_size": 3}], ids=str)
def test_eight_environments_that_end_at_random_give_what_eight_single_wrappers_give(make_env, frozen_cwvae, options):
    frozen = frozen_cwvae(**options)
    venv = VecLatent(DummyVecEnv([lambda seed=seed: make_env(seed) for seed in range(ENVIRONMENTS)]), frozen)
    single = [LatentObservation(make_env(seed), frozen) for seed in range(ENVIRONMENTS)]
    together, apart = venv.reset(), [env.reset()[0] for env in single]
    actions, clocks, ended = np.random.default_rng(3), set(), 0
    for _ in range(STEPS):
        np.testing.assert_allclose(together, apart, rtol=1e-5, atol=1e-5)
        clocks.add(tuple(venv.encoder_state()["clock"].tolist()))
        chosen = actions.integers(0, 3, ENVIRONMENTS)
        together, _, dones, infos = venv.step(chosen)
        for row, env in enumerate(single):
            apart[row], _, terminated, truncated, _ = env.step(chosen[row])
            assert dones[row] == (terminated or truncated)
            if dones[row]:
                ended += 1
                np.testing.assert_allclose(infos[row]["terminal_observation"], apart[row], rtol=1e-5, atol=1e-5)
                apart[row], _ = env.reset()
    assert ended > ENVIRONMENTS
    assert any(len(set(clock)) == 4 for clock in clocks)


def test_latents_are_those_of_the_episode_filtered_as_a_whole(make_env, frozen_cwvae):
    frozen = frozen_cwvae(action_size=3)
    env, plain = LatentObservation(make_env(4), frozen), make_env(4)
    streamed, pictures, chosen, ended = [env.reset()[0]], [plain.reset()[0]], [], False
    while not ended:
        chosen.append(len(chosen) % 3)
        latent, _, ended, _, _ = env.step(chosen[-1])
        streamed.append(latent)
        pictures.append(plain.step(chosen[-1])[0])
    frames = torch.from_numpy(np.stack(pictures)).movedim(-1, 1)[None] / 255
    led_here = torch.cat([torch.zeros(1, 3), torch.eye(3)[chosen]])[None]
    with torch.no_grad():
        whole = frozen.model.encode_clip(frames, led_here, "levels")[0]
    assert len(streamed) > 4
    np.testing.assert_allclose(np.stack(streamed), whole, rtol=1e-5, atol=1e-5)


def test_the_readings_become_observations_of_their_size(make_env, frozen_cwvae):
    frozen = frozen_cwvae()
    assert frozen.has_memory
    assert LatentObservation(make_env(0), frozen).observation_space == spaces.Box(-np.inf, np.inf, (60,), np.float32)


@pytest.mark.parametrize("wrap", [LatentObservation, lambda env, frozen: VecLatent(DummyVecEnv([lambda: env]), frozen)])
@pytest.mark.parametrize(
    ("space", "said"),
    [
        (spaces.Discrete(4), r"trained with actions of 3 numbers.*Discrete\(4\)\) become vectors of 4 numbers; use an encoder"),
        (spaces.Box(-1, 1, (2, 2)), "vectors of 4 numbers"),
        (spaces.Dict({"attack": spaces.Discrete(2)}), "do not become one vector"),
    ],
    ids=["choices", "numbers", "dictionary"],
)
def test_an_encoder_of_other_actions_than_the_environment_s_is_refused_at_once(make_env, frozen_cwvae, wrap, space, said):
    env = make_env(0)
    env.action_space = space
    with pytest.raises(UserError, match=said):
        wrap(env, frozen_cwvae(action_size=3))


@pytest.mark.parametrize(
    ("space", "action"),
    [
        (spaces.Dict({"attack": spaces.Discrete(2)}), {"attack": 1}),
        (spaces.MultiDiscrete([3, 4]), np.array([2, 1])),
    ],
    ids=["dictionary", "several choices"],
)
def test_an_encoder_without_actions_goes_with_any_action_space(make_env, frozen_cwvae, space, action):
    class Acting(type(make_env(0))):
        action_space = space

        def step(self, action):
            return super().step(0)

    env, plain = LatentObservation(Acting(0, size=16), frozen_cwvae()), LatentObservation(make_env(0), frozen_cwvae())
    env.reset(seed=0)
    plain.reset(seed=0)
    np.testing.assert_array_equal(env.step(action)[0], plain.step(0)[0])
