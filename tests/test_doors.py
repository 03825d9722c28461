"""Root scripts read their options before anything heavy is imported, and Ctrl-C ends them at any moment without a traceback."""

import ast
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fixtures.processes import heeding_signals

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


@pytest.mark.parametrize(
    "words",
    [
        ("compare_encoders.py", "voxel_treechop"),
        ("demo.py", "voxel"),
        ("make_frames.py", "build"),
        ("make_frames.py", "export"),
        ("train_agent.py", "voxel_treechop"),
        ("train_encoder.py", "nvae_debug"),
        ("tune_agent.py", "voxel_treechop"),
    ],
)
def test_so_are_the_options_of_a_part_or_a_preset(words: tuple[str, ...]) -> None:
    printed, modules = imported_by(*words, "--help")
    assert "--" in printed
    assert modules.isdisjoint(HEAVY), modules & set(HEAVY)


def test_the_options_of_every_model_are_known_without_torch() -> None:
    code = "import sys, encoders.registry as registry\nfor name in registry.BUILT_IN:\n    registry.hyperparameters_class(name)()"
    code += f"\nprint(sorted(set(sys.modules) & set({HEAVY})))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=ENVIRONMENT, timeout=120)
    assert ran.stdout == "[]\n", ran.stdout + ran.stderr


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
    streams = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
    with heeding_signals():
        return subprocess.Popen([sys.executable, *words], **streams, text=True, cwd=ROOT, env=ENVIRONMENT)


def stopped(number: int, moment: str | int, *words: str) -> tuple[int, list[str]]:
    """Send a command a signal once it has imported a module, or so many beyond its door; return its status, and what it said."""
    with started("-X", "importtime", *words) as process:
        assert process.stderr is not None
        said, count = [], None
        for line in process.stderr:
            said.append(line)
            # the interpreter says on standard error what it has just imported
            name = line.rpartition("|")[2].strip() if line.startswith("import time:") else ""
            # the next import is the command's first; a door's own millisecond comes before
            count = 0 if name == "foundation.command" else count
            if name and (name == moment or count == moment):
                process.send_signal(number)
                break
            count = None if count is None else count + bool(name)
        said += process.stderr.readlines()
    return process.wait(), [line for line in said if not line.startswith("import time:")]


# seconds before the command ends by itself
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("moment", ["pretraining", "tyro", "foundation.presets"])
def test_a_stop_while_a_command_starts_ends_it_without_a_traceback(number: int, moment: str, tmp_path: Path) -> None:
    assert stopped(number, moment, *train(tmp_path)) == (128 + number, [])


# of the program that renders options, and so after the door and before the work of each
@pytest.mark.parametrize("script", SCRIPTS)
def test_so_it_does_in_every_script(script: str) -> None:
    assert stopped(signal.SIGINT, "foundation.errors", script, "--help") == (130, [])


@pytest.mark.extended
@pytest.mark.parametrize("script", ["train_encoder.py", "make_frames.py", "compare_encoders.py"])
def test_a_stop_at_any_moment_of_the_imports_ends_a_command_without_a_traceback(script: str, tmp_path: Path) -> None:
    words = {
        "train_encoder.py": train(tmp_path),
        "make_frames.py": [script, "build", "--source", "VoxelTreechop-v0", "--debug", "--store", str(tmp_path / "store")],
        "compare_encoders.py": [script, "debug", "--controls", "pixels", "--run", str(tmp_path / "run")],
    }[script]
    drawn = random.Random(script)
    moments = [(drawn.choice([signal.SIGINT, signal.SIGTERM]), drawn.randrange(1, 600)) for _ in range(40)]
    assert [(number, at) for number, at in moments if stopped(number, at, *words) != (128 + number, [])] == []


@pytest.mark.parametrize("moment", ["yaml", "numpy", "torch._C", "torch.fx.passes", "encoders.training.loop", "frames.store"])
def test_ctrl_c_just_before_a_module_is_imported_ends_the_command_too(moment: str, tmp_path: Path) -> None:
    with started("-c", _INTERRUPTED, moment, *train(tmp_path)) as process:
        _, said = process.communicate(timeout=120)
    assert (process.returncode, said) == (130, "")
    assert not (tmp_path / "run").exists()
