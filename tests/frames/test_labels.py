"""Labels against plain loops over small recordings, and against the published example."""

import json
from pathlib import Path

import numpy as np
import pytest

from foundation.errors import UserError
from frames import FrameBatches, FrameStore, Labels, action_columns_described, build_store, in_order
from frames.labels import check_values, state_names
from frames.loading import hold, prefetch
from frames.rewards import reward_counts
from frames.storage.writer import store_writer

LENGTHS = (40, 9, 25)
GOLDEN = Path(__file__).resolve().parents[2].parent / "shared" / "golden" / "critic" / "critic_scalars.json"


def write(path, rewards, sources=None, rates=None, splits=None, pictures=None, **beside):
    """Write a store of episodes with these rewards (T,) and frames that are all different; `beside` has a list of arrays by name."""
    with store_writer(path, {"source": "a test"}, (8, 8, 3)) as writer:
        for number, given in enumerate(rewards):
            length = len(given) + 1
            drawn = np.random.default_rng(number).integers(0, 256, (length, 8, 8, 3), np.uint8)
            frames = drawn if pictures is None else pictures
            arrays = {"reward": np.array(given, np.float64), **{name: values[number] for name, values in beside.items()}}
            source = sources[number] if sources else "a person"
            rate = rates[number] if rates else 20.0
            writer.add(f"{number}", frames, source=source, frames_per_second=rate, arrays=lambda arrays=arrays: arrays)
        names = [f"{number}" for number in range(len(rewards))]
        given = dict(zip(names, splits or ["train"] * len(names), strict=True))
        writer.finish(lambda _: given, {"resize": "squash", "left_out": []})
    return FrameStore(path)


@pytest.fixture
def rewards():
    random = np.random.default_rng(3)
    return [np.where(random.random(length - 1) < 0.1, random.integers(-2, 4, length - 1), 0).astype(float) for length in LENGTHS]


@pytest.fixture
def store(tmp_path, rewards):
    random = np.random.default_rng(5)
    steps = [len(given) for given in rewards]
    return write(
        tmp_path / "store",
        rewards,
        ["VoxelTreechop-v0, scripted", "VoxelTreechop-v0, random", "people/one.mp4"],
        **{
            "action.attack": [random.integers(0, 2, count) for count in steps],
            "action.camera": [random.normal(0, 5, (count, 2)) for count in steps],
            "observation.state.b": [random.normal(size=count + 1).astype(np.float32) for count in steps],
            "observation.state.a": [random.normal(size=count + 1).astype(np.float32) for count in steps],
            "observation.segmentation": [random.integers(0, 20, (count + 1, 8, 8), np.uint8) for count in steps],
        },
    )


def of_all(store, name, **options):
    return Labels(store, {name: options}).at(store.indices("all"))[name][:, 0]


def episode_values(store, name, number, **options):
    episode = store.episodes[number]
    return of_all(store, name, **options)[episode.first : episode.first + episode.length]


def slow_value(rewards, gamma, binarised, capped, frame):
    """What is to come after one frame, straight from the definition."""
    if frame == len(rewards):
        return 0.0
    reward = float(rewards[frame] > 0) if binarised else rewards[frame]
    total = reward + gamma * slow_value(rewards, gamma, binarised, capped, frame + 1)
    return min(1.0, total) if capped else total


@pytest.mark.parametrize(
    ("gamma", "binarised", "capped"), [(0.98, True, True), (0.9, False, True), (0.5, False, False), (1.0, True, False)]
)
def test_the_reward_to_come_is_what_its_definition_says(store, rewards, gamma, binarised, capped):
    for number, given in enumerate(rewards):
        found = episode_values(store, "reward_to_come", number, gamma=gamma, binarised=binarised, capped=capped)
        expected = [slow_value(given, gamma, binarised, capped, frame) for frame in range(len(given) + 1)]
        np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_binarised_and_capped_it_is_gamma_to_the_steps_before_the_next_reward(tmp_path):
    store = write(tmp_path / "store", [[0, 0, 2, 0, 1, 0, 0]])
    found = of_all(store, "reward_to_come", gamma=0.9)
    np.testing.assert_allclose(found, [0.81, 0.9, 1, 0.9, 1, 0, 0, 0], rtol=1e-6)
    np.testing.assert_allclose(of_all(store, "time_to_reward") * 20, [3, 2, 1, 2, 1, np.inf, np.inf, np.inf], rtol=1e-5)


