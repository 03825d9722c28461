"""How fast every preset trains and encodes, beside its convolutions and matrix products alone. Needs torch and numpy, no store.

python benchmarks/encoders.py [--presets conv_vae nvae_small ...] [--batch N] [--seconds 10] [--device cpu] [--threads 1] [--report FILE.md]

A preset's step and its encoding pass are watched once: what they ask PyTorch for in convolutions and matrix products, forth and back, with
shapes, strides and types. These calls alone, on numbers of their own, are the limit: no activation, normalisation, loss, optimizer, copy
or Python between them. The share of a step is the time of the bare calls over that of the whole step. With glibc, the step is timed with
memory that is kept between steps, as training does, and without.
"""

import argparse
import contextlib
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

# this file's folder would hide the rooms of the product
sys.path[0] = str(Path(__file__).resolve().parent.parent)

import torch  # noqa: E402
from torch import Tensor  # noqa: E402
from torch.nn.utils import clip_grads_with_norm_, get_total_norm  # noqa: E402
from torch.utils._python_dispatch import TorchDispatchMode  # noqa: E402
from torch.utils._pytree import tree_map_only  # noqa: E402

from benchmarks.cwvae import processor, table  # noqa: E402
from encoders import Encoder, make_encoder  # noqa: E402
from encoders.encoder import to_float  # noqa: E402
from encoders.heads import HeadsConfig, Recorded, attach_heads  # noqa: E402
from encoders.heads.attached import training_terms, wanted_labels  # noqa: E402
from encoders.heads.config import Column  # noqa: E402
from encoders.training.config import TrainingConfig  # noqa: E402
from encoders.training.devices import autocast  # noqa: E402
from encoders.training.memory import kept_memory  # noqa: E402
from encoders.training.state import TrainingState  # noqa: E402
from encoders.training.validation import to_batch  # noqa: E402
from foundation.presets import build, preset_names, read_preset  # noqa: E402

STREAMS = 8
PRODUCTS = {"convolution", "convolution_backward", "mm", "addmm", "addmm_", "bmm", "baddbmm", "baddbmm_", "mv", "addmv"}
ACTIONS = (*(Column(f"key {number}", "key") for number in range(8)), Column("pitch"), Column("yaw"))
"""Of the recorded player, as MineRL's basic tasks have them."""
HEADER = (
    "preset",
    "clips x frames",
    "steps/s",
    "bare steps/s",
    "share",
    "memory not kept",
    "passes/s",
    "bare passes/s",
    "share",
)


class Shown(NamedTuple):
    """A training batch: frames uint8 (B, T, H, W, C), actions or None, and labels of heads."""

    frames: Tensor
    actions: Tensor | None
    targets: dict[str, Tensor]


class Spec(NamedTuple):
    """A tensor without its numbers."""

    shape: tuple[int, ...]
    stride: tuple[int, ...]
    dtype: torch.dtype

    def made(self, device: torch.device) -> Tensor:
        """Return a tensor like it with small numbers of its own."""
        reach = 1 + sum((size - 1) * stride for size, stride in zip(self.shape, self.stride, strict=True))
        numbers = torch.rand(max(reach, 1), device=device).to(self.dtype) / 8
        return numbers.as_strided(self.shape, self.stride)


@dataclass
class Call:
    """A convolution or a matrix product that a model has asked for."""

    operator: Any
    arguments: Any
    options: Any


