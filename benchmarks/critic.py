"""How fast a critic gives its value and its mask, beside the same layers written down one after the other. Needs torch, no store.

python benchmarks/critic.py [--presets critic critic_wide] [--batch 8] [--seconds 10] [--threads 1] [--report FILE.md]

The plain version has the published architecture, its weights' layout in memory and its concatenations, and gives the same numbers. Both are
timed in turn, twenty passes each, in one process. A time is the lower quartile of all passes, divided by the frames of a pass: CPU seconds
with one thread, wall time with more. Multiplications are counted in convolutions and linear layers.

Shapes: N frames, C channels, H height, W width, f the factor of channels.
"""

import argparse
import math
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

# this file's folder would hide the rooms of the product
sys.path[0] = str(Path(__file__).resolve().parent.parent)

import torch  # noqa: E402
from torch import Tensor, nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402

from benchmarks.cwvae import processor, table  # noqa: E402
from encoders import make_encoder  # noqa: E402
from encoders.critic.model import Critic  # noqa: E402

PASSES = 20
HEADER = ("preset", "what", "MMAC a frame", "ms a frame", "plain, ms a frame", "share of the plain time")


class Plain(nn.Module):
    """The published architecture, layer by layer: value and mask of frames (N, C, H, W)."""

    def __init__(self, f: int) -> None:
        super().__init__()
        ends = [(3, 8 * f), (8 * f, 8 * f), (8 * f, 8 * f), (8 * f, 16 * f)]
        self.convolutions = nn.ModuleList(nn.Conv2d(inner, outer, 3, padding=1) for inner, outer in ends)
        self.bottleneck = nn.Conv2d(16 * f, 32 * f, 4)
        self.value = nn.Sequential(nn.Flatten(), nn.Linear(32 * f, 32 * f), nn.ReLU(), nn.Linear(32 * f, 1), nn.Sigmoid())
        self.start = nn.Conv2d(32 * f, 32 * f, 1)
        ends = [(48 * f, 16 * f), (24 * f, 8 * f), (16 * f, 8 * f), (16 * f, 8 * f)]
        self.merges = nn.ModuleList(nn.Conv2d(inner, outer, 3, padding=1) for inner, outer in ends)
        self.mask = nn.Sequential(nn.Conv2d(3 + 8 * f, 16, 3, padding=1), nn.LeakyReLU(0.01), nn.Conv2d(16, 1, 3, padding=1), nn.Sigmoid())

    def adopt(self, critic: Critic) -> "Plain":
        """Take over a critic's weights."""
        theirs = (*critic.trunk.convolutions, critic.trunk.to_bottleneck, critic.value_head.hidden, critic.value_head.output)
        theirs += (critic.mask_decoder.start, *reversed(critic.mask_decoder.merges), critic.mask_decoder.hidden, critic.mask_decoder.output)
        own = [part for part in self.modules() if isinstance(part, (nn.Conv2d, nn.Linear))]
        for layer, given in zip(own, theirs, strict=True):
            layer.load_state_dict({name: tensor.contiguous() for name, tensor in given.state_dict().items()})
        return self.eval()

    def encoded(self, x_NCHW: Tensor) -> tuple[list[Tensor], Tensor]:
        maps = []
        for layer in self.convolutions:
            x_NCHW = F.max_pool2d(F.relu(layer(x_NCHW)), 2)
            maps.append(x_NCHW)
        return maps, F.relu(self.bottleneck(x_NCHW))

    def values(self, x_NCHW: Tensor) -> Tensor:
        return self.value(self.encoded(x_NCHW)[1])

    def both(self, x_NCHW: Tensor) -> tuple[Tensor, Tensor]:
        maps, bottleneck = self.encoded(x_NCHW)
        y_NCHW = F.interpolate(self.start(bottleneck), scale_factor=4)
        for skipped, merge in zip(reversed(maps), self.merges, strict=True):
            y_NCHW = F.interpolate(merge(torch.cat([skipped, y_NCHW], 1)), scale_factor=2)
        return self.value(bottleneck), self.mask(torch.cat([x_NCHW, y_NCHW], 1)).squeeze(1)


def multiplications(critic: Critic, what: Callable[[], object]) -> int:
    """Count the multiplications of a pass in convolutions and linear layers."""
    counted: list[int] = []

    def count(layer: nn.Conv2d | nn.Linear, _: tuple[Tensor, ...], output: Tensor) -> None:
        positions = output[:, 0].numel() if output.ndim == 4 else len(output)
        counted.append(positions * math.prod(layer.weight.shape))

    hooks = [part.register_forward_hook(count) for part in critic.modules() if isinstance(part, (nn.Conv2d, nn.Linear))]
    what()
    for hook in hooks:
        hook.remove()
    return sum(counted)


def timed(ways: list[Callable[[], object]], seconds: float, clock: Callable[[], float]) -> list[float]:
    """Return the lower quartile of each way's seconds a pass, the ways taking turns."""
    taken: list[list[float]] = [[] for _ in ways]
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or not taken[0]:
        for way, times in zip(ways, taken, strict=True):
            # these choose algorithms, and find the other way's memory
            way()
            way()
            for _ in range(PASSES):
                begin = clock()
                way()
                times.append(clock() - begin)
    return [statistics.quantiles(times, n=4)[0] for times in taken]


@torch.inference_mode()
def rows(preset: str, batch: int, seconds: float) -> list[list[str]]:
    """Time a preset's value and its value with the mask."""
    torch.manual_seed(0)
    critic = make_encoder(preset).eval()
    assert isinstance(critic, Critic)
    plain = Plain(critic.hyperparameters.factor).adopt(critic)
    critic.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    x_NCHW = torch.rand(batch, 3, 64, 64)
    laid_out = x_NCHW.contiguous(memory_format=torch.channels_last)
    value, mask = plain.both(x_NCHW)
    found, marked = critic.value_and_masks(laid_out)
    assert torch.allclose(found, value.squeeze(1), atol=1e-4)
    assert torch.allclose(marked, mask, atol=1e-4)
    ways: dict[str, tuple[Callable[[], object], Callable[[], object]]] = {
        "value": (lambda: critic.encode(laid_out, {}, latents="value"), lambda: plain.values(x_NCHW)),
        "value and mask": (lambda: critic.value_and_masks(laid_out), lambda: plain.both(x_NCHW)),
    }
    clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    lines = []
    for what, both in ways.items():
        own, theirs = (1000 * taken / batch for taken in timed(list(both), seconds, clock))
        million = multiplications(critic, both[0]) / batch / 1e6
        lines.append([f"`{preset}`", what, f"{million:.1f}", f"{own:.2f}", f"{theirs:.2f}", f"{own / theirs:.0%}"])
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--presets", nargs="+", default=["critic", "critic_wide"])
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--report", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    lines = [line for preset in options.presets for line in rows(preset, options.batch, options.seconds)]
    head = f"{processor()}, {os.cpu_count()} cores, {options.threads} thread(s), torch {torch.__version__}, batches of {options.batch}"
    text = f"{head}\n\n{table(HEADER, lines)}\n"
    print(text)
    if options.report is not None:
        options.report.write_text(f"# Value and mask of a critic\n\n`python benchmarks/critic.py`: {text}")


if __name__ == "__main__":
    main()
