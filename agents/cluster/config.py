"""Where runs are done, as options."""

from dataclasses import dataclass

from agents.limits import at_least
from foundation.errors import UserError


@dataclass
class RayConfig:
    """Where runs are done, and what each asks of Ray for itself; its environment actors ask beside it."""

    address: str | None = None
    """None: a Ray of this machine for the time of the command; auto: the cluster that this machine belongs to; HOST:PORT."""
    cpus: float = 1.0
    """CPUs a run asks for."""
    gpus: float | None = None
    """GPUs a run asks for, a fraction too; None: an equal share of one where the device is cuda, else none."""
    retries: int = 3
    """Times that a run is started again whose worker or node died."""

    def __post_init__(self) -> None:
        at_least(0.01, cpus=self.cpus)
        at_least(0, retries=self.retries, **({} if self.gpus is None else {"gpus": self.gpus}))
        if self.gpus is not None and self.gpus > 1 and self.gpus != int(self.gpus):
            raise UserError(f"'gpus' must be a part of one or a whole number, got {self.gpus:g}")
