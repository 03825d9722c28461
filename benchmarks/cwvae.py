"""How fast a Clockwork VAE trains and filters, beside a plain loop over its ticks, all in one run. Needs torch and numpy, no store.

python benchmarks/cwvae.py [--presets cwvae cwvae_small cwvae_tiny] [--threads 1] [--compile] [--report FILE.md]
python benchmarks/cwvae.py --presets cwvae --device cuda --batch 50 --length 100 --dtype bf16 --compile
The second is the reference's setting for MineRL: seconds a step, and hours for its 57,660 steps.

Shapes: B clips, T frames of a clip, N ticks, S stochastic, K context, E embedding.
"""

import argparse
import contextlib
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path as FilePath
from typing import Any

# this file's folder would hide the rooms of the product
sys.path[0] = str(FilePath(__file__).resolve().parent.parent)

import numpy as np  # noqa: E402
import torch  # noqa: E402
from torch import Tensor  # noqa: E402
from torch.nn import functional as F  # noqa: E402

from encoders.cwvae.cell import Cell, Gaussian, Path, gaussian_kl  # noqa: E402
from encoders.cwvae.hyperparameters import ClockworkVAEHyperparameters  # noqa: E402
from encoders.cwvae.model import ClockworkVAE, block_sums  # noqa: E402
from encoders.encoder import Batch  # noqa: E402

SMALLER: dict[str, Any] = {"clip_length": 72, "stochastic": 20, "deterministic": 200, "hidden": 200}
TINY: dict[str, Any] = {"levels": 2, "stochastic": 32, "deterministic": 128, "hidden": 128, "filters": 16, "dense_layers": 2}
PRESETS = {
    "cwvae": ClockworkVAEHyperparameters(),
    "cwvae_small": ClockworkVAEHyperparameters(**SMALLER),
    "cwvae_tiny": ClockworkVAEHyperparameters(clip_length=36, dense_units=256, frame_stddev=0.2, **TINY),
}
REFERENCE_STEPS = 57_660
STREAMS = 8
GRADIENT_CLIP = 10_000
AGREEMENT = {"float32": 1e-4, "bf16": 2e-2}


