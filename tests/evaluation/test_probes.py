"""Probes find what is in latents and nothing else: numbers known in closed form, by slow loops, and from a hand-made encoder."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from encoders import EncoderArtifact, StoreReference, make_encoder, prepare
from encoders.registry import make_architecture
from evaluation import check_judge
from evaluation.evaluation import Evaluation
from evaluation.judges.probes import Probes as Judge
from evaluation.judges.probes import ProbesOptions
from evaluation.probing import Probes, Target, kept_to_choose, logistic, ridge
from evaluation.sampled import halves
from evaluation.scores import auc, balanced_accuracy, calibration, r_squared
from foundation.errors import UserError
from frames import FrameStore, sample_sequences

NOISE = 0.5
LENGTH, RECORDINGS = 120, 8


def test_auc_counts_the_pairs_that_are_told_right() -> None:
    random = np.random.default_rng(0)
    truth, score = random.integers(0, 2, 60), random.integers(0, 9, 60)
    pairs = [1.0 if p > n else 0.5 if p == n else 0.0 for p in score[truth == 1] for n in score[truth == 0]]
    assert auc(truth, score) == pytest.approx(np.mean(pairs))
    assert np.isnan(auc(np.ones(4), np.arange(4)))


def test_balanced_accuracy_and_r_squared_by_hand() -> None:
    assert balanced_accuracy(np.array([1, 1, 1, 0]), np.array([1.0, 2.0, -1.0, -3.0])) == pytest.approx((2 / 3 + 1) / 2)
    truth, predicted = np.array([[1.0], [2.0], [3.0]]), np.array([[1.0], [2.0], [2.0]])
    assert r_squared(truth, predicted) == pytest.approx(1 - 1 / 2)
    assert np.isnan(r_squared(np.ones((3, 1)), predicted))
    assert np.isnan(r_squared(np.empty((0, 1)), np.empty((0, 1))))


def test_calibration_compares_each_tenth() -> None:
    found = calibration(np.array([0.0, 1.0, 1.0, 1.0]), np.array([0.22, 0.28, 0.9, 1.0]))
    assert found.frames == [2, 2]
    assert found.predicted == pytest.approx([0.25, 0.95])
    assert found.observed == pytest.approx([0.5, 1.0])
    assert found.expected_error == pytest.approx((0.25 + 0.05) / 2)


def test_ridge_is_the_closed_form() -> None:
    random = np.random.default_rng(0)
    x, y = random.normal(size=(50, 3)), random.normal(size=(50, 2))
    y[7] = np.nan
    known = np.delete(np.arange(50), 7)
    centred, wanted = x[known] - x[known].mean(0), y[known] - y[known].mean(0)
    expected = np.linalg.solve(centred.T @ centred / 49 + 0.1 * np.eye(3), centred.T @ wanted / 49)
    found = ridge(torch.from_numpy(x), torch.from_numpy(y), (0.1,))[0]
    np.testing.assert_allclose(found.weights_DK.numpy(), expected)
    np.testing.assert_allclose(found(torch.from_numpy(x)).numpy()[known].mean(0), y[known].mean(0))


def test_a_target_of_which_the_recordings_to_fit_on_know_nothing_is_a_constant() -> None:
    # time to a reward, where those recordings end before any came, and only those to choose by know it
    random = np.random.default_rng(0)
    learned, kept = np.arange(120) < 60, (np.arange(120) >= 40) & (np.arange(120) < 60)
    values = np.where(np.arange(120) < 40, np.nan, random.normal(size=120))[:, None]
    target = Target("time", "R2", values, ("time",))
    found = ridge(torch.zeros(4, 2, dtype=torch.float64), torch.full((4, 1), np.nan, dtype=torch.float64), (0.1, 1.0))
    assert [one(torch.ones(1, 2, dtype=torch.float64)).item() for one in found] == [0.0, 0.0]
    probes = Probes(random.normal(size=(120, 3)), learned, kept)
    assert np.isfinite(probes.linear([target])["time"].score)
    assert np.isfinite(probes.network([target])["time"].score)


def test_logistic_regressions_are_where_their_slope_is_0_each_with_both_kinds_weighing_the_same() -> None:
    random = np.random.default_rng(0)
    x = random.normal(size=(200, 3))
    y = (x[:, :2] + random.normal(size=(200, 2)) > np.array([0.0, 1.0])).astype(float)
    y[:30, 1] = np.nan
    for strength, found in zip((0.01, 1.0), logistic(torch.from_numpy(x), torch.from_numpy(y), (0.01, 1.0)), strict=True):
        for column in range(2):
            known = ~np.isnan(y[:, column])
            truth, weights = y[known, column], found.weights_DK[:, column].numpy()
            probability = 1 / (1 + np.exp(-(x[known] @ weights + float(found.bias_K[column]))))
            share = np.where(truth == 1, 0.5 / truth.sum(), 0.5 / (1 - truth).sum())
            slope = x[known].T @ (share * (probability - truth)) + strength * weights
            np.testing.assert_allclose(slope, 0, atol=1e-4)


def test_a_linear_probe_finds_a_line_and_a_network_finds_what_no_line_tells() -> None:
    random = np.random.default_rng(0)
    latents = random.normal(size=(3000, 4)).astype(np.float32)
    line, crossed = latents[:, [0]] * 3.0 + 7, (latents[:, [1]] * latents[:, [2]] > 0).astype(float)
    learned = np.arange(3000) < 2000
    probes = Probes(latents, learned, kept_to_choose(np.arange(3000) // 100, learned))
    targets = [Target("line", "R2", line, ("line",)), Target("crossed", "AUC", crossed, ("crossed",))]
    linear, network = probes.linear(targets), probes.network(targets)
    assert linear["line"].score > 0.999
    assert network["line"].score > 0.98
    assert linear["crossed"].score == pytest.approx(0.5, abs=0.06)
    assert network["crossed"].score > 0.95


def test_a_network_that_nothing_can_choose_is_trained_to_its_end() -> None:
    random = np.random.default_rng(0)
    latents = random.normal(size=(1200, 4)).astype(np.float32)
    rare = (latents[:, [0]] > 0.5).astype(float)
    learned = np.arange(1200) < 800
    kept = kept_to_choose(np.arange(1200) // 100, learned)
    # what is told is there in no recording to choose by
    rare[kept] = 0
    latents[kept, 0] = -1
    probes = Probes(latents, learned, kept)
    target = Target("rare", "AUC", rare, ("rare",))
    assert probes.network([target])["rare"].score > 0.97
    assert probes.linear([target])["rare"].score > 0.97


def test_what_a_probe_learns_by_heart_scores_nothing_where_it_has_not_been() -> None:
    random = np.random.default_rng(0)
    # more latents than frames tell any noise
    latents, noise, learned = random.normal(size=(400, 200)), random.normal(size=(400, 1)), np.arange(400) < 60
    targets = [Target("noise", "R2", noise, ("noise",)), Target("coin", "AUC", (noise > 0).astype(float), ("coin",))]
    x, y = np.c_[latents[learned], np.ones(60)], noise[learned]
    assert np.linalg.norm(x @ np.linalg.lstsq(x, y, rcond=None)[0] - y) < 1e-9
    probes = Probes(latents, learned, kept_to_choose(np.arange(400) // 10, learned))
    for scores in (probes.linear(targets), probes.network(targets)):
        assert scores["noise"].score < 0.1
        assert scores["coin"].score == pytest.approx(0.5, abs=0.1)


def test_frames_to_choose_by_are_whole_recordings() -> None:
    recordings, learned = np.repeat(np.arange(10), 5), np.repeat(np.arange(10) < 8, 5)
    kept = kept_to_choose(recordings, learned)
    assert set(recordings[kept]) == {1, 5}
    assert kept.sum() == 10
    assert kept_to_choose(np.zeros(8), np.ones(8, bool)).tolist() == [False] * 6 + [True] * 2


def states_of(number: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Frames whose first pixels are their state and noise: of known R^2."""
    random = np.random.default_rng(number)
    state = random.normal(size=(LENGTH, 2))
    frames = random.integers(0, 256, (LENGTH, 16, 16, 3)).astype(np.uint8)
    seen = state + np.array([NOISE, 0.01]) * random.normal(size=(LENGTH, 2))
    frames[:, 0, :2, 0] = np.clip(seen * 25 + 128, 0, 255).round()
    return frames, {
        "observation.state.distance": state[:, 0].astype(np.float32),
        "observation.state.block_log": (state[:, 1] > 0).astype(np.float32),
        "observation.state.block_air": (state[:, 1] <= 0).astype(np.float32),
        "observation.state.height": np.zeros(LENGTH, np.float32),
        "action.attack": (state[:-1, 1] > 0).astype(np.int64),
        "reward": random.integers(0, 40, LENGTH - 1) == 0,
    }


