"""Root scripts read their options before anything heavy is imported, and Ctrl-C ends them at any moment without a traceback."""

import ast
import os
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SCRIPTS = sorted(path.name for path in ROOT.glob("*.py"))
HEAVY = ("cv2", "gymnasium", "lmdb", "matplotlib", "numba", "ray", "sb3_contrib", "scipy", "stable_baselines3", "torch")
ENVIRONMENT = os.environ | {"PYTHONPATH": str(ROOT)}
_RUN = """
import runpy, sys
sys.argv = sys.argv[1:]
try:
    runpy.run_path(sys.argv[0], run_name='__main__')
except SystemExit as ended:
    print('status', ended.code)
print('imported', *sorted(sys.modules))
"""


def imported_by(*words: str) -> tuple[str, set[str]]:
    """Return what a script prints and which modules it has imported when it ends with status 0."""
    ran = subprocess.run([sys.executable, "-c", _RUN, *words], capture_output=True, text=True, cwd=ROOT, env=ENVIRONMENT, timeout=120)
    printed, _, modules = ran.stdout.rpartition("status 0\nimported ")
    assert modules, ran.stdout + ran.stderr
    return printed, set(modules.split())


@pytest.mark.parametrize("script", SCRIPTS)
def test_help_is_there_before_anything_heavy_is_imported(script: str) -> None:
    printed, modules = imported_by(script, "--help")
    assert "usage: " in printed
    assert modules.isdisjoint(HEAVY), modules & set(HEAVY)


@pytest.mark.parametrize("words", [("make_frames.py", "build"), ("make_frames.py", "export"), ("demo.py", "voxel")])
def test_so_are_the_options_of_a_part_or_a_preset(words: tuple[str, ...]) -> None:
    _, modules = imported_by(*words, "--help")
    assert modules.isdisjoint(HEAVY)


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_door_says_what_it_does_and_imports_one_module_before_it_can_take_a_ctrl_c(script: str) -> None:
    tree = ast.parse((ROOT / script).read_text())
    assert ast.get_docstring(tree)
    imports = [node for node in tree.body if isinstance(node, (ast.Import, ast.ImportFrom))]
    assert [ast.unparse(node) for node in imports] == ["import sys", "from foundation.command import run"]


_INTERRUPTED = """
import runpy, signal, sys
class Moment:
    def __init__(self, module):
        self.module = module
    def find_spec(self, name, *_):
        if name == self.module:
            signal.raise_signal(signal.SIGINT)
sys.meta_path.insert(0, Moment(sys.argv[1]))
sys.argv = sys.argv[2:]
runpy.run_path(sys.argv[0], run_name='__main__')
"""


def train(tmp_path: Path) -> list[str]:
    return ["train_encoder.py", "debug", "--store", str(tmp_path / "none"), "--run", str(tmp_path / "run")]


def started(*words: str) -> subprocess.Popen:
    # tests that were started in the background ignore SIGINT, and so would their children
    heeding = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    command = [sys.executable, *words]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=ROOT, env=ENVIRONMENT, preexec_fn=heeding)


# seconds before the command ends by itself; a door's own millisecond comes before them
@pytest.mark.parametrize("moment", ["pretraining", "tyro", "foundation.presets"])
def test_ctrl_c_while_a_command_starts_ends_it_without_a_traceback(moment: str, tmp_path: Path) -> None:
    with started("-X", "importtime", *train(tmp_path)) as process:
        assert process.stderr is not None
        said = []
        for line in process.stderr:
            said.append(line)
            # the interpreter says on standard error what it has just imported
            if line.startswith("import time:") and line.rpartition("|")[2].strip() == moment:
                process.send_signal(signal.SIGINT)
                break
        said += process.stderr.readlines()
    assert [line for line in said if not line.startswith("import time:")] == []
    assert process.returncode == 130


@pytest.mark.parametrize("moment", ["yaml", "numpy", "torch._C", "torch.fx.passes", "encoders.conv.vae", "frames.store"])
def test_ctrl_c_just_before_a_module_is_imported_ends_the_command_too(moment: str, tmp_path: Path) -> None:
    with started("-c", _INTERRUPTED, moment, *train(tmp_path)) as process:
        _, said = process.communicate(timeout=120)
    assert (process.returncode, said) == (130, "")
    assert not (tmp_path / "run").exists()
