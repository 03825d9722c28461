"""What this machine has of all that the product can use: each thing usable, or why not and the one command that helps."""

import json
import os
import re
import select
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from foundation.command import OLDEST_PYTHON

IMPORT_SECONDS = 90.0
RAY_SECONDS = 120.0
PROGRAM_SECONDS = 20.0

# each prints one line of JSON, in an interpreter of its own
_TORCH = """
import json, torch
names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())] if torch.cuda.is_available() else []
print(json.dumps({"version": torch.__version__, "cuda": torch.version.cuda, "devices": names}))
"""
_RAY = f"""
import json, sys
sys.path.insert(0, {str(Path(__file__).resolve().parents[1])!r})
from foundation.local_ray import local_ray
with local_ray(1):
    import ray
print(json.dumps({{"version": ray.__version__}}))
"""
_MINERL = """
import glob, json, os, sys, warnings
warnings.simplefilter("ignore")
import gym, minerl
try:
    from importlib.metadata import version
    version = version("minerl")
except Exception:
    version = getattr(minerl, "__version__", "of unknown version")
registry = gym.envs.registry
specs = registry.all() if hasattr(registry, "all") else registry.values()
home = os.path.dirname(minerl.__file__)
jars = [jar for part in ("Malmo/Minecraft", "MCP-Reborn") for jar in glob.glob(os.path.join(home, part, "build", "libs", "*.jar"))]
print(json.dumps({"version": version, "ids": sum(spec.id.startswith("MineRL") for spec in specs), "built": bool(jars),
                  "python": "%d.%d" % sys.version_info[:2]}))
"""


@dataclass(frozen=True)
class Finding:
    """One thing looked for: `usable`, what was `found`, and, where that helps, the command that makes it usable."""

    name: str
    usable: bool
    found: str
    remedy: str = ""
    required: bool = False


@dataclass(frozen=True)
class Ran:
    """How a program ended: its exit status, None where it could not be run or took too long, and what it printed."""

    status: int | None
    output: str
    errors: str


def run_program(command: Sequence[str], seconds: float, folder: str | None = None) -> Ran:
    """Run a program in a session of its own for at most `seconds`; what it started is ended with it."""
    try:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=folder, start_new_session=True
        )
    except OSError as error:
        return Ran(None, "", error.strerror or str(error))
    try:
        output, errors = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, 9)
        process.communicate()
        return Ran(None, "", f"no answer within {seconds:.0f} s")
    return Ran(process.returncode, output.decode(errors="replace"), errors.decode(errors="replace"))


def ask_python(python: str, code: str, seconds: float) -> dict[str, Any] | str:
    """Return what `code` prints as its last line of JSON in the interpreter `python`, or why it did not."""
    # minerl writes ./logs where it is imported
    with tempfile.TemporaryDirectory(prefix="minerl-check-") as folder:
        ran = run_program([python, "-c", code], seconds, folder)
    try:
        answer = json.loads(ran.output.strip().splitlines()[-1])
    except (IndexError, ValueError):
        return _last_line(ran.errors) or f"ended with status {ran.status}"
    return answer if isinstance(answer, dict) else f"answered {answer!r}"


def check_python() -> Finding:
    """Look at this interpreter's version."""
    version = ".".join(map(str, sys.version_info[:3]))
    oldest = ".".join(map(str, OLDEST_PYTHON))
    usable = sys.version_info[:2] >= OLDEST_PYTHON
    return Finding("Python", usable, version, "" if usable else f"make setup PYTHON=/path/to/python{oldest}", required=True)


def check_torch() -> list[Finding]:
    """Import torch, and ask it for CUDA devices."""
    answer = ask_python(sys.executable, _TORCH, IMPORT_SECONDS)
    if isinstance(answer, str):
        return [Finding("torch", False, answer, "make clean setup", required=True), Finding("CUDA", False, "needs torch")]
    torch = Finding("torch", True, answer["version"], required=True)
    if answer["devices"]:
        return [torch, Finding("CUDA", True, f"CUDA {answer['cuda']}: {', '.join(answer['devices'])}")]
    driver = _nvidia_gpu()
    if driver is None:
        return [torch, Finding("CUDA", False, "no NVIDIA GPU or no driver (nvidia-smi); everything runs on the CPU")]
    built = f"built for CUDA {answer['cuda']}" if answer["cuda"] else "built without CUDA"
    remedy = "make clean setup TORCH_INDEX=ADDRESS (the selector on https://pytorch.org/get-started/locally shows the address)"
    return [torch, Finding("CUDA", False, f"{driver} is there, but this torch, {built}, does not see it", remedy)]


def check_ray() -> Finding:
    """Start a Ray with one CPU on this machine and end it."""
    answer = ask_python(sys.executable, _RAY, RAY_SECONDS)
    if isinstance(answer, str):
        missing = "No module named" in answer
        return Finding("Ray", False, answer, "make clean setup" if missing else "ray stop", required=True)
    return Finding("Ray", True, f"{answer['version']}, starts on this machine", required=True)


