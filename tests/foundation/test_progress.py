import io
import re

from rich.console import Console
from rich.text import Text

from foundation import progress
from foundation.progress import progress_bar


def test_without_a_terminal_a_line_tells_how_far_how_fast_and_how_long_still(capsys):
    with progress_bar("decoding", 100, "frames", done=50) as advance:
        for _ in range(5):
            advance(10, "2/3 recordings")
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(" frames, ")[0] for line in lines] == [f"decoding: {done}/100" for done in (60, 70, 80, 90, 100)]
    assert all(re.search(r"frames, [\d,.]+ frames/s, [\d,]+ s left  2/3 recordings$", line) for line in lines[:-1])
    assert re.search(r"100/100 frames, [\d,.]+ frames/s  2/3 recordings$", lines[-1])


def test_a_total_that_turns_out_smaller_moves_the_bar_on(capsys):
    with progress_bar("decoding", 1000, "frames") as advance:
        advance(50, total=100)
    assert capsys.readouterr().err.startswith("decoding: 50/100 frames")


def test_the_bar_of_a_note_with_brackets_prints_it_as_it_is(capsys):
    with progress_bar("training", 10) as advance:
        advance(1, "[loss] 3")
    assert capsys.readouterr().err.rstrip().endswith("[loss] 3")


def test_the_bar_takes_one_line_of_a_narrow_terminal_and_the_numbers_stay_whole(monkeypatch):
    written = io.StringIO()
    monkeypatch.setattr(progress, "console", Console(file=written, force_terminal=True, width=80, highlight=False))
    with progress.progress_bar("decoding", 73_012, "frames") as advance:
        advance(40_000, "55/102 recordings")
        advance(33_012, "102/102 recordings")
    shown = [Text.from_ansi(line).plain.rstrip() for line in re.split(r"[\r\n]", written.getvalue())]
    last = [line for line in shown if line][-1]
    assert last.startswith("decoding ")
    assert " 73012/73012 " in last
    assert last.endswith("102/102 recordings")
