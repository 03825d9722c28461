"""A space draws the same trials again, refuses what is unclear, and draws nothing that cannot be run."""

import json
import re
import shlex
from dataclasses import replace
from types import SimpleNamespace

import pytest

from agents.run.options import read_command
from comparison.config import ComparisonConfig
from encoders.registry import encoder_class
from foundation.errors import UserError
from foundation.presets import preset_names
from search.config import read_search
from search.findings import again, find
from search.search import Search
from search.space import Space, read_space
from tests.search.made import SPACE, finding_of

NAMES = ["algorithm.learning_rate", "algorithm.gamma", "algorithm.n_epochs", "algorithm.net_arch"]


@pytest.fixture
def read(tmp_path):
    """Return a function that reads a space from YAML."""

    def make(text: str) -> Space:
        path = tmp_path / "space.yaml"
        path.write_text(text)
        return read_space(str(path), lambda wanted: NAMES)

    return make


def test_more_trials_begin_with_those_drawn_before(read) -> None:
    few, many = read(SPACE).draw(5, 7), read(SPACE).draw(12, 7)
    assert many[:5] == few
    assert read(SPACE).draw(5, 8) != few
    swapped = "\n".join(reversed(SPACE.strip().splitlines()))
    assert read(swapped).draw(5, 7) == few


def test_values_lie_within_their_bounds_and_can_be_typed(read) -> None:
    for values in read(SPACE).draw(60, 0):
        assert 1e-5 <= values["algorithm.learning_rate"] <= 1e-2
        assert 0.9 <= values["algorithm.gamma"] <= 0.999
        assert values["algorithm.n_epochs"] in (1, 2, 3)
        assert values["algorithm.net_arch"] in ([8], [8, 8])
        assert len(re.sub(r"e.*|[.]|^0[.]0*", "", f"{values['algorithm.learning_rate']:g}")) <= 5


def test_a_loguniform_draws_as_many_from_every_decade(read) -> None:
    drawn = read("algorithm.learning_rate: {loguniform: [1e-5, 1e-2]}").draw(300, 1)
    low = sum(values["algorithm.learning_rate"] < 1e-4 for values in drawn)
    assert 70 <= low <= 130


def test_a_grid_is_gone_through_and_never_twice(read) -> None:
    space = read("algorithm.gamma: {grid: [0.9, 0.99]}\nalgorithm.n_epochs: {grid: [1, 2, 3]}")
    drawn = space.draw(6, 0)
    assert sorted((one["algorithm.gamma"], one["algorithm.n_epochs"]) for one in drawn) == [(g, n) for g in (0.9, 0.99) for n in (1, 2, 3)]
    with pytest.raises(UserError, match="no more than 6 different trials: give --trials 6"):
        space.draw(7, 0)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("algorithm.learning_rte: {uniform: [0, 1]}", "did you mean 'algorithm.learning_rate'"),
        ("algorithm.gamma: {unifrom: [0, 1]}", "did you mean 'uniform'"),
        ("algorithm.gamma: 0.9", "must say one of loguniform"),
        ("algorithm.gamma: {uniform: [0, 1], choice: [1]}", "must say one of"),
        ("algorithm.gamma: {uniform: [0.9]}", "two numbers"),
        ("algorithm.gamma: {uniform: [0.9, 0.9]}", "must be below"),
        ("algorithm.gamma: {loguniform: [0, 1]}", "above 0"),
        ("algorithm.n_epochs: {randint: [1, 2.5]}", "whole numbers"),
        ("algorithm.n_epochs: {choice: []}", "takes a list"),
        ("{}", "nothing to search"),
        ("- 1", "must hold a mapping"),
        ("!!python/object/apply:os.system [ls]", "cannot be read as YAML"),
    ],
)
def test_a_space_that_says_nothing_clear_is_refused(read, text: str, said: str) -> None:
    with pytest.raises(UserError, match=re.escape(said)):
        read(text)


def test_a_value_that_no_run_can_have_is_told_before_anything_runs(searching, tmp_path) -> None:
    with pytest.raises(UserError, match=r"trial 0 .*batch_size 12.*must divide a rollout"):
        searching("algorithm.batch_size: {choice: [12]}", trials=1)
    assert not (tmp_path / "search").exists()


def test_numbers_that_yaml_reads_as_texts_are_numbers(searching) -> None:
    search = searching("algorithm.learning_rate: {grid: [1e-3, 1e-4]}", trials=2)
    assert [trial.values["algorithm.learning_rate"] for trial in search.trials] == [1e-3, 1e-4]


@pytest.mark.parametrize("name", [name for name in preset_names("search") if name != "conv_vae"])
def test_every_draw_of_the_shipped_agent_spaces_can_be_run(name: str, tmp_path) -> None:
    agent = name.partition("_")[0]
    words = ["debug", "--agent", agent, "--control", "pixels", "--space", name, "--run", str(tmp_path), "--trials", "60"]
    words += ["--algorithm.n-envs", "8"] if name != "debug" else []
    assert len(Search(read_search(words)).trials) == 60


def test_every_draw_of_the_shipped_encoder_space_is_an_encoder(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(Search, "_store", SimpleNamespace(fingerprint="f", identity="i"))
    words = ["debug", "--space", "conv_vae", "--encoder-preset", "conv_vae_tiny", "--store", "s", "--run", str(tmp_path), "--trials", "30"]
    search = Search(read_search(words))
    for trial in search.trials:
        assert trial.settings.encoder["model"]["beta"] == trial.values["encoder.model.beta"]
        assert search.plan(trial).encoder.command()[0] == "train_encoder.py"
    assert encoder_class("conv_vae").Hyperparameters(**search.trials[0].settings.encoder["model"])


def test_the_space_for_pixels_draws_trials_that_can_be(tmp_path) -> None:
    words = ["voxel_treechop", "--control", "pixels", "--space", "ppo_pixels", "--trials", "12", "--run", str(tmp_path)]
    search = Search(read_search(words))
    assert len({json.dumps(trial.values) for trial in search.trials}) == 12
    assert {len(trial.settings.algorithm.net_arch) for trial in search.trials} == {0, 1, 2}
    # layers that are none are an option without a value
    best = replace(finding_of(search), trial=next(trial for trial in search.trials if not trial.settings.algorithm.net_arch))
    command = shlex.split(again(replace(find(search, words), found=[best]), words) or "")
    assert read_command(ComparisonConfig, "", command[2:], control="pixels").algorithm.net_arch == ()
