"""A Ray of ours listens on loopback only, obeys nobody without this command's token, and leaves nothing behind."""

import os
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from foundation import local_ray as module
from foundation.errors import UserError
from foundation.local_ray import local_ray
from tests.fixtures.listening import listeners, reachable
from tests.fixtures.processes import limited_files

ROOT = Path(__file__).resolve().parents[2]
USERS_OWN = {"RAY_AUTH_TOKEN": "of-a-cluster", "RAY_AUTH_TOKEN_PATH": "/nowhere", "RAY_AUTH_MODE": "disabled"}
VARIABLES = (*USERS_OWN, "RAY_ENABLE_K8S_TOKEN_AUTH", "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "RAY_worker_niceness")
_ASK = """
import sys
from ray._raylet import GcsClient
print(GcsClient(address=sys.argv[1]).internal_kv_keys(b"session", b"session", timeout=20))
"""


@dataclass
class Seen:
    """What one Ray was, seen while it ran and after."""

    folder: Path
    modes: dict[str, int]
    listening: set[tuple[str, str, int]]
    worker: dict[str, str]
    node: str
    home: list[Path]
    variables_after: dict[str, str | None]
    answers: dict[str, subprocess.CompletedProcess]


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seen]:
    """Start a Ray where the user's environment is meant for a cluster; look at it from inside and outside."""
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        for name in VARIABLES:
            patch.delenv(name, raising=False)
        for name, value in USERS_OWN.items():
            patch.setenv(name, value)
        patch.setenv("HOME", str(home))
        with local_ray(1, {"OF_THE_WORKERS": "1"}) as folder:
            import ray

            inside = ray.remote(lambda: (dict(os.environ), ray.util.get_node_ip_address()))
            worker, node = ray.get(inside.remote())
            paths = {"folder": folder, "token": folder / "token"}
            modes = {name: stat.S_IMODE(path.lstat().st_mode) for name, path in paths.items()}
            address = ray.get_runtime_context().gcs_address
            token = (folder / "token").read_text()
            answers = {
                "with": _ask(address, RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=token),
                "without": _ask(address, RAY_AUTH_MODE="disabled"),
                "other": _ask(address, RAY_AUTH_MODE="token", RAY_AUTH_TOKEN="0" * 64),
            }
            found = listeners()
        after = {name: os.environ.get(name) for name in VARIABLES}
        yield Seen(folder, modes, found, worker, node, list(home.rglob("*")), after, answers)


def _ask(address: str, **variables: str) -> subprocess.CompletedProcess:
    """Ask Ray's head for what it stores, as a stranger's program could."""
    environment = {name: value for name, value in os.environ.items() if name not in VARIABLES} | variables
    return subprocess.run([sys.executable, "-c", _ASK, address], env=environment, capture_output=True, text=True, timeout=120)


@pytest.mark.slow
def test_a_local_ray_listens_on_loopback_only(seen: Seen) -> None:
    assert {"gcs_server", "raylet"} <= {name for name, _, _ in seen.listening}
    assert seen.node == "127.0.0.1"
    assert reachable(seen.listening) == set()


@pytest.mark.slow
def test_who_lacks_the_token_of_this_command_is_refused(seen: Seen) -> None:
    assert "session" in seen.answers["with"].stdout, seen.answers["with"].stderr
    for stranger in ("without", "other"):
        assert seen.answers[stranger].returncode != 0
        assert "session" not in seen.answers[stranger].stdout
        assert "Unauthenticated" in seen.answers[stranger].stderr or "token" in seen.answers[stranger].stderr.lower()


@pytest.mark.slow
def test_its_token_and_files_are_the_users_alone(seen: Seen) -> None:
    assert seen.modes == {"folder": 0o700, "token": 0o600}
    assert seen.home == []


@pytest.mark.slow
def test_the_mode_and_the_token_are_ours_whatever_the_user_has_set_and_theirs_again_after(seen: Seen) -> None:
    assert seen.worker["RAY_AUTH_MODE"] == "token"
    assert seen.worker["RAY_AUTH_TOKEN"] == ""
    assert seen.worker["RAY_AUTH_TOKEN_PATH"] == str(seen.folder / "token")
    assert seen.worker["OF_THE_WORKERS"] == "1"
    assert seen.variables_after == dict.fromkeys(VARIABLES) | USERS_OWN


