"""What the check says of a machine, against programs that stand in for the real ones."""

import os
import sys
import time
from pathlib import Path

import pytest

from foundation import setup_check
from foundation.setup_check import ask_python, check_java, check_minerl, check_xvfb, java_release, run_program


@pytest.fixture
def programs(tmp_path, monkeypatch):
    """Return a function that puts a shell script of a name on a PATH that holds nothing else."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.delenv("DISPLAY", raising=False)

    def put(name: str, script: str) -> Path:
        path = folder / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        return path

    return put


def prints_version(version: str) -> str:
    return f"echo 'openjdk version \"{version}\"' >&2"


@pytest.mark.parametrize(("version", "release"), [("1.8.0_402", 8), ("17.0.15", 17), ("9", 9), ("21-ea", 21)])
def test_both_ways_of_counting_java_releases_are_understood(version, release):
    assert java_release(version) == release


def test_java_8_with_a_compiler_is_usable(programs):
    java = programs("java", prints_version("1.8.0_402"))
    programs("javac", "")
    found = check_java()
    assert (found.usable, found.remedy) == (True, "")
    assert str(java) in found.found
    assert "1.8.0_402" in found.found


def test_another_java_is_named_with_its_path_and_a_command(programs):
    java = programs("java", prints_version("17.0.15"))
    programs("apt-cache", "echo '  Candidate: 8u402-ga-2ubuntu1'")
    found = check_java()
    assert not found.usable
    assert f"{java} is Java 17 (17.0.15)" in found.found
    assert found.remedy.endswith("install -y openjdk-8-jdk")


def test_a_package_that_this_system_does_not_offer_is_not_recommended(programs):
    programs("apt-cache", "echo '  Candidate: (none)'")
    programs("conda", "")
    found = check_java()
    assert found.found == "no java on PATH"
    assert found.remedy == "conda install -y -c conda-forge openjdk=8"


def test_a_runtime_without_a_compiler_is_told_from_a_jdk(programs):
    programs("java", prints_version("1.8.0_402"))
    found = check_java()
    assert not found.usable
    assert "no javac" in found.found


def test_a_virtual_display_that_does_not_start_is_not_usable(programs):
    programs("Xvfb", "echo '(EE) Fatal server error: could not create a lock' >&2; exit 1")
    found = check_xvfb()
    assert not found.usable
    assert "could not create a lock" in found.found
    assert found.remedy.endswith("install -y xvfb")


def test_a_virtual_display_that_starts_is_usable(programs):
    path = programs("Xvfb", 'test "$1" = -displayfd && echo $$ > "$0.started" && echo 7 >&"$2" && exec /bin/sleep 60')
    found = check_xvfb()
    assert (found.usable, found.found) == (True, str(path))
    # it does not live on
    assert not Path("/proc", path.with_name("Xvfb.started").read_text().strip()).exists()


def test_a_virtual_display_that_is_not_installed_is_named_with_the_command(programs):
    assert check_xvfb().found == "no Xvfb on PATH"


def test_an_interpreter_that_is_none_is_named(programs):
    assert "no such program" in check_minerl("no-python-here").found
    programs("no-python", "echo hello")
    assert not check_minerl("no-python").usable


def test_minerl_is_imported_in_the_interpreter_that_was_named(tmp_path, monkeypatch):
    """A `minerl` and a `gym` that stand in for the real ones, one with a built Minecraft and one without."""
    (tmp_path / "minerl").mkdir()
    (tmp_path / "minerl" / "__init__.py").write_text("__version__ = '9.9'\nopen('leftover', 'w')\n")
    (tmp_path / "gym.py").write_text("class S: id = 'MineRLTreechop-v0'\nclass envs: registry = {'a': S}\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    found = check_minerl(sys.executable)
    assert found.usable
    assert "1 environments, without Minecraft" in found.found
    assert sys.executable in found.found
    jar = tmp_path / "minerl" / "MCP-Reborn" / "build" / "libs" / "mcprec-6.13.jar"
    jar.parent.mkdir(parents=True)
    jar.touch()
    assert check_minerl(sys.executable).found.endswith("1 environments, with Minecraft")
    assert not (tmp_path / "leftover").exists()


def test_an_interpreter_without_minerl_says_how_to_get_it(tmp_path, monkeypatch):
    (tmp_path / "gym.py").write_text("raise ModuleNotFoundError(\"No module named 'gym'\")")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    found = check_minerl()
    assert "not installed" in found.found
    assert found.remedy == "make minerl"


def test_a_probe_that_hangs_is_ended_with_what_it_started(tmp_path):
    child = tmp_path / "child"
    script = f"sleep 60 & echo $! > {child}; wait"
    ran = run_program(["/bin/sh", "-c", script], 1.0)
    assert ran.status is None
    assert "no answer within 1 s" in ran.errors
    with pytest.raises(ProcessLookupError):
        for _ in range(50):
            # a killed child stays until init has collected it
            if Path(f"/proc/{child.read_text().strip()}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                raise ProcessLookupError
            os.kill(int(child.read_text()), 0)
            time.sleep(0.02)


@pytest.mark.parametrize("code", ["print('hello')", "raise SystemExit(3)", "print([1])", "print('{')"])
def test_an_interpreter_that_answers_something_else_is_a_finding_and_no_crash(code):
    assert isinstance(ask_python(sys.executable, code, 20.0), str)


def test_a_torch_that_sees_no_device_beside_a_gpu_names_the_builds_address(programs, monkeypatch):
    answer = {"version": "2.13.0+cpu", "cuda": None, "devices": []}
    monkeypatch.setattr(setup_check, "ask_python", lambda *_: answer)
    programs("nvidia-smi", "echo 'NVIDIA T4'")
    torch, cuda = setup_check.check_torch()
    assert torch.usable
    assert not cuda.usable
    assert "NVIDIA T4 is there" in cuda.found
    assert "TORCH_INDEX" in cuda.remedy


def test_a_machine_without_a_gpu_gets_no_advice_about_one(programs, monkeypatch):
    monkeypatch.setattr(setup_check, "ask_python", lambda *_: {"version": "2.13.0", "cuda": None, "devices": []})
    torch, cuda = setup_check.check_torch()
    assert torch.usable
    assert (cuda.usable, cuda.required, cuda.remedy) == (False, False, "")
