import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from foundation import command
from foundation.command import run
from foundation.errors import UserError
from tests.fixtures.processes import heeding_signals


def test_a_users_mistake_is_one_line_and_status_2(capsys):
    def main():
        raise UserError("no such store: x")

    with pytest.raises(SystemExit) as stop:
        run(main)
    assert stop.value.code == 2
    assert capsys.readouterr().err == "error: no such store: x\n"


def test_a_bug_is_not_hidden_as_a_users_mistake():
    def main():
        raise ValueError("bug")

    with pytest.raises(ValueError, match="bug"):
        run(main)


def script(code: str, *options: str, **keywords) -> subprocess.CompletedProcess:
    """Run a program with `run` in an interpreter of its own."""
    code = f"import sys\nfrom foundation.command import run\n{code}\nrun(main)\n"
    words = [sys.executable, *options, "-c", code]
    return subprocess.run(words, stderr=subprocess.PIPE, text=True, timeout=60, cwd=Path(__file__).resolve().parents[2], **keywords)


def test_a_ctrl_c_that_an_import_swallows_ends_the_command(tmp_path):
    (tmp_path / "half.py").write_text("import signal\ntry:\n    signal.raise_signal(signal.SIGINT)\nexcept BaseException:\n    pass\n")
    code = f"def main():\n    sys.path.append({str(tmp_path)!r})\n    import half\n    print('went on', file=sys.stderr)"
    with heeding_signals():
        ended = script(code)
    assert (ended.returncode, ended.stderr) == (130, "")


def test_a_ctrl_c_at_work_lets_the_command_clean_up():
    code = """
import signal
def main():
    try:
        signal.raise_signal(signal.SIGINT)
    finally:
        print('cleaned up', file=sys.stderr)
"""
    with heeding_signals():
        ended = script(code)
    assert (ended.returncode, ended.stderr) == (130, "cleaned up\n")


@pytest.mark.parametrize("statement", ["print('line\\n' * 100_000)", "print('one line')", "print('one line'); sys.exit(0)"])
def test_a_reader_that_goes_away_is_no_error(statement):
    # the read end is closed already: however little is written, nobody takes it
    reader, writer = os.pipe()
    os.close(reader)
    ended = script(f"def main():\n    {statement}", stdout=writer)
    os.close(writer)
    assert (ended.returncode, ended.stderr) == (0, "")


def test_an_interpreter_without_the_packages_is_told_which_one_has_them():
    ended = script("def main():\n    import tyro", "-S", "-E", stdout=subprocess.DEVNULL)
    assert ended.returncode == 1
    assert "No module named 'tyro'" in ended.stderr
    assert "make setup, then .venv/bin/python" in ended.stderr
    assert len(ended.stderr.splitlines()) == 1


def test_a_module_that_only_some_commands_need_is_a_bug_where_it_is_missing():
    def main():
        import no_such_module  # noqa: F401

    with pytest.raises(ModuleNotFoundError):
        run(main)


def test_an_old_python_is_told_which_one_has_the_packages(monkeypatch, capsys):
    monkeypatch.setattr(command.sys, "version_info", (3, 8, 10))
    with pytest.raises(SystemExit, match=r"Python 3\.8\.10.*make setup"):
        run(lambda: 0)


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_work_goes_on_when_its_reader_has_gone(stream: str, tmp_path: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    work = f"print('line\\n' * 100_000, file=sys.{stream}, flush=True); print('more', file=sys.{stream}, flush=True)"
    code = f"def main():\n    {work}\n    open({str(tmp_path / 'done')!r}, 'w').close()"
    words = [sys.executable, "-c", f"import sys\nfrom foundation.command import run\n{code}\nrun(main)\n"]
    ended = subprocess.run(words, **{stream: writer}, timeout=60, cwd=Path(__file__).resolve().parents[2])
    os.close(writer)
    assert ended.returncode == 0
    assert (tmp_path / "done").exists()


def test_output_on_a_full_disk_is_one_line_once_the_work_is_done(tmp_path: Path) -> None:
    with open("/dev/full", "w") as full:
        ended = script(f"def main():\n    print('line\\n' * 100_000)\n    open({str(tmp_path / 'done')!r}, 'w').close()", stdout=full)
    assert (ended.returncode, ended.stderr.count("\n")) == (2, 1)
    assert "No space left on device" in ended.stderr
    assert (tmp_path / "done").exists()


@pytest.mark.parametrize("encoding", ["latin-1", "ascii"])
def test_letters_that_the_output_lacks_are_spelled_out(encoding: str) -> None:
    environment = os.environ | {"PYTHONIOENCODING": encoding}
    code = """
from foundation.errors import UserError
def main():
    print('R\\u00b2 \\u2192 \\udcff')
    raise UserError('caf\\u00e9 \\u2192')
"""
    ended = script(code, env=environment, stdout=subprocess.PIPE, encoding=encoding)
    assert ended.returncode == 2
    assert ended.stdout.endswith("\\u2192 \\udcff\n")
    assert ended.stderr.startswith("error: caf")


@pytest.mark.parametrize("number", ["ENOSPC", "EDQUOT", "EFBIG"])
def test_a_full_disk_anywhere_is_one_line(number: str, capsys) -> None:
    def main() -> None:
        raise OSError(getattr(errno, number), "full", "/somewhere/events")

    with pytest.raises(SystemExit) as stop:
        run(main)
    assert stop.value.code == 2
    assert capsys.readouterr().err == "error: /somewhere/events: cannot be written (full); free some space and run the command again\n"
