"""Whole commands without their seconds of imports: each runs in a fork of one warm process, and how it ended is seen from outside.

As a program, `python forking.py CHECKOUT` takes a case a line as JSON from standard input and answers with one. Ray stays out: where a
command has come as far as to start it, the case says whether the work is done in the fork ("work") or is not part of the case.
"""

import contextlib
import importlib
import json
import os
import resource
import runpy
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import Any

LIMIT_SECONDS = 20.0
"""Of a processor's time: however busy the machine is, it is the same."""
_ASK_TO_STOP_SECONDS = 12.0
"""Work that was asked for, and takes long, is no fault: a command that is asked to stop does so within what is left."""
_HANGS_SECONDS = 90.0
"""A command that does nothing either."""
_MEMORY = 14 * 2**30
"""Of addresses: what a hostile size would take stops here."""
_MOST_OUTPUT = 4 * 2**20
_WARM = (
    *("torch", "stable_baselines3", "sb3_contrib", "matplotlib.backends.backend_agg", "matplotlib.backends.backend_svg"),
    *("torch.utils.tensorboard", "sklearn.linear_model", "cv2", "lmdb", "envs.voxel.env", "evaluation.judging", "evaluation.command"),
    *("pretraining.training", "collecting.command", "pretraining.encoder_command", "agents.running", "agents.playing"),
    *("agents.films", "agents.command", "comparison.running", "comparison.command", "comparison.demo", "search.running", "search.command"),
    *("encoders.critic", "encoders.critic_vae", "encoders.cwvae", "encoders.efficientmorl", "encoders.nvae", "encoders.conv.points"),
    *("encoders.pca", "foundation.setup_command", "ray", "frames.looking.command"),
)


class Forks:
    """A warm process of a checkout, and its forks."""

    def __init__(self, checkout: Path, home: Path) -> None:
        home.mkdir(parents=True, exist_ok=True)
        (home / "tmp").mkdir(exist_ok=True)
        environment = {**os.environ, "PYTHONPATH": str(checkout), "HOME": str(home), "TMPDIR": str(home / "tmp"), "OMP_NUM_THREADS": "1"}
        environment |= {"CUDA_VISIBLE_DEVICES": "", "PYTHONDONTWRITEBYTECODE": "1", "COLUMNS": "120"}
        # the list of fonts, which takes long to make, stays where it is
        environment.setdefault("MPLCONFIGDIR", str(Path.home() / ".cache" / "matplotlib"))
        command = [sys.executable, str(Path(__file__).resolve()), str(checkout)]
        self._server = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, text=True)

    def run(self, folder: Path, words: list[str], work: bool = False) -> dict[str, Any]:
        """Run a root script with its words in a folder; return its "status" (negative: the signal), "output" and "seconds"."""
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._server.stdin.write(json.dumps({"folder": str(folder), "words": words, "work": work}) + "\n")
        self._server.stdin.flush()
        return json.loads(self._server.stdout.readline())

    def close(self) -> None:
        assert self._server.stdin is not None
        self._server.stdin.close()
        try:
            self._server.wait(10)
        # what its threads wait for is nobody's concern any more
        except subprocess.TimeoutExpired:
            self._server.kill()
            self._server.wait()


def serve(checkout: Path) -> None:
    sys.path[0] = str(checkout)
    answers = os.dup(1)
    os.dup2(2, 1)
    for name in _WARM:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    for line in sys.stdin:
        os.write(answers, (json.dumps(_forked(checkout, json.loads(line))) + "\n").encode())


def _forked(checkout: Path, case: dict[str, Any]) -> dict[str, Any]:
    with tempfile.TemporaryFile() as output:
        begun = time.monotonic()
        child = os.fork()
        if child == 0:
            _be_the_command(checkout, case, output.fileno())
        status, asked = None, case["work"]
        while status is None:
            done, found, used = os.wait4(child, os.WNOHANG)
            passed = time.monotonic() - begun
            seconds = used.ru_utime + used.ru_stime if done else _processor_seconds(child)
            if done:
                status = os.waitstatus_to_exitcode(found)
            elif not case["work"] and (seconds > LIMIT_SECONDS or passed > _HANGS_SECONDS):
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)
                status = -signal.SIGKILL
            elif seconds > _ASK_TO_STOP_SECONDS and not asked:
                asked = True
                os.kill(child, signal.SIGTERM)
            else:
                time.sleep(0.005 if passed < 1 else 0.05)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(child, signal.SIGKILL)
        output.seek(0)
        printed = output.read(_MOST_OUTPUT).decode(errors="replace")
    return {"status": status, "output": printed, "seconds": seconds}


def _processor_seconds(child: int) -> float:
    fields = Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _be_the_command(checkout: Path, case: dict[str, Any], output: int) -> None:
    """Do what the interpreter does with a script, and end."""
    status: Any = 1
    try:
        os.setsid()
        os.chdir(case["folder"])
        nowhere = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nowhere, 0)
        os.dup2(output, 1)
        os.dup2(output, 2)
        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
        _leave_ray_out(case["work"])
        door, *words = case["words"]
        sys.argv = [str(checkout / door), *words]
        runpy.run_path(sys.argv[0], run_name="__main__")
        status = 0
    except SystemExit as ended:
        status = ended.code
        if isinstance(status, str):
            print(status, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status if isinstance(status, int) else 0 if status is None else 1)


def _leave_ray_out(work: bool) -> None:
    import agents.running
    import comparison.comparison
    import search.running
    from agents.cluster.worker import Outcome
    from foundation.errors import UserError

    def done_here(jobs: Any, workers: Any, ended: Any, watch: Any, *rest: Any, **more: Any) -> None:
        if not work:
            print("as far as Ray: accepted")
            raise SystemExit(0)
        for job in jobs:
            try:
                ended(Outcome(job.key, "finished", job.function(job.argument, lambda steps, note: False)))
            except UserError as error:
                ended(Outcome(job.key, "failed", message=str(error), user_error=True))
            except Exception as error:
                details = traceback.format_exc()
                print(details)
                ended(Outcome(job.key, "failed", message=f"{type(error).__name__}: {error}", details=details))

    for module in (agents.running, comparison.comparison):
        module.ray_cluster = lambda *given, **more: contextlib.nullcontext()  # type: ignore[attr-defined]
        module.run_jobs = done_here  # type: ignore[attr-defined]
    search.running.run_trials = lambda *given, **more: None  # type: ignore[attr-defined]


if __name__ == "__main__":
    serve(Path(sys.argv[1]).resolve())