class LoopedClockworkVAE(ClockworkVAE):
    """The same model with its recurrence written out: every layer at every tick, and autograd's way back. Convolutions stay batched."""

    def unroll(
        self,
        embedded: Sequence[Tensor | None],
        shape: tuple[int, int],
        noise: Sequence[Tensor | None] | None,
        actions: Tensor | None = None,
    ) -> list[Path]:
        (count, length), factor = shape, self.hyperparameters.factor
        context_BNK = next(self.parameters()).new_zeros(count, -(-length // (factor * self.periods[-1])), sum(self.latents["bottom"]))
        paths: list[Path] = []
        for level in reversed(range(self.hyperparameters.levels)):
            evidence_BNE, drawn_BNS = block_sums(embedded[level], self.periods[level]), noise[level] if noise else None
            assert evidence_BNE is not None
            assert drawn_BNS is not None
            context_BNK = context_BNK.repeat_interleave(factor, 1)[:, : evidence_BNE.shape[1]]
            paths.insert(0, looped(self.cells[level], context_BNK, evidence_BNE, drawn_BNS))
            context_BNK = paths[0].output
        return paths


def looped(cell: Cell, context_BNK: Tensor, evidence_BNE: Tensor, noise_BNS: Tensor) -> Path:
    """Run a cell tick by tick from zeros."""
    count, ticks = evidence_BNE.shape[:2]
    z_BS, h_BD = (evidence_BNE.new_zeros(count, size) for size in (cell.stochastic, cell.gru.hidden_size))
    made: list[tuple[Tensor, ...]] = []
    for tick in range(ticks):
        h_BD = cell.gru(F.relu(cell.prior_input(torch.cat([z_BS, context_BNK[:, tick]], -1))), h_BD)
        prior, posterior = cell.prior(h_BD), cell.posterior(h_BD, evidence_BNE[:, tick])
        z_BS = posterior.mean + posterior.stddev * noise_BNS[:, tick]
        made.append((z_BS, h_BD, *posterior, *prior))
    z, h, mean, stddev, prior_mean, prior_stddev = (torch.stack(column, 1) for column in zip(*made, strict=True))
    return Path(z, h, Gaussian(mean, stddev), Gaussian(prior_mean, prior_stddev))


class Measured:
    """One preset's models and data, and the ways to be timed."""

    def __init__(self, name: str, options: argparse.Namespace) -> None:
        self.options, self.device = options, torch.device(options.device)
        torch.manual_seed(0)
        h = PRESETS[name]
        self.model = self._placed(ClockworkVAE(h))
        self.naive = self._placed(LoopedClockworkVAE(h))
        self.naive.load_state_dict(self.model.state_dict())
        self.compiled = self._placed(ClockworkVAE(h)) if options.compile else None
        if self.compiled is not None:
            self.compiled.load_state_dict(self.model.state_dict())
            self.compiled = self.compiled if self.compiled.compile_scan() else None
        height, width, channels = h.frame_shape
        length = options.length or h.clip_length
        pictures = np.random.default_rng(0).random((options.batch, length, channels, height, width), np.float32)
        self.frames_BTCHW = torch.from_numpy(pictures).to(self.device)
        self.streamed_BCHW = self.frames_BTCHW.flatten(0, 1)[:STREAMS].contiguous(memory_format=torch.channels_last)

    def _placed(self, model: ClockworkVAE) -> Any:
        return model.to(self.device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def autocast(self) -> contextlib.AbstractContextManager[Any]:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.options.dtype == "bf16")

    def check(self) -> None:
        """Raise RuntimeError unless all ways have the same loss."""
        noise = self.model.draw_noise(*self.frames_BTCHW.shape[:2])
        with torch.no_grad(), self.autocast():
            losses = [float(model.loss(Batch(self.frames_BTCHW), 0, noise)["loss"]) for model in self.trained().values()]
        if not np.allclose(losses, losses[0], rtol=AGREEMENT[self.options.dtype]):
            raise RuntimeError(f"the ways do not compute the same loss: {losses}")

    def trained(self) -> dict[str, ClockworkVAE]:
        ways = {"eager": self.model, "loop": self.naive}
        return ways if self.compiled is None else {**ways, "compiled": self.compiled}

    def step(self, model: ClockworkVAE) -> Callable[[], None]:
        """Return a whole training step: loss, way back, clipping, optimizer."""
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, eps=1e-4, weight_decay=0, fused=True)

        def run() -> None:
            with self.autocast():
                loss = model.loss(Batch(self.frames_BTCHW), 0)["loss"]
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), GRADIENT_CLIP)
            optimizer.step()

        return run

    def scan(self, model: ClockworkVAE) -> Callable[[], None]:
        """Return the recurrence of all levels, forth and back, from embeddings that are there already."""
        with torch.no_grad(), self.autocast():
            found = self.model.embed(self.frames_BTCHW)
        embedded = [None if e is None else e.detach().requires_grad_() for e in found]
        shape = (self.frames_BTCHW.shape[0], self.frames_BTCHW.shape[1])
        noise = model.draw_noise(*shape)

        def run() -> None:
            model.zero_grad()
            with self.autocast():
                paths = model.unroll(embedded, shape, noise)
            kl = torch.stack([gaussian_kl(path.posterior, path.prior).sum() for path in paths]).sum()
            (kl + paths[0].output.sum()).backward()

        return run

    def stream(self) -> Callable[[], None]:
        """Return a frame of each of 8 environments, and the next at the next call."""
        state = [self.model.initial_state(STREAMS)]

        def run() -> None:
            with torch.inference_mode(), self.autocast():
                state[0] = self.model.encode(self.streamed_BCHW, state[0])[1]

        return run

    def filter_clips(self, model: ClockworkVAE) -> Callable[[], None]:
        def run() -> None:
            with torch.inference_mode(), self.autocast():
                model.encode_clip(self.frames_BTCHW)

        return run


def timed(ways: dict[str, Callable[[], None]], options: argparse.Namespace, calls: int = 1) -> dict[str, float]:
    """Return the median seconds of a call of each way; they take turns, so that a busy machine hurts all alike.

    One thread on the CPU is measured in CPU seconds: what other processes take of the machine does not count.
    """
    clock = time.process_time if options.device == "cpu" and options.threads == 1 else time.perf_counter
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    until = None
    while until is None or len(next(iter(seconds.values()))) <= options.repeats or time.perf_counter() < until:
        for name, call in ways.items():
            begun = clock()
            for _ in range(calls):
                call()
            if options.device == "cuda":
                torch.cuda.synchronize()
            seconds[name].append((clock() - begun) / calls)
        # the first turn warms up, and compiles
        until = until or time.perf_counter() + options.seconds
    return {name: statistics.median(found[1:]) for name, found in seconds.items()}


def forget_compiled() -> None:
    """Drop what was compiled: ticks of other shapes count as recompilations, and torch.compile gives up after a few."""
    torch.compiler.reset()


