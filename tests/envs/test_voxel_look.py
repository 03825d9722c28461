"""Palettes, daylight and weather change what a world looks like, and nothing else."""

import numpy as np
import pytest

import envs
from envs.voxel import blocks, kernels
from foundation.errors import UserError
from tests.envs.test_physics import GROUND, flat_world, put

LOOKS = [{"palette": name} for name in ("autumn", "dry", "frost", "violet", "varied")]
LOOKS += [{"daylight": value} for value in (0, 0.4, "varied")]
LOOKS += [{"weather": name} for name in ("rain", "fog", "varied")]
DEFAULT = {"palette": "default", "daylight": "default", "weather": "clear"}


def played(name, ticks=12, seed=4, **options):
    """Return an environment, and the steps of a few actions in it."""
    env = envs.make_env(name, **options)
    steps = [(*env.reset(seed=seed), 0.0)]
    for _ in range(ticks):
        observation, reward, _, _, info = env.step({"forward": 1, "sprint": 1, "attack": 1, "camera": [1.0, 8.0]})
        steps.append((observation, info, reward))
    return env, steps


@pytest.mark.parametrize("name", ["VoxelTreechop-v0", "VoxelRecall-v0"])
def test_the_defaults_change_nothing(name):
    (_, plain), (_, told) = played(name), played(name, **DEFAULT)
    assert all(np.array_equal(one[0]["pov"], two[0]["pov"]) for one, two in zip(plain, told, strict=True))


@pytest.mark.parametrize("look", LOOKS, ids=str)
def test_a_look_changes_the_picture_and_neither_world_nor_game(look):
    # this world's own weather, where that varies, is rain
    (env, plain), (other, changed) = played("VoxelForage-v0", seed=1), played("VoxelForage-v0", seed=1, **look)
    assert np.abs(plain[-1][0]["pov"].astype(int) - changed[-1][0]["pov"]).mean() > 3
    for one, two in zip(plain, changed, strict=True):
        assert one[2] == two[2]
        assert one[1]["state"] == two[1]["state"]
    one, two = env.save_state(), other.save_state()
    assert all(np.array_equal(one[key], two[key]) for key in one)
    if "weather" not in look:
        assert np.array_equal(env.segmentation(), other.segmentation())


@pytest.mark.parametrize("look", [{"palette": "varied", "daylight": "varied", "weather": "varied"}, {"weather": "rain"}], ids=str)
def test_a_look_is_the_same_for_the_same_world_and_comes_back_with_a_saved_state(look):
    (env, first), (_, second) = played("VoxelTreechop-v0", **look), played("VoxelTreechop-v0", **look)
    assert all(np.array_equal(one[0]["pov"], two[0]["pov"]) for one, two in zip(first, second, strict=True))
    restored = envs.make_env("VoxelTreechop-v0", **look)
    assert np.array_equal(restored.restore_state(env.save_state())[0]["pov"], first[-1][0]["pov"])
    assert np.array_equal(restored.step({})[0]["pov"], env.step({})[0]["pov"])
    assert np.array_equal(restored.reset()[0]["pov"], env.reset()[0]["pov"])


def test_varied_worlds_differ():
    env = envs.make_env("VoxelTreechop-v0", palette="varied", daylight="varied", weather="varied")
    lights, rains = [], set()
    for seed in range(24):
        env.reset(seed=seed)
        lights.append([*env._light.tint, *env._light.sky[: kernels.DRIFT]])
        rains.add((env._light.rains, env._light.sky[kernels.FOG_TO]))
    assert len(rains) == 3
    assert (np.std(lights, axis=0)[:4] > 0.1).all()


def test_less_daylight_is_darker_and_none_is_black():
    means = [played("VoxelNavigate-v0", 1, daylight=value)[1][-1][0]["pov"].mean() for value in (0.0, 0.3, 0.6, 1.0)]
    assert means[0] == 0
    assert means == sorted(means)


