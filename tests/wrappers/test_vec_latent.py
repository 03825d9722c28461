import numpy as np
import pytest
from gymnasium import spaces
from stable_baselines3.common.vec_env import DummyVecEnv

from foundation.errors import UserError
from wrappers import LatentObservation, VecLatent

ENVIRONMENTS = 8


def vec_env(make, **options):
    return DummyVecEnv([lambda seed=seed: make(seed, **options) for seed in range(ENVIRONMENTS)])


@pytest.mark.parametrize("dictionary", [False, True])
def test_eight_environments_give_what_eight_single_wrappers_give(pictures_env, freeze, dictionary):
    frozen = freeze(latents="all", mean=0.1, deviation=2.0)
    venv = VecLatent(vec_env(pictures_env, dictionary=dictionary), frozen)
    single = [LatentObservation(pictures_env(seed, dictionary=dictionary), frozen) for seed in range(ENVIRONMENTS)]
    together = venv.reset()
    apart = [env.reset()[0] for env in single]
    actions = np.random.default_rng(3)
    ended = 0
    for _ in range(40):
        assert_rows_equal(together, apart)
        chosen = actions.integers(0, 3, ENVIRONMENTS)
        together, _, dones, infos = venv.step(chosen)
        for row, env in enumerate(single):
            apart[row], _, terminated, truncated, _ = env.step(chosen[row])
            assert dones[row] == (terminated or truncated)
            if dones[row]:
                ended += 1
                assert_equal(infos[row]["terminal_observation"], apart[row])
                apart[row], _ = env.reset()
    assert ended > ENVIRONMENTS


def test_streaming_gives_what_encoding_the_whole_episode_gives(pictures_env, freeze):
    class Long(pictures_env):
        def reset(self, **options):
            observation, info = super().reset(**options)
            self.left = 12
            return observation, info

    env, plain, chosen = LatentObservation(Long(0), freeze(latents="all")), Long(0), [2, 0, 1] * 4
    streamed = [env.reset()[0], *(env.step(action)[0] for action in chosen)]
    pictures = np.stack([plain.reset()[0], *(plain.step(action)[0] for action in chosen)])
    before = np.concatenate([np.zeros((1, 3)), np.eye(3)[chosen]])
    seen = np.concatenate([pictures.mean((1, 2)) / 255, before], axis=1)
    whole = [sum(0.5 ** (t - s) * seen[s] for s in range(t + 1)) for t in range(len(seen))]
    expected = [[*memory, t + 1] for t, memory in enumerate(whole)]
    np.testing.assert_allclose(np.stack(streamed), expected, rtol=1e-5, atol=1e-6)


def test_spaces_hold_latents_in_place_of_the_picture(pictures_env, freeze):
    assert VecLatent(vec_env(pictures_env), freeze()).observation_space == spaces.Box(-np.inf, np.inf, (3,), np.float32)
    dictionary = VecLatent(vec_env(pictures_env, dictionary=True), freeze(latents="all")).observation_space
    assert dictionary["latent"].shape == (7,)
    assert set(dictionary.spaces) == {"latent", "number"}


def test_the_memory_is_kept_and_restored(pictures_env, freeze):
    frozen = freeze(latents="all")
    venv = VecLatent(vec_env(pictures_env), frozen)
    venv.reset()
    venv.step(np.ones(ENVIRONMENTS, int))
    state = {name: tensor.clone() for name, tensor in venv.encoder_state().items()}
    again = VecLatent(vec_env(pictures_env), frozen)
    again.reset()
    again.restore_encoder_state(state)
    assert (again.encoder_state()["count"] == state["count"]).all()


def test_a_model_with_memory_is_refused_at_another_frame_rate(pictures_env, freeze):
    with pytest.raises(UserError, match=r"trained at 20.0 frames/s, but the environment is stepped at 5 frames/s"):
        VecLatent(vec_env(pictures_env), freeze(frames_per_second=20.0))
    VecLatent(vec_env(pictures_env), freeze(frames_per_second=20.0), any_rate=True)
    VecLatent(vec_env(pictures_env), freeze(memory=False, frames_per_second=20.0))


def test_an_observation_without_a_picture_is_refused(pictures_env, freeze):
    env = pictures_env()
    env.observation_space = spaces.Box(-1, 1, (4,), np.float32)
    with pytest.raises(UserError, match="is or holds an RGB picture"):
        LatentObservation(env, freeze())


def assert_rows_equal(together, apart):
    for row, one in enumerate(apart):
        assert_equal({key: value[row] for key, value in together.items()} if isinstance(together, dict) else together[row], one)


def assert_equal(one, other):
    if not isinstance(one, dict):
        one, other = {"latent": one}, {"latent": other}
    assert set(one) == set(other)
    for key in one:
        np.testing.assert_allclose(one[key], other[key], rtol=1e-5, atol=1e-6)
