import hashlib
from collections.abc import Callable

import cv2
import numpy as np
import pytest

from foundation.errors import UserError
from frames.curation.cleaning import SOURCE_FRAME, Cleaning, cleaned, mean_change
from frames.curation.manifest import Entry, Row
from frames.readers import BadRecording, Recording, find_recordings

TICKS = 9


class Filmed(Recording):
    """Ten frames of given shades, and arrays that count."""

    shades = range(0, 100, 10)

    def expected_frames(self) -> int:
        return len(self.shades)

    def frames_per_second(self) -> float:
        return 20.0

    def frames(self):
        for shade in self.shades:
            yield np.full((4, 4, 3), shade, np.uint8)

    def arrays(self):
        return {
            "reward": 10.0 ** np.arange(TICKS),
            "action.camera": np.arange(2 * TICKS).reshape(TICKS, 2),
            "action.craft": np.array([f"tick {tick}" for tick in range(TICKS)]),
            "observation.compass": np.arange(TICKS + 1),
            "observation.pearls": np.arange(TICKS),
        }


@pytest.fixture
def filmed(tmp_path) -> Callable[..., Filmed]:
    def make(*shades: int) -> Filmed:
        recording = Filmed("one", tmp_path, [])
        recording.shades = shades or Filmed.shades
        return recording

    return make


def read(recording: Recording, entry: Entry | None = None, **options: int):
    """Return the shades and arrays that stay, and what was trimmed."""
    read = cleaned(recording, entry, Cleaning(**options))
    shades = [int(frame[0, 0, 0]) for frame in read.frames()]
    return shades, read.arrays(), read.trimmed


def test_nothing_is_left_out_unless_asked_for(filmed):
    shades, arrays, trimmed = read(filmed())
    assert shades == list(Filmed.shades)
    assert trimmed == {"lead": 0, "tail": 0, "frozen": 0}
    assert arrays.keys() == filmed().arrays().keys()
    assert all(np.array_equal(arrays[name], values) for name, values in filmed().arrays().items())


def test_arrays_follow_the_frames_that_stay(filmed):
    shades, arrays, trimmed = read(filmed(), drop_lead=2, drop_tail=3)
    assert shades == [20, 30, 40, 50, 60]
    assert trimmed == {"lead": 2, "tail": 3, "frozen": 0}
    assert arrays["reward"].tolist() == [1e2, 1e3, 1e4, 1e5]
    assert arrays["action.camera"][:, 0].tolist() == [4, 6, 8, 10]
    assert arrays["action.craft"].tolist() == ["tick 2", "tick 3", "tick 4", "tick 5"]
    assert arrays["observation.compass"].tolist() == [2, 3, 4, 5, 6]
    assert arrays["observation.pearls"].tolist() == [2, 3, 4, 5, 6]
    assert SOURCE_FRAME not in arrays


def test_an_observation_that_lacks_the_last_frame_lacks_it_still(filmed):
    arrays = read(filmed(), drop_lead=7)[1]
    assert arrays["observation.compass"].tolist() == [7, 8, 9]
    assert arrays["observation.pearls"].tolist() == [7, 8]


def test_the_manifest_goes_before_the_counts_for_all(filmed):
    assert read(filmed(), Entry(drop_lead=0), drop_lead=5, drop_tail=1)[0] == list(range(0, 90, 10))


def test_dropping_all_frames_leaves_the_recording_out(filmed):
    for options in ({"drop_lead": 10}, {"drop_tail": 10}, {"drop_lead": 6, "drop_tail": 4}, {"drop_lead": 10**9}):
        with pytest.raises(BadRecording, match=r"has 10 frames, of which .* are to be dropped"):
            read(filmed(), **options)


def test_frozen_stretches_keep_what_they_returned(filmed):
    shades, arrays, trimmed = read(filmed(5, 5, 5, 5, 20, 30, 30, 30, 40, 40), thin_frozen=1)
    assert shades == [5, 20, 30, 40]
    assert trimmed == {"lead": 0, "tail": 0, "frozen": 6}
    assert arrays["reward"].tolist() == [1111, 10000, 111100000]
    assert arrays["reward"].sum() == filmed().arrays()["reward"].sum()
    assert arrays[SOURCE_FRAME].tolist() == [0, 4, 5, 8]
    assert arrays[SOURCE_FRAME].dtype == np.int64


def test_a_thinned_stretch_keeps_what_was_done_in_it(filmed):
    """Turns inside a stretch add up, a key pressed in it stays pressed, and what was crafted in it stays crafted."""
    recording = filmed(5, 5, 5, 5, 20, 30, 30, 30, 40, 40)
    turns, attack = np.array([[3.0, -1.0], *[[1.5, 0.25]] * 8], np.float32), np.array([0, 1, 0, 0, 0, 0, 0, 0, 1])
    craft = np.array(["none", "planks", "none", "none", "none", "none", "stick", "none", "none"])
    vector = np.random.default_rng(0).normal(size=(TICKS, 3)).astype(np.float32)
    recording.arrays = lambda: {"action.camera": turns, "action.attack": attack, "action.craft": craft, "action.vector": vector}
    arrays = read(recording, thin_frozen=1)[1]
    spans = list(zip([0, 4, 5], [4, 5, 8], strict=True))
    assert np.allclose(arrays["action.camera"], [sum(turns[tick] for tick in range(*span)) for span in spans])
    assert arrays["action.camera"].dtype == np.float32
    assert arrays["action.attack"].tolist() == [1, 0, 0]
    assert arrays["action.craft"].tolist() == ["planks", "none", "stick"]
    assert np.allclose(arrays["action.vector"], [sum(vector[tick] for tick in range(*span)) / (span[1] - span[0]) for span in spans])


