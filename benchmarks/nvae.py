"""How fast an NVAE trains and encodes, what it keeps in memory, and what its regularisation costs. Needs torch and numpy, no store.

python benchmarks/nvae.py [--presets nvae_small nvae_medium nvae_minecraft nvae_celeba64] [--batch 16] [--threads 1] [--report FILE.md]
python benchmarks/nvae.py --device cuda --dtype bf16 --batch 64

Frames are synthetic: speed does not depend on them. Shapes: B batch, C channels, H height, W width.
"""

import argparse
import contextlib
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

# this file's folder would hide the rooms of the product
sys.path[0] = str(Path(__file__).resolve().parent.parent)

import numpy as np  # noqa: E402
import torch  # noqa: E402

from encoders.encoder import Batch  # noqa: E402
from encoders.nvae.cells import Cell  # noqa: E402
from encoders.nvae.hyperparameters import NVAEHyperparameters  # noqa: E402
from encoders.nvae.model import NVAE  # noqa: E402

OURS: dict[str, Any] = {
    "preprocess_cells": 2,
    "postprocess_cells": 2,
    "scales": 3,
    "adaptive_groups": True,
    "squeeze_excite": True,
    "residual_posterior": True,
}
SMALL: dict[str, Any] = {"encoder_channels": 24, "decoder_channels": 24, "groups": 4, "coarse_scales": 2}
CELEBA64: dict[str, Any] = {"encoder_channels": 64, "decoder_channels": 64, "encoder_cells": 2, "decoder_cells": 2, "flows": 1}
PRESETS = {
    "nvae_small": NVAEHyperparameters(**OURS, **SMALL, regularisation=0.01),
    "nvae_medium": NVAEHyperparameters(**OURS, blocks=1, groups=5, coarse_scales=2, regularisation=0.01),
    "nvae_minecraft": NVAEHyperparameters(),
    "nvae_celeba64": NVAEHyperparameters(**OURS, **CELEBA64, blocks=1, groups=20, regularisation=0.1, checkpoint_activations=True),
}
GRADIENT_CLIP = 1000
READINGS = ("top", "coarse", "pooled", "top_down")
MEGABYTE = 2**20


class Way(NamedTuple):
    """A way to take a training step."""

    checkpointed: bool
    regularised: bool


WAYS = {"kept": Way(False, True), "checkpointed": Way(True, True), "unregularised": Way(False, False)}


class Measured:
    """One preset's model and data, and the ways to be timed."""

    def __init__(self, h: NVAEHyperparameters, options: argparse.Namespace) -> None:
        self.options, self.device = options, torch.device(options.device)
        torch.manual_seed(0)
        self.model: NVAE = NVAE(h).to(self.device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-4, weight_decay=0, fused=True)
        self.steps = 0
        height, width, channels = h.frame_shape
        pictures = np.random.default_rng(0).random((options.batch, 1, channels, height, width), np.float32)
        self.frames = torch.from_numpy(pictures).to(self.device)
        self.encoded_BCHW = self.frames[: options.encode_batch, 0].contiguous(memory_format=torch.channels_last)

    def autocast(self) -> contextlib.AbstractContextManager[Any]:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.options.dtype == "bf16")

    def step(self, way: Way) -> Callable[[], None]:
        """Return a whole training step: loss, way back, clipping, optimizer."""

        def run() -> None:
            with _as(self.model.train(), way):
                with self.autocast():
                    loss = self.model.loss(Batch(self.frames), self.steps)["loss"]
                self.optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                torch.nn.utils.clip_grad_norm_(self.model.parameters(), GRADIENT_CLIP)
                self.optimizer.step()
            self.steps += 1

        return run

    def encode(self, reading: str) -> Callable[[], None]:
        """Return the encoding of a batch for one reading, as a frozen encoder does it."""

        def run() -> None:
            self.model.eval()
            with torch.inference_mode(), self.autocast():
                self.model.encode(self.encoded_BCHW, {}, latents=reading)

        return run

    def training_ways(self) -> dict[str, Callable[[], None]]:
        """Return the steps to be timed; `unregularised` only where there is something to leave out."""
        regularised = self.model.spectral_norms is not None
        return {name: self.step(way) for name, way in WAYS.items() if way.regularised or regularised}

    def peak(self, call: Callable[[], None]) -> float | None:
        """Return the largest memory in MiB during a call: what torch has allocated on CUDA, what the process occupies on a CPU."""
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
            call()
            return torch.cuda.max_memory_allocated() / MEGABYTE
        return _peak_resident(call)


@contextlib.contextmanager
def _as(model: NVAE, way: Way) -> Iterator[None]:
    """Let the model be the way's for a while."""
    cells, norms = [part for part in model.modules() if isinstance(part, Cell)], model.spectral_norms
    before = [cell.checkpointed for cell in cells]
    for cell in cells:
        cell.checkpointed = way.checkpointed
    model.spectral_norms = norms if way.regularised else None
    try:
        yield
    finally:
        model.spectral_norms = norms
        for cell, checkpointed in zip(cells, before, strict=True):
            cell.checkpointed = checkpointed


