"""Several processes that train one model: each on its part of every batch, all with the same weights.

Shapes: N frames, C channels, H height, W width.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from encoders.means import WholeBatch

# the others wait while the first one validates, writes and draws pictures
_PATIENCE = timedelta(hours=2)


@dataclass(frozen=True)
class Ranks:
    """This process among those of a run; alone, nothing is exchanged and no process group is needed."""

    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        """Whether this process is the one that writes, validates and speaks."""
        return self.rank == 0

    def start_equal(self, model: nn.Module) -> None:
        """Give every process the first one's parameters and buffers."""
        if self.size > 1:
            for tensor in (*model.parameters(), *model.buffers()):
                # a copy, since what is not laid out in rows is not sent
                sent = tensor.detach().contiguous()
                dist.broadcast(sent, 0)
                tensor.data.copy_(sent)

    def mean_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replace every gradient by its mean over the processes."""
        if self.size > 1:
            gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
            flat = torch.cat([gradient.flatten() for gradient in gradients])
            dist.all_reduce(flat)
            flat /= self.size
            for gradient, mean in zip(gradients, flat.split([gradient.numel() for gradient in gradients]), strict=True):
                gradient.copy_(mean.view(gradient.shape))

    def mean_terms(self, terms: Mapping[str, Tensor], device: torch.device) -> dict[str, Tensor]:
        """Return the mean of every scalar over the processes; all must have the same names."""
        if self.size == 1:
            return dict(terms)
        values = torch.stack([value.to(device, torch.float32) for value in terms.values()])
        dist.all_reduce(values)
        return dict(zip(terms, values / self.size, strict=True))

    def first_says(self, number: int) -> int:
        """Return the number that the first process has, in every process."""
        if self.size == 1:
            return number
        device = "cuda" if dist.get_backend() == "nccl" else "cpu"
        said = torch.tensor([number], device=device)
        dist.broadcast(said, 0)
        return int(said)

    def wait(self) -> None:
        """Wait until every process is here."""
        if self.size > 1:
            dist.barrier()


ALONE = Ranks()


def join(rank: int, size: int, address: str, device: torch.device, patience: timedelta = _PATIENCE) -> Ranks:
    """Enter the group of `size` processes that meet at `address` (tcp://... or file://...): by NCCL on CUDA, by gloo on the CPU.

    One that waits for the others longer than `patience` fails.
    """
    backend = "nccl" if device.type == "cuda" else "gloo"
    dist.init_process_group(backend, init_method=address, rank=rank, world_size=size, timeout=patience)
    return Ranks(rank, size)


def leave() -> None:
    """Leave the group of processes, if this one is in any."""
    if dist.is_initialized():
        dist.destroy_process_group()


class PartOfBatch(WholeBatch):
    """What one of several processes has of a batch: as many frames as each other, in the order of their ranks."""

    def __init__(self, ranks: Ranks) -> None:
        self.ranks = ranks

    def share(self, count: Tensor) -> Tensor:
        # a copy: of a count that is float32 already, `float` alone is the count itself, which would become the sum
        total = count.detach().float().clone()
        dist.all_reduce(total)
        return count * self.ranks.size / total.clamp_min(1)

    def gathered(self, x_N: Tensor) -> tuple[Tensor, int]:
        rows = _Gathered.apply(x_N, self.ranks) if x_N.requires_grad else _gathered(x_N, self.ranks.size)
        return rows, self.ranks.rank * len(x_N)


def share_batches(model: nn.Module, ranks: Ranks) -> None:
    """Have all that is a mean over known targets, in a model and its heads, be one over those that all processes know."""
    for module in model.modules():
        if isinstance(getattr(module, "batch_part", None), WholeBatch):
            module.batch_part = PartOfBatch(ranks)  # type: ignore[assignment]


def _gathered(x_N: Tensor, size: int) -> Tensor:
    """Return the rows of all processes; bits travel as bytes."""
    sent = (x_N.byte() if x_N.dtype == torch.bool else x_N).contiguous()
    parts = [torch.empty_like(sent) for _ in range(size)]
    dist.all_gather(parts, sent)
    return torch.cat(parts).to(x_N.dtype)


class _Gathered(torch.autograd.Function):
    """The rows of all processes; a row's gradient is the sum of what it has in every process's loss."""

    @staticmethod
    def forward(ctx: Any, x_N: Tensor, ranks: Ranks) -> Tensor:
        ctx.own = slice(ranks.rank * len(x_N), (ranks.rank + 1) * len(x_N))
        return _gathered(x_N, ranks.size)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        total = gradient.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total[ctx.own], None


def synchronised(model: nn.Module, device: torch.device) -> nn.Module:
    """Have every batch normalisation take its statistics over the batches of all processes: PyTorch's own way on CUDA."""
    if device.type == "cuda":
        return nn.SyncBatchNorm.convert_sync_batchnorm(model)
    for name, child in model.named_children():
        if isinstance(child, nn.BatchNorm2d):
            model.add_module(name, GlobalBatchNorm2d.of(child))
        else:
            synchronised(child, device)
    return model


class GlobalBatchNorm2d(nn.BatchNorm2d):
    """Batch normalisation over the batches of all processes, which are equally large; for the CPU, where PyTorch has none."""

    @classmethod
    def of(cls, layer: nn.BatchNorm2d) -> "GlobalBatchNorm2d":
        """Return one with the tensors and settings of a plain layer."""
        new = cls(layer.num_features, layer.eps, layer.momentum, layer.affine, layer.track_running_stats)
        new.weight, new.bias = layer.weight, layer.bias
        new.running_mean, new.running_var, new.num_batches_tracked = layer.running_mean, layer.running_var, layer.num_batches_tracked
        return new.train(layer.training)

    def forward(self, input: Tensor) -> Tensor:
        if not self.training:
            return super().forward(input)
        x_NCHW = input.float()
        mean_C = _Mean.apply(x_NCHW.mean((0, 2, 3)))
        centred = x_NCHW - mean_C.view(1, -1, 1, 1)
        variance_C = _Mean.apply(centred.square().mean((0, 2, 3)))
        self._remember(mean_C.detach(), variance_C.detach(), dist.get_world_size() * x_NCHW[:, 0].numel())
        scale_C = self.weight * torch.rsqrt(variance_C + self.eps)
        return (centred * scale_C.view(1, -1, 1, 1) + self.bias.view(1, -1, 1, 1)).to(input.dtype)

    @torch.no_grad()
    def _remember(self, mean_C: Tensor, variance_C: Tensor, count: int) -> None:
        if self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
        # without a momentum, the plain mean over all batches
        share = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum  # type: ignore[arg-type]
        self.running_mean.lerp_(mean_C, share)  # type: ignore[union-attr]
        self.running_var.lerp_(variance_C * count / max(count - 1, 1), share)  # type: ignore[union-attr]


class _Mean(torch.autograd.Function):
    """The mean over all processes; so is its gradient, since every process's loss depends on every process's part."""

    @staticmethod
    def forward(ctx: object, x: Tensor) -> Tensor:
        mean = x.clone()
        dist.all_reduce(mean)
        return mean / dist.get_world_size()

    @staticmethod
    def backward(ctx: object, gradient: Tensor) -> Tensor:
        return _Mean.forward(ctx, gradient.contiguous())