@pytest.fixture(scope="module")
def states(tmp_path_factory: pytest.TempPathFactory, judged: Any) -> FrameStore:
    return judged.store(tmp_path_factory.mktemp("states") / "store", RECORDINGS, states_of)


@pytest.fixture
def reads_pixels(monkeypatch: pytest.MonkeyPatch, states: FrameStore, judged: Any) -> EncoderArtifact:
    made = make_architecture
    monkeypatch.setattr("evaluation.rivals.make_architecture", lambda name, h: judged.ReadsPixels() if name == "by_hand" else made(name, h))
    return judged.artifact(judged.ReadsPixels(), states)


def test_an_encoder_of_known_noise_gets_the_r_squared_that_it_must(reads_pixels: EncoderArtifact, states: FrameStore) -> None:
    found = check_judge(Judge(), reads_pixels, states, ProbesOptions(frames=400))
    assert found is not None
    probes = found["probes"]
    # the best that can be done of a state with noise: variance of the state / variance of both
    assert probes["distance"]["encoder"]["linear"] == pytest.approx(1 / (1 + NOISE**2), abs=0.06)
    assert probes["distance"]["encoder"]["mlp"] == pytest.approx(1 / (1 + NOISE**2), abs=0.1)
    assert probes["distance"]["metric"] == "R2"
    assert probes["distance"]["pca"]["linear"] < 0.1
    assert probes["block"]["metric"] == "AUC"
    assert probes["block"]["encoder"]["linear"] > 0.99
    assert probes["block"]["parts"].keys() == {"block_air", "block_log"}
    assert probes["action"]["encoder"]["linear"] > 0.95
    assert probes["reward_to_come"]["encoder"]["linear"] == pytest.approx(0.5, abs=0.2)
    # always 0: nothing to tell
    assert "height" not in probes
    # of the seven recordings in val
    assert found["recordings"] == [4, 3]