def test_frames_near_a_reward_are_left_out_after_discounting(tmp_path):
    store = write(tmp_path / "store", [[0, 0, 0, 1, 0, 0, 0, 0, 1, 0]])
    found = of_all(store, "reward_to_come", gamma=0.5, leave_out_before=1, leave_out_after=2)
    nan = np.nan
    np.testing.assert_allclose(found, [0.125, 0.25, 0.5, nan, nan, nan, 0.25, 0.5, nan, nan, nan], rtol=1e-6)
    closed = of_all(store, "reward_to_come", gamma=0.5, leave_out_after=2, reference_gaps=True)
    # frames 4 and 5 are gone: frame 3 is worth what its reward is, frame 6 begins anew
    np.testing.assert_allclose(closed, [0.125, 0.25, 0.5, 1, nan, nan, 0.25, 0.5, 1, nan, nan], rtol=1e-6)
    # without a reward at frame 8 itself nothing would be seen across a gap; here frame 2's next is frame 6's
    gaps = of_all(store, "reward_to_come", gamma=0.5, leave_out_before=1, leave_out_after=2, reference_gaps=True)
    np.testing.assert_allclose(gaps, [0, 0, 0, nan, nan, nan, 0, 0, nan, nan, nan], rtol=1e-6)


def test_the_published_labels_are_found_again(tmp_path):
    if not GOLDEN.exists():
        pytest.skip("needs ../shared/golden/critic/critic_scalars.json")
    example = json.loads(GOLDEN.read_text())["labels"]
    store = write(tmp_path / "store", [example["reward"]])
    for gamma, expected in example["labels"].items():
        found = of_all(store, "reward_to_come", gamma=float(gamma), leave_out_after=35, reference_gaps=True)
        assert np.flatnonzero(~np.isnan(found)).tolist() == example["kept_frames"]
        np.testing.assert_allclose(found[example["kept_frames"]], expected, rtol=1e-6)


def test_rewarded_within_a_time_is_unknown_where_the_recording_ends_before(tmp_path):
    store = write(tmp_path / "store", [[0, 0, 1, 0, 0, 0, 1, 0, 0, 0], [0] * 6], rates=[20.0, 10.0])
    found = of_all(store, "rewarded_within", seconds=0.1)
    nan = np.nan
    np.testing.assert_array_equal(found[:11], [0, 1, 1, 0, 0, 1, 1, 0, 0, nan, nan])
    # a second's tenth is one step at 10 frames/s
    np.testing.assert_array_equal(found[11:], [0, 0, 0, 0, 0, 0, nan])


@pytest.mark.parametrize(("players", "left_out"), [("all", ()), ("acting", (1,)), ("scripted", (1, 2)), ("random, scripted", (2,))])
def test_next_actions_are_those_recorded_after_the_frame(store, players, left_out):
    found = of_all(store, "next_actions", count=3, players=players)
    assert found.shape == (sum(LENGTHS), 3, 3)
    for number, episode in enumerate(store.episodes):
        recorded = np.column_stack([store.array(episode, "action.attack"), store.array(episode, "action.camera")])
        for frame in range(episode.length):
            for step in range(3):
                known = frame + step < episode.length - 1 and number not in left_out
                expected = recorded[frame + step] if known else np.full(3, np.nan)
                np.testing.assert_allclose(found[episode.first + frame, step], expected, rtol=1e-6)


def test_frames_ahead_are_later_frames_or_the_last(store):
    labels = Labels(store, {"frames_ahead": {"ahead": 4}}).at(store.indices("all"))
    for episode in store.episodes:
        for frame in range(episode.first, episode.first + episode.length):
            last = episode.first + episode.length - 1
            assert np.array_equal(labels["frames_ahead"][frame, 0], store.frames([min(frame + 4, last)])[0])
            assert labels["frames_ahead_known"][frame, 0] == (frame + 4 <= last)


def test_states_and_segmentations_are_what_was_recorded(store):
    assert state_names(store) == ["a", "b"]
    states, kinds = of_all(store, "state"), of_all(store, "segmentation")
    assert states.dtype == np.float32
    assert kinds.dtype == np.uint8
    for episode in store.episodes:
        part = slice(episode.first, episode.first + episode.length)
        np.testing.assert_array_equal(states[part, 0], store.array(episode, "observation.state.a"))
        np.testing.assert_array_equal(states[part, 1], store.array(episode, "observation.state.b"))
        np.testing.assert_array_equal(kinds[part], store.array(episode, "observation.segmentation"))


