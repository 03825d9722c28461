"""A Ray of this machine for one command: it listens on loopback alone, and only its own processes have its token.

Ray by itself listens on every interface, keeps one token for all its Rays in ~/.ray/auth_token, readable for every user of the machine,
and its sessions in /tmp/ray, writable for all. Clusters of the user's own are not ours: nothing here touches how they are reached.
"""

import fcntl
import logging
import os
import resource
import secrets
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from foundation.environment import environment_variables
from foundation.errors import UserError, in_one_line

_ROOT = Path(__file__).resolve().parents[1]
_PREFIX = "minerl-ray-"
"""How the names of our folders begin: those of killed processes are known by it, and removed."""
_LONGEST_BASE = 17
"""Letters of the folder above ours: the longest path of a Ray's Unix socket has 86 more, and macOS takes 103."""
_SHARED_BYTES = 128 * 2**20
"""Memory that a Ray's processes share, a file to the kernel."""
_REMOVAL_TRIES, _REMOVAL_SECONDS = 20, 0.1
_STARTS = 2
"""Ray gives each of its parts 15 seconds to start, which a machine that is busy at the moment does not always make."""
_QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    # workers would run at niceness 15 and starve beside anything else
    "RAY_worker_niceness": "0",
}


@contextmanager
def local_ray(cpus: int, variables: Mapping[str, str] | None = None) -> Iterator[Path]:
    """Run a Ray of this machine with `cpus` CPUs for the time of the block, quietly; its workers get the environment `variables` too.

    Yields its folder (0700): the token (0600), Ray's sessions, sockets and logs are there, and all of it is gone at the end. Whether
    somebody else's program may connect is not left to the user's environment: RAY_AUTH_MODE, RAY_AUTH_TOKEN and RAY_AUTH_TOKEN_PATH,
    which may be meant for a cluster, are ours for the time of the block. Raises `UserError` where Ray does not start.
    """
    _check_file_size()
    paths = os.pathsep.join(filter(None, (str(_ROOT), os.environ.get("PYTHONPATH"))))
    # before there is anything to remove: who stops a command in the middle of an import ends it at once
    import ray

    tame()
    with _own_folder() as folder, ExitStack() as stack:
        quiet = {name: os.environ.get(name, value) for name, value in _QUIET.items()}
        stack.enter_context(_environment(quiet | _credentials(folder)))
        stack.enter_context(_bound_to_loopback())
        stack.callback(ray.shutdown)
        environment = {"env_vars": {"PYTHONPATH": paths, **(variables or {})}}
        for left in reversed(range(_STARTS)):
            try:
                ray.init(
                    address="local",
                    num_cpus=cpus,
                    include_dashboard=False,
                    log_to_driver=False,
                    logging_level=logging.ERROR,
                    object_store_memory=_SHARED_BYTES,
                    runtime_env=environment,
                    # a folder inside, since Ray makes its own one writable for all
                    _temp_dir=str(folder / str(left)),
                )
                break
            except Exception as error:  # Ray raises bare exceptions where a part of it does not answer in time
                reason = _reason(error, folder / str(left))
                _end_started(folder)
                if not left:
                    raise UserError(f"Ray did not start on this machine ({reason}); try again when it is less busy") from error
                ray.shutdown()
        yield folder


def _check_file_size() -> None:
    """Raise `UserError` under a `ulimit -f` below what a Ray needs: its processes would be killed for it, and waited for by minutes."""
    most, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
    needed = _SHARED_BYTES + 2**20  # what describes the memory takes some, too
    if most != resource.RLIM_INFINITY and most < needed:
        raise UserError(f"files may have {most:,} bytes here (ulimit -f), and Ray needs one of {needed:,}: ulimit -f unlimited")


def tame() -> None:
    """Keep Ray out of the terminal and off this process's signals.

    It prints of every death, up to forty lines of its own state, which stay in its logs; and it would end a command that gets SIGTERM
    with status 15, before anything is saved.
    """
    import ray._private.utils
    import ray._private.worker

    ray._private.worker.print_to_stdstream = lambda *_, **__: None
    ray._private.utils.set_sigterm_handler = lambda _: None