def test_a_score_is_the_mean_of_both_ways_to_halve_the_recordings(reads_pixels: EncoderArtifact, judged: Any, tmp_path: Path) -> None:
    def uneven(number: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """The odd recordings, which are the first half, show their state with little noise, the even ones with much."""
        random = np.random.default_rng(number)
        state, frames = random.normal(size=LENGTH), random.integers(0, 256, (LENGTH, 16, 16, 3)).astype(np.uint8)
        seen = state + (0.2 if number % 2 else 1.0) * random.normal(size=LENGTH)
        frames[:, 0, 0, 0] = np.clip(seen * 25 + 128, 0, 255).round()
        return frames, {"observation.state.distance": state.astype(np.float32)}

    store = judged.store(tmp_path / "uneven", RECORDINGS, uneven)
    out = Evaluation(reads_pixels, store, "val", store, tmp_path / "pictures", torch.device("cpu"))
    found = Judge().judge(reads_pixels, store, ProbesOptions(), out)
    halved = []
    for numbers in ((1, 3, 5, 7), (2, 4, 6)):
        recordings = [uneven(number) for number in numbers]
        latents = np.concatenate([frames[:, 0, :4, 0] / 255 for frames, _ in recordings])
        halved.append(
            (np.c_[latents, np.ones(len(latents))], np.concatenate([told["observation.state.distance"] for _, told in recordings]))
        )
    scores = []
    for (x, y), (held_out, truth) in (halved, halved[::-1]):
        predicted = held_out @ np.linalg.lstsq(x, y, rcond=None)[0]
        scores.append(1 - ((predicted - truth) ** 2).sum() / ((truth - truth.mean()) ** 2).sum())
    assert abs(scores[0] - scores[1]) > 0.4
    assert found["both_ways"]
    # a ridge is not quite a regression by least squares
    assert found["probes"]["distance"]["encoder"]["linear"] == pytest.approx(np.mean(scores), abs=0.03)


def test_halves_share_out_what_each_player_recorded(states: FrameStore) -> None:
    shared = halves(states, "val")
    names = [[episode.name for episode in half] for half in (shared.first, shared.second)]
    assert names == [["r1", "r3", "r5", "r7"], ["r2", "r4", "r6"]]
    alone = halves(states, "train")
    assert [episode.name for episode in alone.second] == ["r0"]
    assert len(alone.first) == 7
    assert "one recording" in (alone.note or "")


def test_a_store_of_one_recording_is_told_in_one_line(tmp_path: Path, judged: Any, reads_pixels: EncoderArtifact) -> None:
    alone = judged.store(tmp_path / "alone", 1, states_of)
    said = Judge().applies(reads_pixels.model, alone)
    assert said == "it takes two recordings, one to learn from and one to be scored on, and the store has 1"
    with pytest.raises(UserError, match="the store has 1; add recordings"):
        halves(alone, "train")


def test_a_store_that_holds_frames_only_is_left_out(reads_pixels: EncoderArtifact, video_store: Path) -> None:
    assert Judge().applies(reads_pixels.model, FrameStore(video_store)) == "the store holds no state, actions or rewards to tell"


def test_a_model_with_memory_is_probed_along_its_recordings(action_store: Path, tmp_path: Path) -> None:
    store = FrameStore(action_store)
    reference = StoreReference(str(store.path), store.fingerprint, 20.0, "squash")
    model = make_encoder("cwvae_debug", frame_shape=[16, 16, 3], encoder_kernels=[4, 4], decoder_kernels=[6, 6])
    artifact = prepare(model, sample_sequences(store, "train", 40, 0).frames, tmp_path, store=reference)
    found = check_judge(Judge(), artifact, store, ProbesOptions(frames=200))
    assert found is not None
    # one recording is held out: the others teach
    assert not found["both_ways"]
    assert found["recordings"] == [5, 1]
    assert found["probes"]["action"]["parts"].keys() == {"camera[0]", "camera[1]"}
    assert abs(found["probes"]["action"]["encoder"]["linear"] - 0.5) < 0.3


def test_recordings_that_are_too_short_for_a_probe_are_told_in_words(reads_pixels: EncoderArtifact, judged: Any, tmp_path: Path) -> None:
    short = judged.store(tmp_path / "short", 3, lambda number: tuple(_first(part, 12) for part in states_of(number)))
    out = Evaluation(reads_pixels, short, "val", short, tmp_path / "pictures", torch.device("cpu"))
    assert Judge().judge(reads_pixels, short, ProbesOptions(), out) == {}
    assert "build a store of more recordings" in out.verdicts[0]


def _first(part: Any, count: int) -> Any:
    if isinstance(part, dict):
        return {name: array[: count if name.startswith("observation") else count - 1] for name, array in part.items()}
    return part[:count]