@pytest.mark.slow
def test_nothing_of_it_is_left(seen: Seen) -> None:
    assert not seen.folder.exists()


def test_a_reader_of_sockets_sees_the_address_and_the_port_of_each() -> None:
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("", 0)) as other:
        ports = {where: server.getsockname()[1] for where, server in (("127.0.0.1", one), ("0.0.0.0", other))}
        found = {(address, port) for _, address, port in listeners()}
        assert set(ports.items()) <= found
        assert ("0.0.0.0", ports["0.0.0.0"]) in {(address, port) for _, address, port in reachable(listeners())}


@pytest.fixture
def base(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A place for folders of Rays, however long its path is; no Ray is started in it."""
    base = tmp_path_factory.mktemp("base")
    monkeypatch.setenv("RAY_TMPDIR", str(base))
    monkeypatch.setattr(module, "_LONGEST_BASE", 1000)
    return base


def test_what_killed_processes_left_is_removed_and_nothing_else(base: Path) -> None:
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r})\nfrom foundation import local_ray\nlocal_ray._LONGEST_BASE = 1000\n"
    code += "with local_ray._own_folder() as folder:\n    (folder / 'token').touch()\n    print(folder, flush=True)\n    sys.stdin.read()"
    with (
        subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as killed,
        subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as living,
    ):
        folders = [Path(process.stdout.readline().strip()) for process in (killed, living)]  # type: ignore[union-attr]
        killed.send_signal(signal.SIGKILL)
        killed.wait()
        others = [base / "minerl-other", base / "minerl-ray-of-others"]
        for other in others:
            other.mkdir(mode=0o755)
        elsewhere = base / "elsewhere"
        (elsewhere / "kept").mkdir(parents=True)
        (base / "minerl-ray-link").symlink_to(elsewhere)
        with module._own_folder() as folder:
            assert folder.parent == base
            assert not folders[0].exists()
            assert folders[1].exists()
        living.communicate("")
    assert not folders[1].exists()
    assert all(other.exists() for other in (*others, elsewhere / "kept"))


def test_a_path_too_long_for_a_socket_is_left_for_the_short_one(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_LONGEST_BASE", 17)
    with module._own_folder() as folder:
        assert folder.parent == Path("/tmp")
        # what Ray adds, with a process's number of seven digits
        longest = folder / "r" / "session_2026-11-29_17-55-58_910083_4194304" / "sockets" / "plasma_store"
        assert len(str(longest)) - len("/tmp") == 86


def test_a_place_that_cannot_be_written_to_is_one_sentence(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_TMPDIR", str(base / "none"))
    with pytest.raises(UserError, match=r"no folder for Ray can be made there \(No such file or directory\)"), local_ray(1):
        pass


def test_a_ray_that_does_not_start_says_what_its_node_ended_with(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    left = []

    def late(_temp_dir: str, **_: object) -> None:
        code = "import time; print(1, flush=True); time.sleep(600)"
        left.append(subprocess.Popen([sys.executable, "-c", code, _temp_dir], stdout=subprocess.PIPE))
        # until then its command line may be empty
        left[-1].stdout.readline()
        logs = Path(_temp_dir) / "session_2026" / "logs"
        logs.mkdir(parents=True)
        (logs / "raylet.out").write_text("all well\nC] a bug. Check failed: status.has_value() Timed out waiting for file f\nstack")
        raise Exception("The current node timed out\nduring startup.")

    monkeypatch.setattr("ray.init", late)
    said = r"did not start on this machine \(Timed out waiting for file f\)"
    with pytest.raises(UserError, match=said), local_ray(1):
        pass
    # it is tried twice, and Ray forgets what a start that failed has started
    assert [process.wait(60) for process in left] == [-signal.SIGKILL] * 2
    assert list(base.iterdir()) == []


def test_a_limit_on_files_too_small_for_a_ray_is_one_sentence_at_once() -> None:
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r})\nfrom foundation.command import run\n"
    code += "from foundation.local_ray import local_ray\ndef main():\n    with local_ray(1):\n        pass\nrun(main)"
    ended = subprocess.run(limited_files(2**20, [sys.executable, "-c", code]), capture_output=True, text=True, timeout=120)
    assert ended.returncode == 2
    assert ended.stderr == "error: files may have 1,048,576 bytes here (ulimit -f), and Ray needs one of 135,266,304: ulimit -f unlimited\n"
