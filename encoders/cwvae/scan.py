"""The recurrence of one level of the Clockwork VAE over all its ticks, with a backward pass of its own.

Autograd would add every tick's share to the gradients of weights of millions of numbers. Here the way back through the ticks
carries gradients of activations only, and each weight's gradient is one product over all ticks at its end.

Shapes: N ticks, B batch, S stochastic, D deterministic, M hidden units. Time comes first: a tick's slice is contiguous.
"""

import functools
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

Tick = Callable[..., tuple[Tensor, ...]]


class Weights(NamedTuple):
    """What a tick multiplies with; bfloat16 for faster products, the states keep their own precision."""

    stochastic: Tensor
    """(M, S): the last z, into the layer before the GRU."""
    gru_input: Tensor
    gru_input_bias: Tensor
    from_h: Tensor
    """(3D + M, D): the GRU's recurrent weights over those of the first layer after it, which h goes through together."""
    from_h_bias: Tensor
    second: Tensor | None
    """(M, M): a second hidden layer after the GRU; None where there is one only."""
    second_bias: Tensor | None
    output: Tensor
    """(2S, M): mean over what softplus makes the deviation."""
    output_bias: Tensor

    def to(self, dtype: torch.dtype) -> "Weights":
        """Cast once what every tick multiplies with."""
        return Weights(*(None if weight is None else weight.to(dtype) for weight in self))  # type: ignore[arg-type]


class Trajectory(NamedTuple):
    """z, h, mean and deviation at every tick."""

    z: Tensor
    h: Tensor
    mean: Tensor
    stddev: Tensor


def scan(
    drive_NBM: Tensor,
    evidence_NBM: Tensor,
    noise_NBS: Tensor | None,
    z_BS: Tensor,
    h_BD: Tensor,
    weights: Weights,
    min_stddev: float,
    compiled: bool = False,
) -> Trajectory:
    """Run the cell from the state (z, h) over N >= 1 ticks and return the trajectory, time first.

    `drive` is what the context adds before the GRU, `evidence` what the frames (or a bias) add to the first layer after it:
    both known before the first tick. Without noise z is the mean. Differentiable once, in all tensors but the noise.
    """
    if compiled:
        # torch.compile makes another tick for every stride, and gives up after a few: let all levels and lengths have the same
        drive_NBM, evidence_NBM = drive_NBM.contiguous(), evidence_NBM.contiguous()
        noise_NBS = None if noise_NBS is None else noise_NBS.contiguous()
    return Trajectory(*_Scan.apply(compiled, min_stddev, drive_NBM, evidence_NBM, noise_NBS, z_BS, h_BD, *weights))


@functools.cache
def can_compile(device: torch.device) -> bool:
    """Tell whether torch.compile works on `device`; print a line where it does not."""
    try:
        torch.compile(torch.relu)(torch.ones(1, device=device))
    except Exception as error:  # torch.compile raises whatever the missing compiler made it raise
        print(f"torch.compile does not work here ({str(error).strip().splitlines()[0]}): continuing without it", file=sys.stderr)
        return False
    return True


class _Scan(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, compiled: bool, min_stddev: float, *inputs: Any) -> tuple[Tensor, ...]:
        drive, evidence, noise, z, h, *rest = inputs
        weights = Weights(*rest)
        tick = _compiled(_forward_tick) if compiled else _forward_tick
        ticks = []
        with torch.autocast(h.device.type, enabled=False):
            gates = F.linear(h.to(weights.from_h.dtype), weights.from_h, weights.from_h_bias)[:, : 3 * h.shape[1]]
            for index in range(len(drive)):
                drawn = None if noise is None else noise[index]
                *made, gates = tick(drive[index], evidence[index], drawn, z, h, gates, weights, min_stddev)
                ticks.append(made)
                z, h = made[:2]
        stacked = [torch.stack(column) for column in zip(*ticks, strict=True)]
        ctx.save_for_backward(*inputs, *stacked)
        ctx.compiled, ctx.min_stddev, ctx.count = compiled, min_stddev, len(inputs)
        return tuple(stacked[:4])

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        drive, evidence, noise, z_start, h_start, *rest = ctx.saved_tensors[: ctx.count]
        z, h, _, stddev, u, reset, update, candidate, recurrent, first, second = ctx.saved_tensors[ctx.count :]
        weights = Weights(*rest)
        tick = _compiled(_backward_tick) if ctx.compiled else _backward_tick
        gradients = tuple(gradient.contiguous() for gradient in gradients) if ctx.compiled else gradients
        z_before, h_before = torch.cat([z_start[None], z[:-1]]), torch.cat([h_start[None], h[:-1]])
        carried = [torch.zeros_like(z_start), torch.zeros_like(h_start), u.new_zeros(len(h_start), 3 * h_start.shape[1])]
        ticks = []
        for index in reversed(range(len(drive))):
            kept = [saved[index] for saved in (stddev, u, reset, update, candidate, recurrent, first, second, h_before)]
            arriving = [gradient[index] for gradient in gradients]
            drawn = None if noise is None else noise[index]
            to_z_before, to_h_before, *to_layers = tick(arriving, carried, drawn, kept, weights, ctx.min_stddev)
            carried = [to_z_before, to_h_before, to_layers[0]]
            ticks.append(to_layers)
        to_gates, to_drive, to_input, to_first, to_second, to_output = (torch.stack(column[::-1]) for column in zip(*ticks, strict=True))
        to_weights = Weights(
            stochastic=_product(to_drive, z_before),
            gru_input=_product(to_input, u),
            gru_input_bias=to_input.sum((0, 1)),
            from_h=torch.cat([_product(to_gates, h_before), _product(to_first, h)]),
            from_h_bias=torch.cat([to_gates.sum((0, 1)), to_first.sum((0, 1))]),
            second=None if weights.second is None else _product(to_second, first),
            second_bias=None if weights.second is None else to_second.sum((0, 1)),
            output=_product(to_output, second),
            output_bias=to_output.sum((0, 1)),
        )
        to_h_start = carried[1] + carried[2] @ weights.from_h[: carried[2].shape[1]]
        return (None, None, to_drive.to(drive.dtype), to_first.to(evidence.dtype), None, carried[0], to_h_start, *to_weights)


