"""How fast an EfficientMORL trains and encodes, beside the same model in the straightforward order, all in one run. Needs torch, no store.

python benchmarks/efficientmorl.py [--presets tetrominoes dsprites tiny] [--batch N] [--threads 1] [--bf16] [--report FILE.md]
python benchmarks/efficientmorl.py --presets tetrominoes --device cuda --batch 32

The straightforward order keeps every step's decoder until the end, goes back through three of them twice, convolves each slot laid out
with its ramp, and keeps pictures channel by channel, as torch does by default. Losses and gradients are compared before anything is
timed.
"""

import argparse
import contextlib
import os
import platform
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

# this file's folder would hide the rooms of the product
sys.path[0] = str(Path(__file__).resolve().parent.parent)

import torch  # noqa: E402
from torch import Tensor, nn  # noqa: E402

from benchmarks.cwvae import processor, table, timed  # noqa: E402
from encoders import make_encoder  # noqa: E402
from encoders.efficientmorl.decoders import Decoder  # noqa: E402
from encoders.efficientmorl.likelihoods import LIKELIHOODS, Drawn  # noqa: E402
from encoders.efficientmorl.model import EfficientMORL  # noqa: E402
from encoders.encoder import Batch  # noqa: E402

BATCHES = {"tetrominoes": 8, "dsprites": 4, "clevr6": 2, "clevr10": 1, "small": 4, "tiny": 16}
STREAMS = 8
GRADIENT_CLIP = 5.0


class StraightforwardEfficientMORL(EfficientMORL):
    """The same model, whose decoders stay in one graph until the loss goes back through all of them."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.decoder.__class__ = StraightforwardDecoder

    def score(self, x_N3HW: Tensor, z_NKD: Tensor, ramp: Tensor, caller: Any, needs_gradient: bool) -> tuple[Tensor, tuple[Tensor, Drawn]]:
        with caller.autocast():
            drawn = self.draw(z_NKD)
        nll_N = LIKELIHOODS[self.hyperparameters.likelihood](x_N3HW, drawn, self.hyperparameters.sigma)
        return caller.share * nll_N.sum(), (nll_N.detach(), Drawn(*(part.detach() for part in drawn)))


class StraightforwardDecoder(Decoder):
    """A decoder whose layers see a picture of z + ramp."""

    def forward(self, z_MD: Tensor, ramp: Tensor | None = None) -> tuple[Tensor, Tensor]:
        grid_MDHW = z_MD[:, :, None, None] + self.position(self.ramp).permute(2, 0, 1)
        drawn_M4HW = self.layers(grid_MDHW.contiguous()).to(z_MD.dtype)
        return drawn_M4HW[:, :3].sigmoid(), drawn_M4HW[:, 3]

    def first_of_ramp(self) -> Tensor:
        return self.ramp


WAYS: dict[str, tuple[type[EfficientMORL], bool]] = {
    "straightforward": (StraightforwardEfficientMORL, False),
    "ours": (EfficientMORL, False),
    "ours, bf16": (EfficientMORL, True),
}


class Measured:
    """One preset's model in one order, and what is timed of it."""

    def __init__(self, preset: str, way: str, batch: int, device: str) -> None:
        kind, self.bf16 = WAYS[way]
        self.device = torch.device(device)
        torch.manual_seed(0)
        layout = torch.contiguous_format if way == "straightforward" else torch.channels_last
        made: nn.Module = kind(make_encoder(f"efficientmorl_{preset}").hyperparameters)
        self.model: Any = made.to(self.device).to(memory_format=layout)  # type: ignore[call-overload]
        height, width, _ = self.model.frame_shape
        x_N3HW = torch.rand(max(batch, STREAMS), 3, height, width, generator=torch.Generator().manual_seed(1)).to(self.device)
        x_N3HW = x_N3HW.contiguous(memory_format=layout)
        self.trained, self.streamed = Batch(x_N3HW[:batch, None]), x_N3HW[:STREAMS]
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=1e-5, fused=True)

    def autocast(self) -> contextlib.AbstractContextManager[Any]:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16)

    def gradients(self) -> tuple[Tensor, list[Tensor]]:
        """Return loss and gradients of a step, its noise always the same."""
        torch.manual_seed(2)
        self.model.zero_grad()
        with self.autocast():
            loss = self.model.loss(self.trained, 0)["loss"]
        loss.backward()
        return loss.detach(), [parameter.grad for parameter in self.model.parameters()]

    def step(self) -> None:
        """Do a whole training step: loss, way back, clipping, optimizer."""
        with self.autocast():
            loss = self.model.loss(self.trained, 0)["loss"]
        self.optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), GRADIENT_CLIP)
        self.optimizer.step()

    def encode(self) -> None:
        with torch.inference_mode():
            self.model.encode(self.streamed, self.model.initial_state(len(self.streamed)))


