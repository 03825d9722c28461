"""A hint for an unknown name is short, however many names are known."""

import pytest

from foundation.command import run
from foundation.errors import UserError, csv_cell, in_one_line, nearest


@pytest.mark.parametrize(
    ("name", "known", "hint"),
    [
        ("conv", ["conv_vae", "pca"], "did you mean 'conv_vae'?"),
        ("xyz", ["b", "a", "b"], "known: a, b"),
        ("xyz", [], "none is known"),
    ],
)
def test_the_nearest_name_is_told_or_the_few_there_are(name, known, hint) -> None:
    assert nearest(name, known) == hint


def test_of_many_names_five_are_told_none_twice() -> None:
    known = [f"{letter}{number}" for letter in "abcdefgh" for number in range(3)]
    hint = nearest("zzzzz", [*known, *known])
    listed = hint.removeprefix("known: ").removesuffix(" and 19 more").split(", ")
    assert len(set(listed)) == len(listed) == 5
    assert set(listed) <= set(known)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain: ä, 木, 🎈", "plain: ä, 木, 🎈"),
        ("two\nlines\r\nand\ttabs", "two lines and tabs"),
        ("\x1b[2J\x1b]0;title\x07", r"\x1b[2J\x1b]0;title\x07"),
        ("\x9b31m", r"\x9b31m"),
        ("abc\u202etxt.exe", r"abc\u202etxt.exe"),
        ("half \ud800", r"half \ud800"),
    ],
)
def test_text_from_outside_is_one_line_that_no_terminal_obeys(text, shown) -> None:
    assert in_one_line(text) == shown


def test_a_megabyte_is_shown_as_three_hundred_letters_at_most() -> None:
    for text in ("x" * 2**20, " " * 2**20 + "x", "\x1b" * 2**20):
        assert len(in_one_line(text, 300)) <= 300
        assert in_one_line(text, 300).endswith("...")


def test_an_error_is_printed_without_what_a_terminal_obeys(capsys) -> None:
    def fail():
        raise UserError("bad \x1b[31m\nname " + "x" * 10_000)

    with pytest.raises(SystemExit):
        run(fail)
    shown = capsys.readouterr().err
    assert shown.startswith(r"error: bad \x1b[31m name xxx")
    assert (shown.count("\n"), len(shown) < 2000) == (1, True)


@pytest.mark.parametrize("cell", ["=cmd|' /C calc'!A0", "+1", "-1+2", "@SUM(A1)", "\n=1"])
def test_no_spreadsheet_takes_a_text_for_a_formula(cell) -> None:
    assert str(csv_cell(cell)).startswith("'")


def test_numbers_and_other_texts_stay_what_they_are() -> None:
    assert [csv_cell(value) for value in (-1.5, 3, "conv_vae", "", "a=b")] == [-1.5, 3, "conv_vae", "", "a=b"]
