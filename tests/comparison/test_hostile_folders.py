"""A comparison's folder, a cell of it, or a joined report's, that holds something else is refused before anything is touched."""

import json
import shutil
from pathlib import Path

import pytest

from comparison.config import JoinConfig
from comparison.players import PlayerRun, play_player
from comparison.report.files import join_reports
from foundation.errors import UserError
from foundation.folders import PLAYER, refuse_others
from tests.comparison.test_comparison import compare as compare


def everything(folder: Path) -> dict[str, bytes | None]:
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None for path in sorted(folder.rglob("*"))}


@pytest.mark.parametrize("cells", ["runs/short/ppo/pixels/seed0", "players/short/random-*/seed0"])
def test_a_cell_that_holds_something_else(compare, tmp_path: Path, cells: str) -> None:
    folder = tmp_path / "comparison"
    _made, _ = compare(seeds=1)
    (cell,) = folder.glob(cells)
    for content in ("data.mdb", "notes.txt", "trials.jsonl"):
        shutil.rmtree(cell)
        cell.mkdir()
        (cell / content).write_text("mine")
        before = everything(folder)
        with pytest.raises(UserError, match=f"seed0: holds .*{content}"):
            compare(seeds=1)
        assert everything(folder) == before


def test_a_link_on_the_way_to_a_cell(compare, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for name in ("players", "runs/short", "runs"):
        shutil.rmtree(tmp_path / "comparison", ignore_errors=True)
        place = tmp_path / "comparison" / name
        place.parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "comparison" / "grid.yaml").write_text("format: 2")
        place.symlink_to(elsewhere)
        with pytest.raises(UserError, match=f"{name}: a link"):
            compare(seeds=1)
    assert not list(elsewhere.iterdir())


@pytest.mark.parametrize("content", ["data.mdb", "notes.txt", "encoder.json", "agent.json", "trials.jsonl", "comparison.csv"])
def test_a_folder_for_a_joined_report(compare, tmp_path: Path, content: str) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / content).write_text("mine")
    config = JoinConfig(folders=(tmp_path / "one", tmp_path / "two"), run=out)
    with pytest.raises(UserError, match=r"out: holds .*choose another --run"):
        join_reports(config.folders, config.run, "join")
    assert everything(out) == {content: b"mine"}


def test_a_joined_report_is_written_again_where_it_was_and_where_it_was_killed(tmp_path: Path) -> None:
    (tmp_path / "comparison.json").write_text(json.dumps({"format": 3}))
    (tmp_path / ".lock").touch()
    with pytest.raises(UserError, match="cannot be read"):
        join_reports((tmp_path / "one", tmp_path / "two"), tmp_path, "join")


def test_a_player_plays_into_a_folder_of_its_own(tmp_path: Path) -> None:
    refuse_others(tmp_path, PLAYER)
    (tmp_path / "agent.json").write_text("mine")
    with pytest.raises(UserError, match=r"holds an agent's run \(agent.json\)"):
        play_player(PlayerRun("random", None, 1, 0, tmp_path, None), lambda steps, note: False)  # type: ignore[arg-type]