def compare(one: Measured, other: Measured) -> float:
    """Return how far two orders' gradients are apart, over the largest; raise RuntimeError where their losses are not the same."""
    (loss, gradients), (other_loss, others) = one.gradients(), other.gradients()
    if not torch.allclose(loss, other_loss, rtol=1e-5):
        raise RuntimeError(f"the orders do not compute the same loss: {float(loss)} and {float(other_loss)}")
    largest = max(float(gradient.abs().max()) for gradient in gradients)
    return max(float((a - b).abs().max()) for a, b in zip(gradients, others, strict=True)) / largest


def peak_mib(preset: str, way: str, batch: int, options: argparse.Namespace) -> float:
    """Return how much memory a training step takes at most, beside what torch and the model take: in a process of its own on the CPU."""
    if options.device == "cuda":
        one = Measured(preset, way, batch, options.device)
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        one.step()
        return (torch.cuda.max_memory_allocated() - before) / 2**20
    words = [sys.executable, __file__, "--peak", way, "--presets", preset, "--batch", str(batch), "--threads", str(options.threads)]
    return float(subprocess.run(words, capture_output=True, text=True, check=True).stdout)


def print_peak(preset: str, way: str, batch: int) -> None:
    one = Measured(preset, way, batch, "cpu")
    # ru_maxrss would be the largest of the process that started this one, which Linux hands down
    Path("/proc/self/clear_refs").write_text("5")
    before = _most_kib()
    one.step()
    print((_most_kib() - before) / 1024)


def _most_kib() -> int:
    """Return the most memory this process has taken since it was last asked to forget (Linux)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))


def rows_of(preset: str, options: argparse.Namespace) -> list[list[str]]:
    """Measure a preset; return a row for each way."""
    batch = options.batch or BATCHES[preset]
    ways = [way for way, (_, bf16) in WAYS.items() if options.bf16 or not bf16]
    measured = {way: Measured(preset, way, batch, options.device) for way in ways}
    apart = {way: compare(measured["straightforward"], one) for way, one in measured.items() if not one.bf16}
    steps: dict[str, Callable[[], None]] = {way: one.step for way, one in measured.items()}
    seconds, encoding = timed(steps, options), timed({"encode": measured["ours"].encode}, options, calls=3)["encode"]
    rows = []
    for way in ways:
        rows.append(
            [
                f"{preset}, {way}",
                str(batch),
                f"{1000 * seconds[way]:,.0f}",
                f"{batch / seconds[way]:,.1f}",
                f"{seconds['straightforward'] / seconds[way]:.2f}",
                f"{peak_mib(preset, way, batch, options):,.0f}",
                f"{apart[way]:.0e}" if way in apart else "-",
                f"{STREAMS / encoding:,.0f}" if way == "ours" else "-",
            ]
        )
    return rows


def report(options: argparse.Namespace) -> str:
    """Measure all presets and return the table."""
    load = os.getloadavg()[0]
    rows = [row for preset in options.presets for row in rows_of(preset, options)]
    machine = torch.cuda.get_device_name() if options.device == "cuda" else processor()
    measured = "CPU seconds" if options.device == "cpu" and options.threads == 1 else "wall time"
    header = ("preset, order", "batch", "ms a step", "images/s", "times as fast", "MiB", "gradients apart", "encoded frames/s")
    return f"""# How fast an EfficientMORL is

{machine}, {options.threads} thread(s), torch {torch.__version__}, Python {platform.python_version()}; {measured}, medians of at least
{options.repeats} turns; load average {load:.1f} before and {os.getloadavg()[0]:.1f} after. Written by
`python benchmarks/efficientmorl.py {" ".join(sys.argv[1:])}`.

A step is loss, way back, clipping and optimizer, with as many steps of refinement as the preset begins with. MiB is what a step takes at
most beside torch and the model. Gradients are compared with the straightforward order's, over the largest of them. Encoding is of
{STREAMS} frames at a time, in float32.

{table(header, rows)}
"""


def main() -> None:
    parser = argparse.ArgumentParser(description="How fast an EfficientMORL trains and encodes.")
    parser.add_argument("--presets", nargs="+", choices=BATCHES, default=["tetrominoes", "dsprites", "tiny"], metavar="PRESET")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--batch", type=int, help="frames; by default a few, as the preset's size allows")
    parser.add_argument("--bf16", action="store_true", help="measure with bfloat16 autocast too")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=3, help="turns of each measurement, at least")
    parser.add_argument("--seconds", type=float, default=10, help="length of each measurement, at least")
    parser.add_argument("--report", type=Path, help="write the table here too")
    parser.add_argument("--peak", choices=WAYS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.peak:
        print_peak(options.presets[0], options.peak, options.batch)
        return
    text = report(options)
    print(text)
    if options.report is not None:
        options.report.write_text(text)


if __name__ == "__main__":
    main()
