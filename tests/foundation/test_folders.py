"""A command writes into an empty folder or into one of its own kind, and looks before it touches anything."""

import pytest

from foundation.errors import UserError
from foundation.folders import AGENT, COMPARISON, ENCODER, SEARCH, refuse_others
from foundation.presets import parse
from pretraining.options import TrainOptions

KINDS = (AGENT, ENCODER, COMPARISON, SEARCH)
MARKS = {AGENT: "agent.json", ENCODER: "encoder.json", COMPARISON: "grid.yaml", SEARCH: "trials.jsonl"}


@pytest.mark.parametrize("kind", KINDS)
def test_an_empty_folder_and_one_that_is_not_there_are_fine(tmp_path, kind):
    refuse_others(tmp_path / "new", kind)
    (tmp_path / ".lock").touch()
    refuse_others(tmp_path, kind)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("other", [*KINDS, "a frame store"])
def test_a_folder_is_of_one_kind(tmp_path, kind, other):
    mark = MARKS.get(other, "data.mdb")
    (tmp_path / mark).write_text("{}")
    (tmp_path / "notes.txt").write_text("mine")
    if other == kind:
        refuse_others(tmp_path, kind)
        return
    with pytest.raises(UserError, match=f"holds {other} .*choose another --run"):
        refuse_others(tmp_path, kind)
    assert {path.name for path in tmp_path.iterdir()} == {mark, "notes.txt"}


@pytest.mark.parametrize("kind", KINDS)
def test_a_folder_of_somebodys_own_files_is_refused(tmp_path, kind):
    (tmp_path / "metrics.jsonl").write_text("mine")
    with pytest.raises(UserError, match=r"holds metrics\.jsonl, and nothing of"):
        refuse_others(tmp_path, kind)
    with pytest.raises(UserError, match="a file, not a folder"):
        refuse_others(tmp_path / "metrics.jsonl", kind)


@pytest.mark.parametrize("kind", KINDS)
def test_a_link_in_a_folder_leads_elsewhere(tmp_path, kind):
    run, elsewhere = tmp_path / "run", tmp_path / "elsewhere"
    run.mkdir()
    elsewhere.mkdir()
    (run / MARKS[kind]).write_text("{}")
    (run / "tensorboard").symlink_to(elsewhere)
    with pytest.raises(UserError, match="tensorboard: a link"):
        refuse_others(run, kind)


@pytest.mark.parametrize("words", [["--run", ""], ["--run="]])
def test_an_empty_folders_name_is_not_the_folder_one_is_in(words):
    with pytest.raises(UserError, match="an option is empty"):
        parse(TrainOptions, "", words, program="train_encoder.py")