def test_clips_have_the_labels_of_their_frames_at_any_stride(store):
    wanted = {name: {} for name in ("reward_to_come", "next_actions", "frames_ahead", "state", "segmentation")}
    labels = Labels(store, wanted)
    single = labels.at(store.indices("all"))
    starts = store.starts("all", 3, 2)[::4]
    for name, values in labels.at(starts, 3, 2).items():
        np.testing.assert_array_equal(values, single[name][starts[:, None] + [0, 2, 4], 0])


def test_columns_of_actions_are_keys_or_numbers(store):
    attack, *camera = action_columns_described(store)
    assert attack == ("action.attack", "key", 1.0)
    assert [column.name for column in camera] == ["action.camera[0]", "action.camera[1]"]
    recorded = np.concatenate([store.array(episode, "action.camera") for episode in store.episodes])
    np.testing.assert_allclose([column.scale for column in camera], recorded.std(0), rtol=1e-5)
    acting = np.concatenate([store.array(store.episodes[number], "action.camera") for number in (0, 2)])
    found = action_columns_described(store, "acting")[1:]
    np.testing.assert_allclose([column.scale for column in found], acting.std(0), rtol=1e-5)


def test_the_kind_of_a_column_is_that_of_all_values_and_its_scale_that_of_training(tmp_path):
    random = np.random.default_rng(0)
    place, turns = random.integers(0, 2, 39), random.normal(0, 5, (39, 2))
    steps = [slice(20), slice(20, 39)]
    held_out_place, held_out_turns = np.where(np.arange(19) == 7, 3, place[20:]), turns[20:] * 40
    store = write(
        tmp_path / "store",
        [np.zeros(20), np.zeros(19)],
        splits=["train", "val"],
        **{
            "action.attack": [place[part] for part in steps],
            "action.camera": [turns[:20], held_out_turns],
            "action.place": [place[:20], held_out_place],
            "action.still": [np.full(20, 0.1), np.full(19, 0.3)],
        },
    )
    attack, *camera, placed, still = action_columns_described(store)
    assert attack == ("action.attack", "key", 1.0)
    np.testing.assert_allclose([column.scale for column in camera], turns[:20].std(0), rtol=1e-5)
    # a 3 in held-out recordings only: cross-entropy of a target of 3 has no lower bound
    assert (placed.kind, placed.scale) == ("number", pytest.approx(place[:20].std()))
    assert still == ("action.still", "number", 1.0)