class Watch(TorchDispatchMode):
    """Notes every convolution and matrix product that is asked for meanwhile, on the way back too."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[Call] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None) -> Any:
        if func.overloadpacket.__name__ in PRODUCTS:
            arguments, options = tree_map_only(Tensor, lambda x: Spec(tuple(x.shape), x.stride(), x.dtype), (args, dict(kwargs or {})))
            self.calls.append(Call(func, arguments, options))
        return func(*args, **(kwargs or {}))


def bare(calls: list[Call], device: torch.device) -> Callable[[], None]:
    """Return the calls alone, one after the other; those of equal tensors share them."""
    made: dict[Any, Tensor] = {}

    def tensors(tree: Any, place: int = 0) -> Any:
        if isinstance(tree, Spec):
            key = (place, tree)
            if key not in made:
                made[key] = tree.made(device)
            return made[key]
        if isinstance(tree, tuple | list):
            return type(tree)(tensors(part, place + index + 1) for index, part in enumerate(tree))
        return {name: tensors(part, place) for name, part in tree.items()} if isinstance(tree, dict) else tree

    prepared = [(call.operator, tensors(call.arguments), tensors(call.options)) for call in calls]

    def run() -> None:
        with torch.no_grad():
            for operator, arguments, options in prepared:
                operator(*arguments, **options)

    return run


class Measured:
    """A preset's model and data, its training step and its encoding pass."""

    def __init__(self, name: str, device: torch.device) -> None:
        self.device = device
        torch.manual_seed(0)
        self.config = build(TrainingConfig, read_preset("encoder", name).get("training") or {}, "training")
        self.model: Encoder = make_encoder(name)
        attach_heads(self.model, build(HeadsConfig, read_preset("encoder", name).get("heads") or {}, "heads"), Recorded(ACTIONS))
        self.model.to(device)
        self.is_trained = next(self.model.parameters(), None) is not None
        if self.is_trained:
            self.state = TrainingState(self.model, self.config, device)
            self.model = self.state.model

    def step(self, clips: int) -> Callable[[], None]:
        """Return a whole training step on `clips` clips: loss, way back, clipping, optimizer, average."""
        size = (clips, self.model.clip_length)
        actions = torch.zeros(*size, self.model.action_size) if self.model.action_size else None
        labels = wanted_labels(self.model)
        targets = {"reward_to_come": torch.rand(size)} if "reward_to_come" in labels else {}
        if "next_actions" in labels:
            targets["next_actions"] = torch.rand(*size, labels["next_actions"]["count"], len(ACTIONS)).round()
        shown = Shown(torch.randint(256, (*size, *self.model.frame_shape), dtype=torch.uint8), actions, targets)
        state = self.state

        def run() -> None:
            state.model.train()
            state.remember()
            with autocast(self.device, "auto"):
                loss = training_terms(state.model, to_batch(shown, self.device), state.step)["loss"]
            state.optimizer.zero_grad()
            loss.backward()
            parameters = [parameter for parameter in state.model.parameters() if parameter.grad is not None]
            norm = get_total_norm([parameter.grad for parameter in parameters])
            if self.config.gradient_clip is not None:
                clip_grads_with_norm_(parameters, self.config.gradient_clip, norm)
            if bool(torch.isfinite(norm)):
                state.optimizer.step()
            state.average()
            state.step += 1

        return run

    def encoding(self, without_gradients: Callable[[], Any] = torch.inference_mode) -> Callable[[], None]:
        """Return a pass that encodes a frame of each of 8 environments."""
        frames = torch.randint(256, (STREAMS, *self.model.frame_shape), dtype=torch.uint8).to(self.device)
        model, memory = self.model, self.model.initial_state(STREAMS)
        action = torch.zeros(STREAMS, model.action_size, device=self.device) if model.action_size else None

        def run() -> None:
            model.eval()
            with without_gradients():
                model.encode(to_float(frames), memory, action)

        return run

    def clips(self, options: argparse.Namespace) -> int:
        """Return how many clips a step is to have: as asked for, or the preset's, halved until a step takes a fifth of the time at most."""
        if options.batch is not None:
            return options.batch
        sizes = [self.config.batch_size]
        while sizes[-1] > 3:
            sizes.append(sizes[-1] // 2)
        for smaller in sizes[:0:-1]:
            call = self.step(smaller)
            call()
            if 2 * seconds_of(call, options) > options.seconds / 5:
                return smaller
        return sizes[0]


def watched(call: Callable[[], None]) -> list[Call]:
    """Return the convolutions and matrix products of a call."""
    with Watch() as watch:
        call()
    return watch.calls


def in_turns(ways: Mapping[str, Callable[[], None]], options: argparse.Namespace) -> dict[str, float]:
    """Return the median seconds of a call of each way; they take turns, so that a busy machine hurts all alike.

    One thread on the CPU is measured in CPU seconds: what other processes take of the machine does not count. Memory is kept while a way
    runs, but for ways that end in "not kept"; each runs untimed before it is timed, and for at least 50 ms.
    """
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    until = time.perf_counter() + options.seconds
    while time.perf_counter() < until or len(next(iter(seconds.values()))) < 3:
        for name, call in ways.items():
            with contextlib.nullcontext() if name.endswith("not kept") else kept_memory(torch.device(options.device)):
                call()
                seconds[name].append(seconds_of(call, options, at_least=0.05))
    return {name: statistics.median(found) for name, found in seconds.items()}


def seconds_of(call: Callable[[], None], options: argparse.Namespace, at_least: float = 0.0) -> float:
    """Return the seconds of a call, the mean over as many as `at_least` seconds have room for."""
    clock = time.process_time if options.device == "cpu" and options.threads == 1 else time.perf_counter
    begun, calls, gone = clock(), 0, 0.0
    while not calls or gone < at_least:
        call()
        if options.device == "cuda":
            torch.cuda.synchronize()
        calls, gone = calls + 1, clock() - begun
    return gone / calls


def row_of(name: str, options: argparse.Namespace) -> list[str]:
    """Measure a preset."""
    device = torch.device(options.device)
    one = Measured(name, device)
    cells = [name, "-", "-", "-", "-", "-"]
    if one.is_trained:
        clips = one.clips(options)
        step = one.step(clips)
        found = in_turns({"step": step, "bare": bare(watched(step), device), "step, not kept": step}, options)
        size = f"{clips} x {one.model.clip_length}" + (f" (of {one.config.batch_size})" if clips != one.config.batch_size else "")
        cells = [name, size, *_rates(found["step"], found["bare"]), f"{found['bare'] / found['step, not kept']:.2f}"]
    encode = one.encoding()
    # in inference mode the watch would see what PyTorch's functions are called, not what they are made of
    calls = watched(one.encoding(torch.no_grad))
    found = in_turns({"pass": encode, "bare": bare(calls, device)}, options)
    return cells + _rates(found["pass"], found["bare"])


def _rates(whole: float, limit: float) -> list[str]:
    return [f"{1 / whole:,.2f}", f"{1 / limit:,.2f}", f"{limit / whole:.2f}"]


def report(options: argparse.Namespace) -> str:
    """Measure all presets and return the table, printing its rows as they come."""
    load = os.getloadavg()[0]
    rows = list(_printed(options))
    machine = torch.cuda.get_device_name() if options.device == "cuda" else processor()
    measured = "CPU seconds" if options.device == "cpu" and options.threads == 1 else "wall time"
    precision = "bfloat16 autocast in training" if options.device == "cuda" else "float32"
    return f"""{machine}, {precision}, {options.threads} thread(s), torch {torch.__version__}, Python {platform.python_version()};
{measured}, medians of turns for {options.seconds:g} s; load average {load:.1f} before and {os.getloadavg()[0]:.1f} after. Written by
`python benchmarks/encoders.py {" ".join(sys.argv[1:])}`.

{table(HEADER, rows)}
"""


def _printed(options: argparse.Namespace) -> Iterator[list[str]]:
    for name in options.presets:
        row = row_of(name, options)
        print(" | ".join(row), file=sys.stderr, flush=True)
        yield row


def main() -> None:
    # a Critic-VAE stands on a trained critic
    known = [name for name in preset_names("encoder") if not name.startswith("critic_vae")]
    parser = argparse.ArgumentParser(description="How fast every preset trains and encodes.")
    parser.add_argument("--presets", nargs="+", choices=known, default=known, metavar="PRESET", help=", ".join(known))
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--batch", type=int, help="clips a step; the preset's by default, halved until a step takes a fifth of --seconds")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=10, help="length of each measurement, at least")
    parser.add_argument("--report", type=Path, help="write the table here too")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    text = report(options)
    print(text)
    if options.report is not None:
        options.report.write_text(text)


if __name__ == "__main__":
    main()
