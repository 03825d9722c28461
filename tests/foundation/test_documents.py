"""Documents from outside are read with a limit on everything, and what is wrong is said with the file and the key."""

import os
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from foundation.documents import checked, fitting, parse, read, read_checked, read_lines, schema
from foundation.errors import UserError
from foundation.outside import read_regular
from foundation.presets import read_yaml


@dataclass
class Part:
    size: int


@dataclass
class Whole:
    name: str
    parts: list[Part] = field(default_factory=list)
    best: Part | None = None


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"[" * 100_000, "deeper than 64"),
        (b'{"a":' * 500 + b"1" + b"}" * 500, "deeper than 64"),
        (b'{"name": "\\ud800"}', "half of a character"),
        (b"9" * 10_000, "not valid JSON"),
        (b"\xff\xfe\x00", "not valid JSON"),
        (b"{", "not valid JSON"),
        (b"[]", "must be a mapping"),
        (b"{}", "missing key 'name'"),
        (b'{"name": 3}', "'name' must be of type str, got 3"),
        (b'{"name": "x", "parts": [{"size": "y"}]}', r"'parts\[0\].size' must be of type int"),
        (b'{"name": "x", "best": {"other": 1}}', "missing key 'best.size'"),
    ],
)
def test_what_is_wrong_is_said_with_file_and_key(content: bytes, said: str, tmp_path: Path) -> None:
    path = tmp_path / "document.json"
    path.write_bytes(content)
    with pytest.raises(UserError, match=said) as raised:
        read_checked(Whole, path, "copy it again")
    assert str(raised.value).startswith(str(path))
    assert "copy it again" in str(raised.value)
    assert len(str(raised.value)) < len(str(path)) + 300
    assert "\n" not in str(raised.value)


def test_what_a_schema_does_not_know_stays(tmp_path: Path) -> None:
    values = {"name": "x", "parts": [{"size": 1, "more": 2}], "best": {"size": 3, "more": 4}, "more": 5}
    assert checked(Whole, values, "file") == values
    assert checked(schema({"lacks": int}, name=str), values, "file") == values


def test_a_pipe_a_device_and_a_folder_are_no_documents(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.json"
    os.mkfifo(pipe)
    for path in (pipe, Path("/dev/zero")):
        with pytest.raises(UserError, match="not a regular file"):
            read(path)
        with pytest.raises(UserError, match="not a regular file"):
            read_yaml(path)
        with pytest.raises(UserError, match="not a regular file"):
            list(read_lines(path))
    with pytest.raises(UserError, match="cannot be read"):
        read(tmp_path)


def test_a_file_of_more_bytes_than_allowed_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "large.json"
    with path.open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(UserError, match="1,099,511,627,776 bytes"):
        read(path)
    path.write_bytes(b"12345")
    assert read_regular(path, 5) == b"12345"
    with pytest.raises(UserError, match="has 5 bytes, more than the 4"):
        read_regular(path, 4)


def test_lines_that_a_kill_cut_short_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "lines.jsonl"
    path.write_bytes(b'{"step": 1}\n[1]\n{"st\n' + b"[" * 100_000 + b'\n\xff\n{"step": 2}\n{"ste')
    assert list(read_lines(path)) == [{"step": 1}, {"step": 2}]
    assert list(read_lines(tmp_path / "none")) == []


@pytest.mark.parametrize(
    "text",
    [
        "a: &a [*a]",
        "\n".join(["a0: &a0 [x, x]", *(f"a{n + 1}: &a{n + 1} [*a{n}, *a{n}, *a{n}, *a{n}]" for n in range(40))]),
        "a: " + "[" * 3000,
        "a: 2024-99-99",
        "a: " + "9" * 6000,
        "[1, 2]: 3",
        "a: \x01",
    ],
)
def test_a_preset_without_a_bottom_is_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "preset.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=r"preset\.yaml"):
        read_yaml(path)


def test_the_last_line_comes_first_where_asked_for(tmp_path: Path) -> None:
    (tmp_path / "lines").write_text('{"step": 1}\n{"step": 2}\n{"s')
    assert [line["step"] for line in read_lines(tmp_path / "lines", backwards=True)] == [2, 1]


def test_numbers_and_texts_of_any_kind_are_parsed() -> None:
    assert parse('{"a": [1, 2.5, null, "ü"]}', "file") == {"a": [1, 2.5, None, "ü"]}


def test_what_turns_out_not_to_fit_is_the_files_fault() -> None:
    with pytest.raises(UserError, match=r"resume.pt: does not fit \(KeyError: 'x'\); start over"), fitting("resume.pt", "start over"):
        raise KeyError("x")
