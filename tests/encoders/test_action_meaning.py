"""An encoder is told the same number for the same word wherever it goes, or refuses to go there."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

import frames
from encoders import load_encoder
from encoders.actions import ActionArray, difference, size_of, stored_actions
from encoders.artifact import check_meaning
from foundation.errors import UserError
from frames.curation.splits import assign_splits
from frames.storage.writer import store_writer

WORDS = {"two": ("dirt", "none"), "three": ("cobblestone", "dirt", "none")}


def write_episodes(path: Path, episodes: list[dict[str, np.ndarray]], resize: str = "squash") -> Path:
    with store_writer(path, {"source": "a test"}, (16, 16, 3)) as writer:
        for number, arrays in enumerate(episodes):
            noise = np.random.default_rng(number).integers(0, 256, (20, 16, 16, 3), np.uint8)
            writer.add(f"e{number}", noise, source=f"e{number}", frames_per_second=20.0, arrays=lambda arrays=arrays: arrays)
        splits = {f"e{number}": "train" for number in range(len(episodes) - 1)} | {f"e{len(episodes) - 1}": "val"}
        writer.finish(lambda names: assign_splits(names, given=splits), {"resize": resize, "left_out": []})
    return path


def write_store(path: Path, words: tuple[str, ...], resize: str = "squash", camera: int = 2, numbers: bool = False) -> Path:
    """Write clips of noise with actions: a camera, and `place`, in words (all of them in every episode) or in numbers."""
    random = np.random.default_rng(len(words))
    episodes = []
    for _ in range(4):
        chosen = random.permutation(np.arange(19) % len(words))
        turns = random.normal(size=(19, camera)).astype(np.float32)
        episodes.append({"action.camera": turns, "action.place": chosen if numbers else np.array(words)[chosen]})
    return write_episodes(path, episodes, resize)


@pytest.fixture
def stores(tmp_path: Path) -> Callable[..., Path]:
    def make(name: str, **options: Any) -> Path:
        path = tmp_path / "-".join([name, *map(str, options.values())])
        return path if path.exists() else write_store(path, WORDS[name], **options)

    return make


@pytest.fixture
def trained(command: Callable[..., int], stores: Callable[..., Path], tmp_path: Path) -> Callable[..., int]:
    """Return a function that trains a tiny Clockwork VAE on a store for two steps; the status is the command's."""

    def run(folder: str, store: Path, *more: object, size: int = 3) -> int:
        sizes = ["--model.frame-shape", 16, 16, 3, "--model.encoder-kernels", 4, 4, "--model.decoder-kernels", 6, 6]
        sizes += ["--model.action-size", size, "--threads", 1, "--device", "cpu"]
        steps = [] if "--steps" in more else ["--steps", 2]
        return command("train_encoder.py", "cwvae_debug", "--store", store, "--run", tmp_path / folder, *sizes, *steps, *more)

    return run


def judged(command: Callable[..., int], run: Path, store: Path) -> int:
    return command("evaluate_encoder.py", run, "--store", store, "--threads", 1, "--device", "cpu", "--judges", "reconstruction")


def last_line(capsys: pytest.CaptureFixture) -> str:
    return capsys.readouterr().err.strip().splitlines()[-1]


ARRAYS = (ActionArray("action.camera", 2), ActionArray("action.place", 1, ("cobblestone", "dirt", "none")))


@pytest.mark.parametrize(
    ("offered", "said"),
    [
        (ARRAYS, None),
        ((ARRAYS[0], ActionArray("action.place", 1, ("dirt", "none"))), None),
        ((ARRAYS[0], ActionArray("action.place", 1, ("dirt", "none", "torch"))), "'action.place' may be torch, where training"),
        ((ARRAYS[0], ActionArray("action.place", 1)), r"'action.place' is given in words in training's \(cobblestone, dirt, none\)"),
        ((ActionArray("action.camera", 2, ("a",)), ARRAYS[1]), r"'action.camera' is given in words in these \(a\)"),
        ((ARRAYS[0],), "'action.place' is missing"),
        ((*ARRAYS, ActionArray("action.use", 1)), "'action.use' is besides"),
        ((ActionArray("action.camera", 3), ARRAYS[1]), "'action.camera' is 3 numbers, where training had 2"),
        (ARRAYS[::-1], "another order"),
    ],
)
def test_a_difference_is_named(offered, said) -> None:
    found = difference(ARRAYS, offered)
    assert found is None if said is None else re.search(said, found or "")


def test_words_that_are_not_sorted_are_a_damaged_record() -> None:
    with pytest.raises(ValueError, match="not sorted"):
        ActionArray("action.place", 1, ("none", "dirt"))