def _forward_tick(
    drive: Tensor, evidence: Tensor, noise: Tensor | None, z: Tensor, h: Tensor, gates: Tensor, weights: Weights, min_stddev: float
) -> tuple[Tensor, ...]:
    """Return z, h, mean, deviation, what the way back needs, and what h adds to the next tick's gates."""
    low = weights.stochastic.dtype
    u = torch.relu(drive + F.linear(z.to(low), weights.stochastic)).to(low)
    from_u = F.linear(u, weights.gru_input, weights.gru_input_bias).to(h.dtype).chunk(3, -1)
    from_before = gates.to(h.dtype).chunk(3, -1)
    reset, update = torch.sigmoid(from_u[0] + from_before[0]), torch.sigmoid(from_u[1] + from_before[1])
    candidate = torch.tanh(from_u[2] + reset * from_before[2])
    h = candidate + update * (h - candidate)
    from_h = F.linear(h.to(low), weights.from_h, weights.from_h_bias)
    gates = from_h[:, : 3 * h.shape[1]]
    first = torch.relu(from_h[:, 3 * h.shape[1] :] + evidence).to(low)
    second = first if weights.second is None else torch.relu(F.linear(first, weights.second, weights.second_bias))
    mean, raw = F.linear(second, weights.output, weights.output_bias).to(h.dtype).chunk(2, -1)
    stddev = F.softplus(raw) + min_stddev
    z = mean if noise is None else mean + stddev * noise
    return z, h, mean, stddev, u, reset, update, candidate, from_before[2], first, second, gates


def _backward_tick(
    arriving: list[Tensor], carried: list[Tensor], noise: Tensor | None, kept: list[Tensor], weights: Weights, min_stddev: float
) -> tuple[Tensor, ...]:
    """Return the gradients of the last z and h, and of what every layer gave: the GRU's recurrent part first, then in order."""
    stddev, u, reset, update, candidate, recurrent, first, second, h_before = kept
    low = weights.stochastic.dtype
    to_z = arriving[0] + carried[0]
    to_stddev = arriving[3] if noise is None else arriving[3] + to_z * noise
    # the derivative of softplus, from its value
    to_raw = to_stddev * -torch.expm1(min_stddev - stddev)
    to_output = torch.cat([arriving[2] + to_z, to_raw], -1).to(low)
    to_second = (to_output @ weights.output) * (second > 0)
    to_first = to_second if weights.second is None else (to_second @ weights.second) * (first > 0)
    to_h = arriving[1] + carried[1] + (torch.cat([carried[2], to_first], -1) @ weights.from_h)
    to_candidate = to_h * (1 - update) * (1 - candidate.square())
    to_update = to_h * (h_before - candidate) * update * (1 - update)
    to_reset = to_candidate * recurrent * reset * (1 - reset)
    to_input = torch.cat([to_reset, to_update, to_candidate], -1).to(low)
    to_gates = torch.cat([to_reset, to_update, to_candidate * reset], -1).to(low)
    to_drive = (to_input @ weights.gru_input) * (u > 0)
    to_z_before = (to_drive @ weights.stochastic).to(to_z.dtype)
    return to_z_before, to_h * update, to_gates, to_drive, to_input, to_first, to_second, to_output


@functools.cache
def _compiled(tick: Tick) -> Tick:
    return torch.compile(tick, dynamic=False)


def _product(to_output: Tensor, layer_input: Tensor) -> Tensor:
    """Return a weight's gradient (outputs, inputs), summed over ticks and batch in one product."""
    return to_output.flatten(0, 1).mT @ layer_input.flatten(0, 1).to(to_output.dtype)
