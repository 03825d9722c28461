"""Where runs are done, as options."""

from dataclasses import dataclass

from foundation.errors import UserError
from foundation.ranges import within


@dataclass
class RayConfig:
    """Where runs are done, and what each asks of Ray for itself; its environment actors ask beside it."""

    address: str | None = None
    """None: start Ray on this machine for as long as the command runs; auto: the cluster this machine belongs to; or HOST:PORT."""
    cpus: float = 1.0
    """CPUs a run asks for."""
    gpus: float | None = None
    """GPUs a run asks for, fractions allowed; None: an equal share of one if the device is cuda, else none."""
    retries: int = 3
    """How often a run is restarted after its worker or node died."""

    def __post_init__(self) -> None:
        within(0.01, 65_536, cpus=self.cpus)
        within(0, 65_536, retries=self.retries, **({} if self.gpus is None else {"gpus": self.gpus}))
        if self.gpus is not None and self.gpus > 1 and self.gpus != int(self.gpus):
            raise UserError(f"'gpus' must be a fraction of one or a whole number, got {self.gpus:g}")