def check_minerl(python: str | None = None) -> Finding:
    """Import minerl in this interpreter, or in `python`, and see whether its Minecraft was built."""
    named = "" if python is None else f" in {python}"
    if python is not None and shutil.which(python) is None:
        return Finding("minerl", False, f"{python}: no such program", "python check_setup.py --python PATH-OF-AN-INTERPRETER")
    answer = ask_python(python or sys.executable, _MINERL, IMPORT_SECONDS)
    if isinstance(answer, str):
        if "No module named" not in answer:
            return Finding("minerl", False, f"{answer}{named}", "see docs/minerl.md, Setting up Minecraft")
        there = f"not installed{named}; another interpreter can be named: --python PATH"
        return Finding("minerl", False, there, "make minerl" if python is None else f"{python} -m pip install minerl")
    built = "with Minecraft" if answer["built"] else "without Minecraft: --env.server voxel runs, the game does not (docs/minerl.md)"
    return Finding("minerl", True, f"{answer['version']} on Python {answer['python']}{named}, {answer['ids']} environments, {built}")


def check_java() -> Finding:
    """Ask the `java` and `javac` that come first on PATH for their versions: Minecraft's build and start need a JDK 8."""
    path, remedy = shutil.which("java"), _java_remedy()
    if path is None:
        return Finding("Java 8", False, "no java on PATH", remedy)
    ran = run_program([path, "-version"], PROGRAM_SECONDS)
    version = java_version(ran.errors + ran.output)
    if version is None:
        return Finding("Java 8", False, f"{path} does not tell its version ({_last_line(ran.errors) or 'it printed nothing'})", remedy)
    if java_release(version) != 8:
        return Finding("Java 8", False, f"{path} is Java {java_release(version)} ({version}); MineRL needs Java 8", remedy)
    if shutil.which("javac") is None:
        return Finding("Java 8", False, f"{path} is {version}, but there is no javac: a JRE; building Minecraft needs the JDK", remedy)
    return Finding("Java 8", True, f"{path}, {version}")


def java_version(text: str) -> str | None:
    """Return the version that `java -version` prints."""
    match = re.search(r'version "([^"]+)"', text)
    return match.group(1) if match else None


def java_release(version: str) -> int:
    """Return 8 for 1.8.0_402 and 17 for 17.0.15; 0 where the version has no number."""
    numbers = [int(number) for number in re.findall(r"\d+", version)[:2]] or [0]
    return numbers[1] if numbers[0] == 1 and len(numbers) > 1 else numbers[0]


def check_xvfb() -> Finding:
    """Start a screen as a headless game gets one, and end it: that Xvfb is installed does not mean that it works."""
    path, remedy = shutil.which("Xvfb"), f"{_apt()} install -y xvfb"
    screen = f"; DISPLAY={os.environ['DISPLAY']} may do without" if os.environ.get("DISPLAY") else ""
    if path is None:
        return Finding("xvfb", False, f"no Xvfb on PATH{screen}", remedy)
    number, problem = _first_line([path, "-displayfd", "1", "-screen", "0", "1024x768x24", "-nolisten", "tcp"], PROGRAM_SECONDS)
    if not number:
        return Finding("xvfb", False, f"{path} does not start: {problem}{screen}", remedy)
    return Finding("xvfb", True, path)


def _first_line(command: Sequence[str], seconds: float) -> tuple[str, str]:
    """Start a program, end it once it has printed a line, or after so many seconds; return the line, and what it says on errors."""
    try:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
        )
    except OSError as error:
        return "", error.strerror or str(error)
    assert process.stdout is not None
    answered = select.select([process.stdout], [], [], seconds)[0]
    line = process.stdout.readline() if answered else b""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    errors = process.communicate()[1].decode(errors="replace")
    return line.decode(errors="replace").strip(), _last_line(errors) or f"no answer within {seconds:.0f} s"


def _java_remedy() -> str:
    if any(Path(folder, "bin", "javac").exists() for folder in Path("/usr/lib/jvm").glob("*java-8*")):
        return "sudo update-alternatives --config java" if os.getuid() else "update-alternatives --config java"
    if re.search(r"Candidate: \d", run_program(["apt-cache", "policy", "openjdk-8-jdk"], PROGRAM_SECONDS).output):
        return f"{_apt()} install -y openjdk-8-jdk"
    if shutil.which("conda"):
        return "conda install -y -c conda-forge openjdk=8"
    return "install Temurin 8 (JDK) from https://adoptium.net/temurin/releases/?version=8 and put its bin folder first on PATH"


def _apt() -> str:
    return "apt-get" if os.getuid() == 0 else "sudo apt-get"


def _nvidia_gpu() -> str | None:
    if shutil.which("nvidia-smi") is None:
        return None
    ran = run_program(["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"], PROGRAM_SECONDS)
    names = ran.output.split("\n")[0].strip()
    return names if ran.status == 0 and names else None


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else ""
