"""Every text from outside is printed on one line, of at most 300 characters, without what a terminal or markup obeys."""

import ast
import io
from pathlib import Path

import pytest
from matplotlib.figure import Figure
from rich.table import Table

from foundation import progress
from foundation.errors import figure_label, nearest, shown, shown_line
from foundation.progress import PlainConsole, cells, progress_bar, say, tell_result
from tests.test_house import FILES, ROOT

HOSTILE = ("\x1b[2J\x1b]0;owned\x07", "two\nlines\r\n", "[red]", "[/]", "half \udce9", "\u202eturned", "\u2028\x9b31m", ":smile:")
PRINTING = {
    # standard output is what they are for: JSON, a usage, lines that a game's client waits for
    *("foundation/command.py", "foundation/presets.py", "foundation/setup_command.py", "envs/minerl/voxel_server.py"),
    # imports nothing of ours
    "encoders/cwvae/scan.py",
}


def test_nothing_is_printed_past_the_functions_that_look_at_it() -> None:
    found = set()
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text())):
            name = path.relative_to(ROOT).as_posix()
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("print", "Console"):
                found.add((name, node.func.id))
    assert {name for name, _ in found} <= PRINTING
    assert ("foundation/progress.py", "Console") not in found


@pytest.mark.parametrize("text", HOSTILE)
def test_lines_tables_and_bars_show_hostile_texts_and_obey_none(text: str, capsys: pytest.CaptureFixture[str], monkeypatch) -> None:
    tell_result(f"wrote {text}")
    terminal = PlainConsole(file=io.StringIO(), force_terminal=True, color_system=None, width=100, _environ={})
    monkeypatch.setattr(progress, "console", terminal)
    say(f"stopped {text}")
    table = Table(text)
    table.add_row(*cells([text]))
    table.add_row(text)
    terminal.print(table)
    with progress_bar(text, 10) as advance:
        advance(5, note=text)
    out = capsys.readouterr().out
    assert out.count("\n") == 1
    assert out == f"wrote {shown_line(text)}\n"
    for printed in (out, terminal.file.getvalue()):
        # the bar's own: lines, the start of a line, and where the cursor goes
        for ours in ("\n", "\r", "\x1b[?25l", "\x1b[?25h", "\x1b[2K", "\x1b[1A"):
            printed = printed.replace(ours, "")
        assert shown_line(printed) == printed or all(part == shown_line(part) for part in printed.split(" "))
        assert "\x1b" not in printed
        assert text.strip() in printed or not text.strip().isprintable()


@pytest.mark.parametrize("text", ["Q" * 1_000_000, "Q " * 500_000, "\n" * 1_000_000])
def test_a_megabyte_is_three_hundred_letters(text: str) -> None:
    assert len(shown(text)) <= 300
    assert len(shown_line(f"{text}: cannot be read")) <= 1500
    assert "Q" * 301 not in shown_line(f"{text}: cannot be read")
    assert len(nearest(text, ["one", "two"])) < 100


@pytest.mark.parametrize("text", ["$x_{$", "costs 3 $ and 4 $", "half \udce9", r"\$ $\frac$", "a\nb"])
def test_a_figure_shows_any_label_as_it_is(text: str) -> None:
    figure = Figure(figsize=(2, 1))
    drawn = figure.text(0, 0, figure_label(text))
    figure.savefig(io.BytesIO(), format="svg")
    figure.savefig(io.BytesIO(), format="png")
    assert drawn.get_text().replace(r"\$", "$") == shown(text)


def test_a_formula_in_a_label_would_end_the_report() -> None:
    figure = Figure(figsize=(2, 1))
    figure.text(0, 0, "$x_{$")
    with pytest.raises(ValueError, match="Expected"):
        figure.savefig(io.BytesIO(), format="png")


def test_paths_of_usual_length_stay_whole() -> None:
    path = Path("/data") / "/".join(["recordings of a long name"] * 20)
    assert str(path) in shown_line(f"wrote {path}: ready")