def test_fog_hides_what_is_far_and_it_does_not_rain_under_a_roof():
    (clear, _), (fog, _) = played("VoxelNavigate-v0", 1), played("VoxelNavigate-v0", 1, weather="fog")
    sky = [(env.segmentation() == blocks.SKY).mean() for env in (clear, fog)]
    assert sky[1] > sky[0]
    env = envs.make_env("VoxelFindCave-v0", weather="rain")
    env.reset(seed=0)
    wet = env.step({})[0]["pov"]
    assert not np.array_equal(wet, env.step({})[0]["pov"])
    env._player[:3] = env._world.places[1] + (0.5, 1, 0.5)
    dry = env.step({})[0]["pov"]
    assert np.array_equal(dry, env.step({})[0]["pov"])


def walked(ticks=260, **look):
    """Yield what is seen nearest, and a picture with it and one in which all logs are stone, on a walk through a wood."""
    env = envs.make_env("VoxelTreechop-v0", **look)
    _, info = env.reset(seed=3)
    logs = env._world.logs
    for tick in range(ticks):
        observation, _, _, _, info = env.step({"forward": 1, "sprint": 1, "jump": 1, "camera": [0.0, 5.0]})
        if tick % 5 == 0:
            state, cells = env.save_state(), env._world.cells
            cells[logs[:, 0], logs[:, 2], logs[:, 1]] = blocks.STONE
            yield info["seen_distance"], observation["pov"], env._draw()
            env.restore_state(state)


def test_nothing_is_seen_without_light():
    seen = [distance for distance, picture, _ in walked(daylight=0.0) if not picture.any()]
    assert len(seen) > 40
    assert np.isinf(seen).all()
    assert np.isfinite([distance for distance, *_ in walked(daylight=0.05)]).any()


@pytest.mark.parametrize(("ahead", "aside", "hidden"), [(10, 0, False), (20, 0, False), (22, 14, False), (26, 0, True), (26, 14, True)])
def test_a_log_that_fog_leaves_no_trace_of_is_not_seen(ahead, aside, hidden):
    without, env = flat_world(weather="fog"), flat_world(weather="fog")
    put(env, 64 + aside, GROUND + 2, 64 + ahead, blocks.OAK_LOG)
    picture, *_, info = env.step({})
    assert (np.abs(picture["pov"].astype(int) - without.step({})[0]["pov"]).max() <= 1) == hidden
    assert np.isinf(info["seen_distance"]) == hidden
    # it is the fog: in clear weather the same log is seen
    clear = flat_world()
    put(clear, 64 + aside, GROUND + 2, 64 + ahead, blocks.OAK_LOG)
    assert np.isfinite(clear.step({})[4]["seen_distance"])


@pytest.mark.parametrize(("weather", "end"), [("fog", 26), ("rain", 48)])
def test_what_weather_hides_is_not_seen(weather, end):
    views = list(walked(weather=weather))
    seen = [view for view in views if np.isfinite(view[0])]
    # fog thickens with the depth, and the corner of a picture is as deep as its middle is far
    assert max(distance for distance, *_ in seen) < end * 1.6
    # every time, some pixel shows it
    assert all((picture != without).any() for _, picture, without in seen)
    assert len(seen) > 10
    # and what pixels plainly show is seen
    plain = [distance for distance, picture, without in views if np.abs(picture.astype(int) - without).max() > 2]
    assert np.isfinite(plain).all()


@pytest.mark.parametrize(
    ("look", "message"),
    [
        ({"palette": "autum"}, "did you mean 'autumn'"),
        ({"weather": "rainy"}, "did you mean 'rain'"),
        ({"daylight": 1.5}, "daylight=1.5: must be a number from 0 to 1"),
        ({"daylight": True}, "daylight=True"),
        ({"daylight": "vary"}, "did you mean 'varied'"),
        ({"palette": 3}, "palette='3'"),
        ({"daylight": float("nan")}, "daylight=nan"),
    ],
)
def test_a_wrong_look_is_named(look, message):
    with pytest.raises(UserError, match=message):
        envs.make_env("VoxelTreechop-v0", **look)
