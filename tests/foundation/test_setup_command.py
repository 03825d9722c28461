"""check_setup.py says what of a machine can be used, and fails only where nothing can run."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from foundation import setup_command
from foundation.setup_check import Finding
from frames.readers.pictures import PICTURES

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def findings(monkeypatch):
    """Return a function that makes the script find what a test says."""

    def give(*found: Finding) -> None:
        monkeypatch.setattr(setup_command, "_findings", lambda config: iter(found))

    return give


def told(capsys, *options: str) -> tuple[int, str, str]:
    status = setup_command.check(options)
    printed = capsys.readouterr()
    return status, printed.out, printed.err


def test_a_missing_java_is_told_with_its_command_and_does_not_fail_the_check(findings, capsys):
    findings(Finding("torch", True, "2.13.0", required=True), Finding("Java 8", False, "Java 17", "apt-get install -y openjdk-8-jdk"))
    status, table, _ = told(capsys)
    assert status == 0
    line = next(line for line in table.splitlines() if line.startswith("Java 8"))
    assert line.split() == ["Java", "8", "no", "Java", "17", "apt-get", "install", "-y", "openjdk-8-jdk"]


def test_something_required_that_is_missing_fails_the_check(findings, capsys):
    findings(Finding("Ray", False, "No module named 'ray'", "make clean setup", required=True))
    status, _, errors = told(capsys)
    assert status == 1
    assert "Ray cannot be used" in errors
    assert "make clean setup" in errors


def test_json_holds_every_finding(findings, capsys):
    findings(Finding("xvfb", False, "none", "command"))
    status, printed, _ = told(capsys, "--json")
    expected = {"name": "xvfb", "usable": False, "found": "none", "remedy": "command", "required": False}
    assert (status, json.loads(printed)) == (0, {"usable": True, "findings": [expected]})


def test_recordings_are_found_where_the_variable_points(tmp_path, monkeypatch):
    np.save(tmp_path / "clip.npy", np.zeros((3, 8, 8, 3), np.uint8))
    monkeypatch.setenv("MINERL_DATA_ROOT", str(tmp_path))
    assert setup_command.check_recordings(None) == Finding("recordings", True, f"1 in {tmp_path}")


@pytest.mark.parametrize("content", ["nothing", "text"])
def test_a_folder_without_recordings_is_told(tmp_path, content):
    if content == "text":
        (tmp_path / "notes.txt").write_text("no frames here")
    found = setup_command.check_recordings(tmp_path)
    assert not found.usable
    assert "no recordings found" in found.found
    assert PICTURES.described not in found.found
    assert "docs/frame_formats.md" in found.remedy


def test_no_folder_of_recordings_is_no_failure(monkeypatch):
    monkeypatch.delenv("MINERL_DATA_ROOT", raising=False)
    found = setup_command.check_recordings(None)
    assert (found.usable, found.required) == (False, False)
    assert not setup_command.check_recordings(Path("/no/such/folder")).usable


def test_an_interpreter_without_the_packages_gets_one_line_and_the_command(tmp_path):
    ran = subprocess.run([sys.executable, "-S", "-E", ROOT / "check_setup.py"], capture_output=True, text=True, timeout=60)
    assert ran.returncode == 1
    assert len(ran.stderr.splitlines()) == 1
    assert "make setup" in ran.stderr