def test_one_value_among_very_many_makes_a_column_no_key(tmp_path):
    steps = 100_300
    places = np.random.default_rng(0).integers(0, 2, steps)
    unseen = np.setdiff1d(np.arange(steps), np.linspace(0, steps - 1, 100_000).round().astype(int))
    places[unseen[len(unseen) // 2]] = 7
    store = write(tmp_path / "store", [np.zeros(steps)], pictures=np.zeros((steps + 1, 8, 8, 3), np.uint8), **{"action.craft": [places]})
    (found,) = action_columns_described(store)
    assert (found.kind, found.scale) == ("number", pytest.approx(places.std(), rel=1e-6))


@pytest.mark.parametrize("clip_length", [1, 4])
@pytest.mark.parametrize("ahead", [prefetch, lambda batches: hold(batches, "cpu")])
def test_labels_come_with_the_batches_that_are_read_ahead_or_held(store, clip_length, ahead):
    wanted = {"reward_to_come": {}, "next_actions": {"count": 2}, "frames_ahead": {"ahead": 3}, "segmentation": {}}

    def drawn():
        return FrameBatches(store, "train", 8, clip_length, seed=2, targets=wanted)

    labels, plain = Labels(store, wanted), drawn()
    with ahead(drawn()) as batches:
        for _ in range(15):
            plan = plain.plan()
            expected, found = plain.read(plan), next(batches)
            assert np.array_equal(found.frames, expected.frames)
            own = labels.at(plan.parts[0][1], clip_length)
            assert found.targets.keys() == own.keys()
            for name, values in own.items():
                np.testing.assert_array_equal(expected.targets[name], values)
                np.testing.assert_array_equal(found.targets[name].numpy(), values)


def test_held_out_batches_have_labels_in_order(store):
    values = np.concatenate([batch.targets["reward_to_come"] for batch in in_order(store, "train", 7, targets={"reward_to_come": {}})])
    np.testing.assert_array_equal(values[:, 0], of_all(store, "reward_to_come"))
    assert next(in_order(store, "train", 7)).targets == {}


def test_mirrored_frames_have_mirrored_pictures_and_the_same_value(store):
    wanted = {"segmentation": {}, "frames_ahead": {}, "reward_to_come": {}}
    mirrored = FrameBatches(store, "train", 8, flip=True, targets=wanted)
    labels = Labels(store, wanted)
    for _ in range(5):
        plan = mirrored.plan()
        found, own = mirrored.read(plan).targets, labels.at(plan.parts[0][1])
        assert plan.flipped is not None
        assert plan.flipped.any()
        for row, flipped in enumerate(plan.flipped):
            for name in ("segmentation", "frames_ahead"):
                assert np.array_equal(found[name][row], own[name][row, :, :, ::-1] if flipped else own[name][row])
        np.testing.assert_array_equal(found["reward_to_come"], own["reward_to_come"])
    for sided in ("next_actions", "state"):
        with pytest.raises(UserError, match=f"'{sided}' would be wrong beside a mirrored frame; leave out flip"):
            FrameBatches(store, "train", 8, flip=True, targets={sided: {}})


def test_a_position_saved_without_labels_goes_on_and_one_with_others_does_not(store):
    plain = FrameBatches(store, "train", 8)
    next(plain)
    assert "targets" not in plain.state_dict()
    valued = FrameBatches(store, "train", 8, targets={"reward_to_come": {}})
    saved = valued.state_dict()
    FrameBatches(store, "train", 8, targets={"reward_to_come": {"gamma": 0.98}}).load_state_dict(json.loads(json.dumps(saved)))
    with pytest.raises(UserError, match="targets was"):
        FrameBatches(store, "train", 8, targets={"reward_to_come": {"gamma": 0.9}}).load_state_dict(saved)


@pytest.mark.parametrize(
    ("wanted", "told"),
    [
        ({"reward_to_com": {}}, r"no label 'reward_to_com': did you mean 'reward_to_come'\?"),
        ({"reward_to_come": {"gama": 0.9}}, r"'reward_to_come' has no option 'gama': did you mean 'gamma'\?"),
        ({"reward_to_come": {"gamma": 1.5}}, "gamma=1.5 must be greater than 0 and at most 1"),
        ({"reward_to_come": {"gamma": "high"}}, "gamma='high' must be a float"),
        ({"reward_to_come": {"leave_out_after": -1}}, "leave_out_after=-1 must be 0 frames or more"),
        ({"next_actions": {"count": 0}}, "count=0 must be 1 step or more"),
        ({"next_actions": {"players": "human"}}, "no 'human' acts in it; its players: random, scripted"),
        ({"next_actions": {"players": "scripted,"}}, "players='scripted,' must be 'acting', 'all', or names with commas between"),
        ({"frames_ahead": {"ahead": True}}, "ahead=True must be a int"),
        ({"rewarded_within": {"seconds": 0.0}}, "seconds=0.0 must be a number greater than 0"),
    ],
)
def test_what_is_no_label_is_told_in_one_line(store, wanted, told):
    with pytest.raises(UserError, match=told):
        Labels(store, wanted)


def test_what_a_store_lacks_is_told_in_one_line(write_store, noise, tmp_path):
    bare = write_store({"a": noise(20)}, path=tmp_path / "bare")
    for name, told in [
        ("reward_to_come", "has no rewards"),
        ("time_to_reward", "has no rewards"),
        ("rewarded_within", "has no rewards"),
        ("next_actions", "has no actions that all of its ordered recordings share"),
        ("state", "has no state beside its frames"),
        ("segmentation", "not every recording has a segmentation of its frames"),
    ]:
        with pytest.raises(UserError, match=told) as error:
            Labels(bare, {name: {}})
        assert "\n" not in str(error.value)
    assert action_columns_described(bare) == []
    assert state_names(bare) == []


def test_rewards_that_say_nothing_are_refused(tmp_path):
    never = write(tmp_path / "never", [[0, -1, 0]])
    with pytest.raises(UserError, match="none of its 3 rewards is greater than 0"):
        Labels(never, {"reward_to_come": {}})
    always = write(tmp_path / "always", [[1, 2], [1, 1]])
    with pytest.raises(UserError, match=r"all of its 4 rewards are greater than 0, .*binarised=False"):
        Labels(always, {"reward_to_come": {}})
    as_they_are = {"binarised": False, "capped": False, "gamma": 0.5}
    assert of_all(always, "reward_to_come", **as_they_are).tolist() == [2, 2, 0, 1.5, 1, 0]
    assert of_all(never, "reward_to_come", **as_they_are).tolist() == [-0.5, -1, 0, 0]


def test_only_the_random_player_is_nobody_to_learn_from(tmp_path):
    acted = {"action.attack": [np.zeros(4, np.int64)]}
    store = write(tmp_path / "store", [[0, 1, 0, 0]], ["VoxelTreechop-v0, random"], **acted)
    with pytest.raises(UserError, match="nobody but the random player acts in it; record another player, or ask for players='all'"):
        Labels(store, {"next_actions": {}})


def test_too_few_frames_of_high_or_low_value_are_told_with_their_counts(store, rewards):
    values = of_all(store, "reward_to_come")
    above, below = int((values > 0.7).sum()), int((values < 0.3).sum())
    assert check_values(store, "train", least=1) == (above, below)
    with pytest.raises(
        UserError, match=f"{above} frames of split 'train' have a value above 0.7 and {below} one below 0.3, and 500 of each"
    ):
        check_values(store, "train")
    # with one threshold every frame whose value is known is of one kind or the other
    known = int(np.isfinite(values).sum())
    assert sum(check_values(store, "train", high=0.0, low=0.0, least=0)) == known
    counts = reward_counts(store)
    assert (counts.steps, counts.rewarded) == (sum(LENGTHS) - 3, sum(int((given > 0).sum()) for given in rewards))


def test_pictures_without_order_have_no_labels(write_store, noise):
    arrays = {"a": {"reward": np.array([0.0, 1.0, 0.0, 0.0])}}
    store = write_store({"a": noise(5), "b": noise(3, 1)}, arrays, unordered=["b"])
    values = of_all(store, "reward_to_come", gamma=0.5)
    np.testing.assert_allclose(values, [0.5, 1, 0, 0, 0, np.nan, np.nan, np.nan])
    ahead = Labels(store, {"frames_ahead": {"ahead": 1}}).at(store.indices("all"))
    assert ahead["frames_ahead_known"][:, 0].tolist() == [1, 1, 1, 1, 0, 0, 0, 0]
    assert np.array_equal(ahead["frames_ahead"][5:, 0], store.frames([5, 6, 7]))


def assert_rewards_labelled(store):
    """Compare values and waits of every seventh frame with what the recorded rewards say; return how many wait for one."""
    values, soon, waiting = of_all(store, "reward_to_come"), of_all(store, "time_to_reward"), 0
    for episode in store.episodes:
        rewards = store.array(episode, "reward")
        for frame in range(0, episode.length, 7):
            following = np.flatnonzero(rewards[frame:] > 0)
            expected = 0.98 ** following[0] if len(following) else 0.0
            assert values[episode.first + frame] == pytest.approx(expected, rel=1e-5)
            waited = (following[0] + 1) / episode.frames_per_second if len(following) else np.inf
            assert soon[episode.first + frame] == pytest.approx(waited)
            waiting += len(following) > 0
    return waiting


def test_malmos_recordings_have_labels(real_recordings, tmp_path):
    video = real_recordings / "train" / "malmo-rewards" / "classroom-basic" / "video.mp4"
    folder = tmp_path / "recordings" / "classroom"
    folder.mkdir(parents=True)
    (folder / "video.mp4").write_bytes(video.read_bytes())
    stamps = "".join(f"20160726T1010{second:02} 0:{reward}\n" for second, reward in [(0, -1), (2, 0.5), (7, 10), (8, -1)])
    (folder / "rewards.txt").write_text(stamps)
    build_store(tmp_path / "recordings", tmp_path / "store", layout="malmo", frame_size=(16, 16))
    store = FrameStore(tmp_path / "store")
    assert reward_counts(store).rewarded == 2
    assert assert_rewards_labelled(store) > 10


def test_minerls_recordings_have_labels(write_minerl, noise, tmp_path):
    rewards = np.zeros(30)
    rewards[[4, 20]] = 1.0
    write_minerl(tmp_path / "recordings" / "one", noise(31), 30, reward=rewards)
    build_store(tmp_path / "recordings", tmp_path / "store", frame_size=(16, 16))
    store = FrameStore(tmp_path / "store")
    assert assert_rewards_labelled(store) == 3
    columns = {column.name: column.kind for column in action_columns_described(store)}
    kinds = {"action.camera[0]": "number", "action.camera[1]": "number", "action.forward": "key", "action.place": "key"}
    assert columns == kinds
