"""Training refuses a precision that this CPU is slower in, and pays for the pages of its activations once."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml

from encoders.training.devices import bfloat16_slowdown, choose_precision

Command = Callable[..., int]
Cpu = Callable[..., None]


@pytest.fixture
def cpu(monkeypatch: pytest.MonkeyPatch) -> Cpu:
    """Return a way to have another CPU: what oneDNN answers, and which units there are."""

    def pretend(supported: bool, architecture: str = "x86_64", **units: bool) -> None:
        found = {"architecture": architecture}
        if architecture == "x86_64":
            found |= {"avx512_bf16": False, "amx_bf16": False, **units}
        monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: supported)
        monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: True)
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: found)

    return pretend


def training(store: Path, run: Path, precision: str, steps: int = 2) -> list[object]:
    options = ["--steps", steps, "--threads", 1, "--device", "cpu", "--precision", precision]
    return ["train_encoder.py", "debug", "--store", store, "--run", run, *options]


@pytest.mark.parametrize(("supported", "said"), [(False, "about 10 times as long"), (True, "about 2 times as long")])
def test_bfloat16_is_refused_in_one_line_on_a_cpu_without_units_for_it(
    command: Command, video_store: Path, tmp_path: Path, cpu: Cpu, capsys: pytest.CaptureFixture, supported: bool, said: str
) -> None:
    cpu(supported)
    assert command(*training(video_store, tmp_path / "run", "bfloat16")) == 2
    printed = capsys.readouterr().err.strip()
    assert "--precision bfloat16: this CPU has no bfloat16 units" in printed
    assert said in printed
    assert "--precision bfloat16-anyway" in printed
    assert "\n" not in printed
    assert not (tmp_path / "run").exists()


def test_bfloat16_trains_where_told_to_and_goes_on_where_there_are_units(
    command: Command, video_store: Path, tmp_path: Path, cpu: Cpu, capsys: pytest.CaptureFixture
) -> None:
    run = tmp_path / "run"
    cpu(False)
    assert command(*training(video_store, run, "bfloat16-anyway")) == 0
    assert yaml.safe_load((run / "config.yaml").read_text())["precision"] == "bfloat16"
    assert command(*training(video_store, run, "bfloat16", steps=4)) == 2
    cpu(True, avx512_bf16=True)
    capsys.readouterr()
    assert command(*training(video_store, run, "bfloat16", steps=4)) == 0
    assert "resumed at step 2" in capsys.readouterr().err


@pytest.mark.parametrize("precision", ["auto", "float32"])
def test_other_precisions_are_nobody_s_business(cpu: Cpu, precision: str) -> None:
    cpu(False)
    assert choose_precision(precision, torch.device("cpu")) == precision


def test_a_gpu_has_units_of_its_own(cpu: Cpu) -> None:
    cpu(False)
    assert choose_precision("bfloat16", torch.device("cuda")) == "bfloat16"


def test_amx_and_arm_count_as_units(cpu: Cpu) -> None:
    cpu(True, amx_bf16=True)
    assert bfloat16_slowdown() == 1
    cpu(True, architecture="aarch64")
    assert bfloat16_slowdown() == 1


FAULTS = """
import resource, torch
from encoders.training.memory import kept_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(4):
        torch.zeros(10 * 2**20)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

torch.set_num_threads(1)
outside = faults()
with kept_memory(torch.device("cpu")):
    # it takes some turns until blocks fit into the gaps that others left
    for _ in range(4):
        faults()
    inside = faults()
print(outside, inside, faults())
"""


@pytest.mark.skipif(not sys.platform.startswith("linux") or "glibc" not in os.confstr("CS_GNU_LIBC_VERSION"), reason="needs glibc")
def test_large_activations_take_their_pages_once_while_training_and_give_them_back_after() -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))}
    pages = 4 * 40 * 2**20 // os.sysconf("SC_PAGE_SIZE")

    def counted(**settings: str) -> list[int]:
        done = subprocess.run([sys.executable, "-c", FAULTS], env=environment | settings, capture_output=True, text=True, check=True)
        return [int(word) for word in done.stdout.split()]

    outside, inside, after = counted()
    assert inside < 0.01 * pages
    # the system may give some of them in larger pieces
    assert min(outside, after) > 0.25 * pages
    # an allocator that the user has set stays as it is
    assert counted(MALLOC_MMAP_MAX_="65536")[1] > 0.25 * pages