def test_the_choice_of_a_thinned_tick_is_the_last_one(filmed):
    arrays = read(filmed(5, 5, 5, 5, 20, 30, 30, 30, 40, 50), thin_frozen=2)[1]
    assert arrays[SOURCE_FRAME].tolist() == [0, 1, 4, 5, 6, 8, 9]
    assert arrays["action.craft"].tolist() == [f"tick {tick}" for tick in (0, 3, 4, 5, 7, 8)]
    assert arrays["observation.compass"].tolist() == [0, 1, 4, 5, 6, 8, 9]


def test_rewards_in_dropped_ends_go_and_those_in_a_frozen_end_stay(filmed):
    frozen_end = filmed(0, 10, 20, 30, 40, 40, 40, 40, 40, 90)
    arrays = read(frozen_end, thin_frozen=1, drop_lead=1, drop_tail=1)[1]
    assert arrays[SOURCE_FRAME].tolist() == [1, 2, 3, 4]
    assert arrays["reward"].tolist() == [10, 100, 11111000]


def test_small_whole_rewards_do_not_overflow(filmed):
    recording = filmed(*[7] * 8, 90, 100)
    recording.arrays = lambda: {"reward": np.full(TICKS, 100, np.uint8)}
    assert read(recording, thin_frozen=1)[1]["reward"].tolist() == [800, 100]


def test_a_change_of_half_a_grey_level_is_no_standstill():
    before, after = np.zeros((2, 8, 8, 3), np.uint8)
    after.reshape(-1)[: after.size // 2] = 1
    assert mean_change(before, after) == 0.5
    assert mean_change(np.full((8, 8, 3), 255, np.uint8), before) == 255


def test_pictures_are_not_thinned(filmed):
    pictures = filmed(*[50] * 10)
    pictures.ordered = False
    assert len(read(pictures, thin_frozen=1)[0]) == 10


def test_arrays_that_do_not_fit_the_frames_are_refused(filmed):
    with pytest.raises(BadRecording, match="'reward' has 9 entries for 11 frames"):
        read(filmed(*range(0, 110, 10)), drop_lead=1)


def test_another_number_of_frames_than_the_manifest_says_is_refused(filmed):
    assert len(read(filmed(), Entry(frames=10), drop_lead=3)[0]) == 7
    with pytest.raises(BadRecording, match="10 frames decode, the manifest says 12"):
        read(filmed(), Entry(frames=12), drop_lead=3)


def test_the_frames_to_come_are_told_without_those_that_go(filmed):
    assert cleaned(filmed(), Entry(drop_lead=2), Cleaning(drop_tail=1)).expected_frames() == 7


def test_a_bit_flip_in_a_video_is_found_before_it_is_decoded(write_video, noise, tmp_path):
    video = write_video(tmp_path / "one.avi", noise(4))
    (recording,) = find_recordings(tmp_path)
    row = Row(sha256=hashlib.sha256(video.read_bytes()).hexdigest())
    assert len(list(cleaned(recording, Entry(rows={video: row})).frames())) == 4
    content = bytearray(video.read_bytes())
    content[len(content) // 2] ^= 1
    video.write_bytes(content)
    with pytest.raises(BadRecording, match=r"one\.avi has another sha256"):
        next(cleaned(recording, Entry(rows={video: row})).frames())


def test_of_pictures_only_the_damaged_ones_are_left_out(noise, tmp_path):
    rows = {}
    for number, picture in enumerate(noise(4)):
        file = tmp_path / "stills" / f"{number}.png"
        file.parent.mkdir(exist_ok=True)
        cv2.imwrite(str(file), picture)
        rows[file] = Row(bytes=file.stat().st_size + (number in (1, 2)))
    (recording,) = find_recordings(tmp_path / "stills")
    read = cleaned(recording, Entry(rows=rows, frames=4))
    origin = read.origin
    assert len(list(read.frames())) == 2
    assert [name for name, _ in read.skipped] == ["stills/1.png", "stills/2.png"]
    assert read.origin == origin


@pytest.mark.parametrize("options", [{"drop_lead": -1}, {"drop_tail": -3}, {"thin_frozen": 0}])
def test_numbers_that_cannot_be_are_named(options):
    with pytest.raises(UserError, match=next(iter(options))):
        Cleaning(**options)


def test_the_plan_of_a_build_knows_the_manifests_content(tmp_path):
    manifest = tmp_path / "manifest.csv"
    manifest.write_text("file\n")
    before = Cleaning(manifest=manifest, drop_tail=4).plan()
    assert before["drop_tail"] == 4
    manifest.write_text("file,frames\n")
    assert Cleaning(manifest=str(manifest), drop_tail=4).plan() != before


@pytest.mark.parametrize("options", [{"drop_tail": 3}, {"thin_frozen": 1}, {"drop_tail": 2, "thin_frozen": 2}])
def test_a_layout_may_decode_every_frame_into_the_same_array(filmed, tmp_path, options):
    class Reusing(Filmed):
        def frames(self):
            picture = np.zeros((4, 4, 3), np.uint8)
            for shade in self.shades:
                picture[:] = shade
                yield picture

    expected, reusing = filmed(0, 10, 20, 20, 20, 30, 40, 40, 50, 60), Reusing("one", tmp_path, [])
    reusing.shades = expected.shades
    assert shades_of(reusing, options) == shades_of(expected, options)
    assert len(set(shades_of(reusing, options))) > 3


def shades_of(recording: Recording, options: dict[str, int]) -> list[int]:
    return [int(frame.copy()[0, 0, 0]) for frame in cleaned(recording, None, Cleaning(**options)).frames()]