@contextmanager
def _own_folder() -> Iterator[Path]:
    """Make a folder that is this user's alone, and remove it at the end, with what killed processes have left of theirs.

    It is locked as long as its process lives, which keeps others, and systemd-tmpfiles, from removing it.
    """
    base = Path(os.environ.get("RAY_TMPDIR") or tempfile.gettempdir())
    # Ray's own choice where the sockets' paths would be too long: macOS has long ones for temporary files
    base = base if len(str(base)) <= _LONGEST_BASE else Path("/tmp")
    _remove_stale(base)
    try:
        folder, lock = _locked_folder(base)
    except OSError as error:
        raise UserError(f"{base}: no folder for Ray can be made there ({error.strerror}); free some space, or set TMPDIR") from error
    try:
        yield folder
    finally:
        _remove(folder)
        os.close(lock)


def _locked_folder(base: Path) -> tuple[Path, int]:
    while True:
        folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=base))
        # another process that is removing stale folders may be quicker than the lock
        if (lock := _lock(folder)) is not None:
            return folder, lock


def _lock(folder: Path) -> int | None:
    """Return the handle of a folder that is now this process's, or None where it is another's, gone, or no folder."""
    try:
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(handle), folder.lstat()):
            return handle
    except OSError:
        pass
    os.close(handle)
    return None


def _remove_stale(base: Path) -> None:
    """Remove the folders of this user's processes that were killed: nobody holds their lock."""
    for folder in base.glob(f"{_PREFIX}*"):
        with suppress(OSError):
            status = folder.lstat()
            if status.st_uid == os.getuid() and status.st_mode & 0o777 == 0o700 and (lock := _lock(folder)) is not None:
                shutil.rmtree(folder, ignore_errors=True)
                os.close(lock)


def _remove(folder: Path) -> None:
    # Ray's last processes may still be writing
    for _ in range(_REMOVAL_TRIES):
        shutil.rmtree(folder, ignore_errors=True)
        if not folder.exists():
            return
        time.sleep(_REMOVAL_SECONDS)


def _credentials(folder: Path) -> dict[str, str]:
    """Write a token of 32 random bytes, and return the variables by which this process and its children use that one and no other."""
    token = folder / "token"
    with open(token, "w", opener=lambda path, flags: os.open(path, flags | os.O_EXCL, 0o600)) as file:
        file.write(secrets.token_hex(32))
    # an empty RAY_AUTH_TOKEN counts as none; it would come before the path
    own = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "", "RAY_AUTH_TOKEN_PATH": str(token), "RAY_ENABLE_K8S_TOKEN_AUTH": "0"}
    return own | {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}


@contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Have these environment variables for the time of the block, in Ray's compiled part too, which keeps what it has once read."""
    try:
        with environment_variables(variables):
            _reread()
            yield
    finally:
        _reread()


def _reread() -> None:
    from ray._raylet import AuthenticationTokenLoader, Config  # type: ignore[attr-defined]

    Config.initialize("")
    AuthenticationTokenLoader.instance().reset_cache()


@contextmanager
def _bound_to_loopback() -> Iterator[None]:
    """Have a Ray that starts meanwhile use 127.0.0.1 as its node's address: what it means then is to listen on loopback only.

    That is how Ray starts on Windows and macOS. `ray.init(_node_ip_address="127.0.0.1")` alone does not do it on Linux, where Ray turns
    it into the address of an interface; and the variable RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER is read only when Ray is imported.
    """
    from ray._private import ray_constants

    before, ray_constants.ENABLE_RAY_CLUSTER = ray_constants.ENABLE_RAY_CLUSTER, False
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = before


def _end_started(folder: Path) -> None:
    """End the processes that a start that failed has left: Ray forgets them, and they would make the folder again."""
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if str(folder).encode() in (entry / "cmdline").read_bytes():
                os.kill(int(entry.name), signal.SIGKILL)


def _reason(error: Exception, folder: Path) -> str:
    """Return why Ray did not start: what its node manager ended with, where it did, says more than that nothing answers."""
    for log in folder.glob("session_2*/logs/raylet.out"):
        with suppress(OSError):
            _, found, failed = log.read_text(errors="replace").partition("Check failed: ")
            if found:
                # the condition comes first, and says something to Ray's authors only
                return in_one_line(failed.split("\n")[0].replace(str(folder), "...").rpartition("has_value() ")[2], 300)
    return in_one_line(error, 300)
