"""At a stride, a clip's actions are what happened in all the ticks between its frames; the right values come from loops over ticks."""

import itertools

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

import frames
from foundation.ticks import join_ticks, joining
from frames import FrameBatches, in_order, sample_sequences
from frames.loading import hold
from wrappers import FrameSkip

TICKS_A_STEP = 4


def actions(ticks, seed):
    random = np.random.default_rng(seed)
    return {
        "action.attack": (random.random(ticks) < 0.2).astype(np.uint8),
        "action.camera": random.normal(size=(ticks, 2)).astype(np.float32),
        "action.hotbar": random.integers(0, 4, ticks),
        "action.place": random.choice(["none", "dirt", "none", "torch"], ticks),
        "action.vector": random.normal(size=(ticks, 3)).astype(np.float32),
    }


def joined_by_hand(recorded, texts, first, last):
    """The numbers for the ticks from `first` to before `last`; zeros where there is none."""
    if first == last:
        return np.zeros(8)
    attack = max(int(recorded["action.attack"][tick]) for tick in range(first, last))
    camera = sum(recorded["action.camera"][tick].astype(float) for tick in range(first, last))
    hotbar = next((int(slot) for slot in recorded["action.hotbar"][first:last][::-1] if slot), 0)
    place = next((text for text in recorded["action.place"][first:last][::-1] if text != "none"), "none")
    vector = sum(recorded["action.vector"][tick].astype(float) for tick in range(first, last)) / (last - first)
    return np.array([attack, *camera, hotbar, texts.index(place), *vector])


@pytest.fixture
def store(noise, write_store):
    lengths = {"a": 40, "b": 7, "c": 31}
    arrays = {name: actions(length - 1, seed) for seed, (name, length) in enumerate(lengths.items())}
    store = write_store({name: noise(length, length) for name, length in lengths.items()}, arrays, split="train")
    return store, [arrays[episode.name] for episode in store.episodes]


@pytest.mark.parametrize("stride", [1, 2, 3, 5])
def test_action_windows_join_all_ticks_on_the_way(store, stride):
    store, recorded = store
    texts = store.action_texts["action.place"]
    starts = store.starts("train", 3, stride)
    windows = store.action_windows(starts, 3, stride)
    for start, window in zip(starts, windows, strict=True):
        episode = store.episode_at(start)
        own = recorded[store.episodes.index(episode)]
        for step, numbers in enumerate(window):
            tick = start - episode.first + step * stride
            assert numbers == pytest.approx(joined_by_hand(own, texts, max(0, tick - stride), tick), abs=1e-6)


def test_batches_in_any_way_have_the_same_actions(store):
    store, _ = store
    shuffled = FrameBatches(store, "train", 8, clip_length=3, seed=1, stride=4)
    plan = shuffled.plan()
    assert np.array_equal(shuffled.read(plan).actions, store.action_windows(plan.parts[0][1], 3, 4))
    batches = FrameBatches(store, "train", 8, clip_length=3, seed=1, stride=4)
    with hold(FrameBatches(store, "train", 8, clip_length=3, seed=1, stride=4), "cpu") as held:
        for expected, found in itertools.islice(zip(batches, held, strict=False), 5):
            assert np.array_equal(found.actions.numpy(), expected.actions)
    starts = frames.side_by_side(store, "train", 3, 4)
    ordered = np.concatenate([batch.actions for batch in in_order(store, "train", 2, 3, stride=4)])
    assert np.array_equal(ordered, store.action_windows(starts, 3, 4))
    sequences = sample_sequences(store, "train", 16, seed=0, stride=4)
    # nothing is lost: over a whole recording the turns add up to what they were
    turned = store.array(store.episodes[0], "action.camera")[: 4 * (sequences.actions.shape[1] - 1)].sum(axis=0)
    assert np.allclose(sequences.actions[0, 1:, 1:3].sum(axis=0), turned, atol=1e-5)


class Turned(gymnasium.Env):
    """Draws what it has been told so far, gives a reward a tick, and keeps every action."""

    metadata = {"render_fps": 20}
    observation_space = spaces.Box(0, 255, (8, 8, 3), np.uint8)
    action_space = spaces.Dict(
        {
            "camera": spaces.Box(-180, 180, (2,), np.float32),
            "attack": spaces.Discrete(2),
            "craft": spaces.Text(10),
            "vector": spaces.Box(-1, 1, (3,), np.float32),
        }
    )

    def __init__(self, kept):
        self.kept, self.ticks = kept, 0

    def reset(self, *, seed=None, options=None):
        self.ticks = 0
        return self.draw(), {}

    def step(self, action):
        self.ticks += 1
        self.kept.append(action)
        return self.draw(), 0.5 * self.ticks, False, False, {}

    def draw(self):
        return np.random.default_rng(self.ticks).integers(0, 256, (8, 8, 3), np.uint8)


class Playing:
    """Plays given actions, one after the other."""

    name = "given"

    def __init__(self, given):
        self.given = given

    def reset(self, seed):
        self.left = iter(self.given)

    def __call__(self, observation, info):
        return next(self.left)


def test_a_frame_skip_and_a_stride_mean_the_same_action(tmp_path):
    """What is recorded through a frame skip is what the ticks that it made, recorded one by one, are at that stride."""
    random = np.random.default_rng(0)
    given = [
        {
            "camera": random.normal(size=2).astype(np.float32),
            "attack": np.int64(random.integers(2)),
            "craft": ["none", "planks", "stick"][number % 3],
            "vector": random.uniform(-1, 1, 3).astype(np.float32),
        }
        for number in range(9)
    ]
    ticks = []
    steps, every = 10, 9 * TICKS_A_STEP + 1
    skipped = frames.record(lambda: FrameSkip(Turned(ticks), TICKS_A_STEP), Playing(given), tmp_path / "a", frames=steps, frame_size=(8, 8))
    recorded = frames.record(lambda: Turned([]), Playing(list(ticks)), tmp_path / "b", frames=every, frame_size=(8, 8))
    one, other = frames.FrameStore(skipped.path), frames.FrameStore(recorded.path)
    assert len(ticks) == every - 1
    assert np.array_equal(one.windows([0], steps), other.windows([0], steps, TICKS_A_STEP))
    assert one.action_names == other.action_names
    assert one.action_texts == other.action_texts
    assert np.allclose(one.action_windows([0], steps), other.action_windows([0], steps, TICKS_A_STEP), atol=1e-6)
    rewards = other.array(0, "reward")
    joined = join_ticks(rewards, np.arange(0, every - 1, TICKS_A_STEP), joining("reward", rewards.dtype))
    assert np.allclose(joined, one.array(0, "reward"))