def _peak_resident(call: Callable[[], None]) -> float | None:
    """Return the largest memory of the process in MiB during a call; None where the system cannot start counting anew."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return None
    call()
    status = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in status if line.startswith("VmHWM"))


def timed(ways: dict[str, Callable[[], None]], options: argparse.Namespace) -> dict[str, float]:
    """Return the median seconds of a call of each way; they take turns, so that a busy machine hurts all alike.

    One thread on the CPU is measured in CPU seconds: what other processes take of the machine does not count.
    """
    clock = time.process_time if options.device == "cpu" and options.threads == 1 else time.perf_counter
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(1 + options.steps):
        for name, call in ways.items():
            _wait(options)
            begun = clock()
            call()
            _wait(options)
            seconds[name].append(clock() - begun)
    # the first turn warms up
    return {name: statistics.median(found[1:]) for name, found in seconds.items()}


def _wait(options: argparse.Namespace) -> None:
    if options.device == "cuda":
        torch.cuda.synchronize()


def rows_of(name: str, options: argparse.Namespace) -> tuple[list[str], list[str]]:
    """Measure a preset; return its row of the training table and of the encoding table."""
    one = Measured(PRESETS[name], options)
    ways = one.training_ways()
    step = timed(ways, options)
    peaks = {way: one.peak(ways[way]) for way in ("checkpointed", "kept")}
    encoding = timed({reading: one.encode(reading) for reading in READINGS}, options)
    parameters = sum(parameter.numel() for parameter in one.model.parameters())
    training = [
        name,
        f"{parameters:,}",
        *(f"{step[way]:.3f}" for way in ("kept", "checkpointed")),
        *(f"{options.batch / step[way]:.2f}" for way in ("kept", "checkpointed")),
        f"{1 - step['unregularised'] / step['kept']:.1%}" if "unregularised" in step else "-",
        *("-" if peaks[way] is None else f"{peaks[way]:,.0f}" for way in ("kept", "checkpointed")),
    ]
    return training, [name, *(f"{len(one.encoded_BCHW) / encoding[reading]:,.1f}" for reading in READINGS)]


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table, numbers to the right."""
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def report(options: argparse.Namespace) -> str:
    """Measure all presets and return the tables."""
    load = os.getloadavg()[0]
    training, encoding = zip(*(rows_of(name, options) for name in options.presets), strict=True)
    machine = torch.cuda.get_device_name() if options.device == "cuda" else f"{os.cpu_count()} CPU cores{_instructions()}"
    measured = "CPU seconds" if options.device == "cpu" and options.threads == 1 else "wall time"
    memory = "allocated by torch" if options.device == "cuda" else "of the process, with weights and optimizer"
    columns = ("preset", "parameters", "s a step", "checkpointed", "images/s", "checkpointed", "regularisation", "peak MiB", "checkpointed")
    return f"""# How fast an NVAE is

{machine}, {options.dtype}, {options.threads} thread(s), torch {torch.__version__}, Python {platform.python_version()}; {measured}, medians
of {options.steps} turns; load average {load:.1f} before and {os.getloadavg()[0]:.1f} after. Written by
`python benchmarks/nvae.py {" ".join(sys.argv[1:])}`.

## Training

Loss, way back, clipping, optimizer; {options.batch} frames a step. "checkpointed": only the cells' inputs are kept for the way back.
"regularisation": its share of the step, from the same step with and without, in turns. "peak": memory {memory}.

{table(columns, training)}

## Encoding

Frames/s by reading, {min(options.batch, options.encode_batch)} frames a call.

{table(("preset", *READINGS), encoding)}
"""


def _instructions() -> str:
    """Say whether the CPU multiplies matrices of bfloat16 in hardware, where the system tells."""
    try:
        return " with AMX" if " amx_bf16" in Path("/proc/cpuinfo").read_text() else " without AMX"
    except OSError:
        return ""


def parsed(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="How fast an NVAE trains and encodes.")
    parser.add_argument("--presets", nargs="+", choices=PRESETS, default=list(PRESETS), metavar="PRESET", help=", ".join(PRESETS))
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--dtype", choices=("fp32", "bf16"), default="fp32")
    parser.add_argument("--batch", type=int, default=16, help="frames a training step, 2 or more")
    parser.add_argument("--encode-batch", type=int, default=8, help="frames a call of encode; no more than --batch")
    parser.add_argument("--steps", type=int, default=3, help="turns of each measurement, after one that warms up")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--report", type=Path, help="write the tables here too")
    options = parser.parse_args(argv)
    if options.batch < 2:
        parser.error("--batch: batch normalisation needs 2 frames or more")
    if min(options.steps, options.encode_batch, options.threads) < 1:
        parser.error("--steps, --encode-batch and --threads must be 1 or more")
    if options.device == "cuda" and not torch.cuda.is_available():
        parser.error("--device cuda: torch sees no CUDA device")
    return options


def main() -> None:
    options = parsed()
    torch.set_num_threads(options.threads)
    text = report(options)
    print(text)
    if options.report is not None:
        options.report.write_text(text)


if __name__ == "__main__":
    main()
