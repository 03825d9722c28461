"""The house stays a house: doors are thin, rooms import downwards and in no circle, files and functions stay short."""

import ast
import graphlib
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import grimp
import pytest

ROOT = Path(__file__).resolve().parents[1]
ROOMS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["root_packages"]
FILES = sorted(path for room in ROOMS for path in (ROOT / room).rglob("*.py"))
DOOR_LINES, FILE_LINES, FUNCTION_LINES, PARAMETERS = 15, 420, 60, 8
COMPILED = "envs/voxel/kernels.py"
"""One file, since numba does not compile its callers anew when another file changes."""


def test_every_root_script_is_a_door() -> None:
    lines = {path.name: len(path.read_text().splitlines()) for path in ROOT.glob("*.py")}
    assert len(lines) >= 9
    assert {name: count for name, count in lines.items() if count > DOOR_LINES} == {}


def test_no_import_runs_in_a_circle(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT))
    graph = grimp.build_graph(*ROOMS, cache_dir=None)
    imports = {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}
    assert len(imports) > 200
    assert list(graphlib.TopologicalSorter(imports).static_order())


def test_a_circle_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "circling"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "one.py").write_text("import circling.two\n")
    (package / "two.py").write_text("def late():\n    from circling.one import something\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    graph = grimp.build_graph("circling", cache_dir=None)
    imports = {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}
    with pytest.raises(graphlib.CycleError):
        list(graphlib.TopologicalSorter(imports).static_order())
    sys.modules.pop("circling", None)


def test_files_hold_one_idea() -> None:
    lines = {_name(path): len(path.read_text().splitlines()) for path in FILES}
    assert {name: count for name, count in lines.items() if count > FILE_LINES and name != COMPILED} == {}


def test_agents_stay_one_room() -> None:
    assert sum(len(path.read_text().splitlines()) for path in FILES if _name(path).startswith("agents/")) <= 4500


def test_functions_fit_on_a_screen() -> None:
    assert {name: count for name, _, count, _ in _functions() if count > FUNCTION_LINES} == {}


def test_what_takes_many_arguments_says_why() -> None:
    """A comment above the function is the reason."""
    rooms = ("encoders/", "agents/")
    assert {name: count for name, count, _, reason in _functions() if count > PARAMETERS and name.startswith(rooms) and not reason} == {}


def _functions() -> Iterator[tuple[str, int, int, bool]]:
    """Yield each function's name, how many parameters and lines it has, and whether a comment stands above it."""
    for path in FILES:
        text = path.read_text()
        lines = text.splitlines()
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                arguments = node.args
                named = [one.arg for one in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)]
                first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
                explained = lines[first - 2].strip().startswith("#")
                length = (node.end_lineno or node.lineno) - node.lineno + 1
                yield f"{_name(path)}:{node.name}", len([name for name in named if name not in ("self", "cls")]), length, explained


def _name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def test_each_file_of_tests_runs_in_one_process(request: pytest.FixtureRequest) -> None:
    # pytest-xdist writes the group behind the id, which pytest 9.2 does not let it: then Rays run beside each other
    if not hasattr(request.config, "workerinput"):
        pytest.skip("tests are not shared out over processes: needs pytest --numprocesses 2")
    assert request.node.nodeid.endswith("@test_house.py")