def rows_of(name: str, options: argparse.Namespace) -> dict[str, list[str]]:
    """Measure a preset; return a row of each table."""
    one = Measured(name, options)
    one.check()
    clips, length = one.frames_BTCHW.shape[:2]
    models = one.trained()
    forget_compiled()
    step = timed({way: one.step(model) for way, model in models.items()}, options)
    scan = timed({way: one.scan(model) for way, model in models.items()}, options)
    forget_compiled()
    whole = timed({way: one.filter_clips(model) for way, model in models.items() if way != "loop"}, options)
    stream = timed({"eager": one.stream()}, options, calls=36)["eager"]
    size, ways = f"{clips} x {length}", ("eager", "compiled", "loop")
    parameters = sum(parameter.numel() for parameter in one.model.parameters())
    return {
        "step": [
            name,
            f"{parameters:,}",
            size,
            *(f"{1000 * step[way]:,.1f}" if way in step else "-" for way in ways),
            *(f"{clips / step[way]:.2f}" if way in step else "-" for way in ways[:2]),
            f"{step['loop'] / step['eager']:.2f}",
        ],
        "scan": [
            name,
            size,
            *(f"{1000 * scan[way]:,.1f}" if way in scan else "-" for way in ways),
            f"{scan['loop'] / scan['eager']:.2f}",
        ],
        "filter": [
            name,
            f"{STREAMS / stream:,.0f}",
            *(f"{clips * length / whole[way]:,.0f}" if way in whole else "-" for way in ways[:2]),
        ],
        "reference": [name, *(f"{step[way] * REFERENCE_STEPS / 3600:.2f}" if way in step else "-" for way in ways)],
    }


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table, numbers to the right."""
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def report(options: argparse.Namespace) -> str:
    """Measure all presets and return the tables."""
    load = os.getloadavg()[0]
    found = [rows_of(name, options) for name in options.presets]
    machine = torch.cuda.get_device_name() if options.device == "cuda" else processor()
    measured = "CPU seconds" if options.device == "cpu" and options.threads == 1 else "wall time"
    step = ("preset", "parameters", "clips x frames", "eager ms", "compiled ms", "loop ms", "clips/s", "compiled clips/s", "loop/eager")
    scan = ("preset", "clips x frames", "eager ms", "compiled ms", "loop ms", "loop/eager")
    return f"""# How fast a Clockwork VAE is

{machine}, {options.dtype}, {options.threads} thread(s), torch {torch.__version__}, Python {platform.python_version()}; {measured}, medians
of at least {options.repeats} turns; load average {load:.1f} before and {os.getloadavg()[0]:.1f} after. Written by
`python benchmarks/cwvae.py {" ".join(sys.argv[1:])}`.

## A training step

Loss, way back, clipping, optimizer. `loop` is the same model whose recurrence is a Python loop with autograd's way back; its convolutions
are batched over time as ours are.

{table(step, [rows["step"] for rows in found])}
{reference(options, [rows["reference"] for rows in found])}
## The scan alone

The recurrence of all levels, forth and back, from embeddings that are there already.

{table(scan, [rows["scan"] for rows in found])}

## Filtering

Frames/s: `encode`, a frame of each of {STREAMS} environments at a time, and `encode_clip`, whole clips of the size above.

{table(("preset", "encode", "encode_clip", "encode_clip, compiled"), [rows["filter"] for rows in found])}
"""


def reference(options: argparse.Namespace, rows: Sequence[Sequence[str]]) -> str:
    """Say how long the reference's training takes, where these are its batches."""
    if options.batch * (options.length or 0) != 50 * 100:
        return ""
    return f"\nHours for the reference's {REFERENCE_STEPS:,} steps:\n\n{table(('preset', 'eager', 'compiled', 'loop'), rows)}\n"


def processor() -> str:
    """Return the CPU's name."""
    try:
        lines = FilePath("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def main() -> None:
    parser = argparse.ArgumentParser(description="How fast a Clockwork VAE trains and filters.")
    parser.add_argument("--presets", nargs="+", choices=PRESETS, default=list(PRESETS), metavar="PRESET", help=", ".join(PRESETS))
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--batch", type=int, default=4, help="clips")
    parser.add_argument("--length", type=int, help="frames of a clip; the preset's own by default")
    parser.add_argument("--dtype", choices=AGREEMENT, default="float32")
    parser.add_argument("--compile", action="store_true", help="measure with compile_scan() too")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=3, help="turns of each measurement, at least")
    parser.add_argument("--seconds", type=float, default=2, help="length of each measurement, at least")
    parser.add_argument("--report", type=FilePath, help="write the tables here too")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    text = report(options)
    print(text)
    if options.report is not None:
        options.report.write_text(text)


if __name__ == "__main__":
    main()