def test_a_store_numbers_words_as_it_is_told(stores) -> None:
    store = frames.FrameStore(stores("two"))
    starts, length = np.array([0, 23, 61]), 4
    before = store.action_windows(starts, length)
    store.number_texts({"action.place": WORDS["three"]})
    after, thinned = store.action_windows(starts, length), store.action_windows(starts[:1], 3, 3)
    words = [store.array(number, "action.place") for number in range(4)]
    for row, start in enumerate(starts):
        for tick in range(length):
            episode, place = divmod(start + tick, 20)
            code = WORDS["three"].index(words[episode][place - 1]) if place else 0
            assert after[row, tick, 2] == code
            np.testing.assert_array_equal(after[row, tick, :2], before[row, tick, :2])
    # over three ticks the last that is not "none" stays
    for tick in range(2):
        spoken = [word for word in words[0][3 * tick : 3 * tick + 3] if word != "none"]
        assert thinned[0, tick + 1, 2] == WORDS["three"].index(spoken[-1] if spoken else "none")
    with pytest.raises(ValueError, match="must be sorted and hold"):
        store.number_texts({"action.place": ["dirt"]})
    with pytest.raises(ValueError, match="must be sorted"):
        store.number_texts({"action.place": WORDS["three"][::-1]})


def test_an_artifact_says_what_its_actions_stand_for_and_is_judged_by_it(command, stores, trained, tmp_path, capsys) -> None:
    three, two = stores("three"), stores("two")
    assert trained("run", three) == 0
    info = load_encoder(tmp_path / "run").info
    assert info.actions == ARRAYS
    assert (size_of(info.actions), info.format) == (3, 1)
    # fewer words are numbered as in training
    assert judged(command, tmp_path / "run", two) == 0
    opened = frames.FrameStore(two)
    check_meaning(info.store, 3, opened, "the encoder")
    assert opened.action_texts["action.place"] == list(WORDS["three"])
    assert trained("other", two) == 0
    for other, said in (
        (three, r"'action.place' may be cobblestone, where training had dirt, none; build it from"),
        (stores("two", numbers=True), "'action.place' is given in words in training's"),
        (stores("two", resize="crop"), "resized by 'crop', those of the encoder .* by 'squash'; build .* --resize squash"),
    ):
        capsys.readouterr()
        assert judged(command, tmp_path / "other", other) == 2
        assert re.search(said, last_line(capsys))


def test_an_artifact_of_before_loads_and_says_what_cannot_be_checked(command, stores, trained, tmp_path, capsys) -> None:
    assert trained("run", stores("three")) == 0
    file = tmp_path / "run" / "encoder.json"
    values = json.loads(file.read_text())
    del values["store"]["actions"]
    file.write_text(json.dumps(values))
    assert load_encoder(tmp_path / "run").info.actions is None
    capsys.readouterr()
    assert judged(command, tmp_path / "run", stores("two")) == 0
    told = [line for line in capsys.readouterr().err.splitlines() if "does not say what the numbers of its actions" in line]
    assert len(told) == 1


def test_a_run_of_before_goes_on_and_one_of_now_keeps_its_numbers(stores, trained, tmp_path, capsys) -> None:
    assert trained("run", stores("two")) == 0
    config = tmp_path / "run" / "config.yaml"
    values = yaml.safe_load(config.read_text())
    assert values["store"].pop("actions")[1] == {"name": "action.place", "size": 1, "texts": ["dirt", "none"]}
    config.write_text(yaml.safe_dump(values))
    assert trained("run", stores("two"), "--steps", 3) == 0
    assert load_encoder(tmp_path / "run").info.actions[1].texts == WORDS["two"]


def test_weights_go_where_words_can_be_numbered_as_they_were(stores, trained, tmp_path, capsys) -> None:
    assert trained("run-three", stores("three")) == 0
    assert trained("run-two", stores("two")) == 0
    assert trained("onward", stores("two"), "--weights", tmp_path / "run-three") == 0
    assert load_encoder(tmp_path / "onward").info.actions == ARRAYS
    # resumed, the words keep the numbers of the other run
    assert trained("onward", stores("two"), "--weights", tmp_path / "run-three", "--steps", 3) == 0
    assert load_encoder(tmp_path / "onward").info.actions == ARRAYS
    for store, said in (
        (stores("three"), "its actions are not those of the run .*'action.place' may be cobblestone"),
        (stores("two", resize="crop"), "resized by 'crop', those of the run .* by 'squash'"),
    ):
        capsys.readouterr()
        assert trained("refused", store, "--weights", tmp_path / "run-two") == 2
        assert re.search(said, last_line(capsys))


def test_words_and_numbers_in_one_store_are_no_common_actions(tmp_path) -> None:
    write_episodes(tmp_path / "store", [{"action.place": np.array(["dirt"] * 19)}, {"action.place": np.zeros(19, np.int64)}])
    store = frames.FrameStore(tmp_path / "store")
    assert (store.action_names, stored_actions(store)) == (None, ())


def test_an_image_model_records_no_actions_and_goes_to_any_store_of_its_resize(stores) -> None:
    from encoders import StoreReference

    reference = StoreReference("gone", "f", 20.0, "squash")
    check_meaning(reference, 0, frames.FrameStore(stores("three")), "the encoder")
    with pytest.raises(UserError, match="--resize squash"):
        check_meaning(reference, 0, frames.FrameStore(stores("three", resize="crop")), "the encoder")
