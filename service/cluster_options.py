"""What the YAML of `serve_encoder.py --cluster` can say: how many replicas there are, and what each is given.

Keys are named as Ray Serve names them, whose documentation says more of each.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from foundation.errors import UserError
from foundation.presets import build, read_yaml
from foundation.ranges import at_least, within


@dataclass(frozen=True, kw_only=True)
class Autoscaling:
    """A number of replicas that follows the requests under way."""

    max_replicas: int
    min_replicas: int = 1
    """0: none while nobody asks; the first request then waits until an encoder is loaded."""
    target_ongoing_requests: float = 16.0
    """Requests under way a replica, on average: more start replicas, fewer end them."""
    upscale_delay_s: float = 30.0
    """How long there must be more."""
    downscale_delay_s: float = 600.0
    """How long there must be fewer."""

    def __post_init__(self) -> None:
        within(1, 10_000, max_replicas=self.max_replicas)
        within(0, self.max_replicas, min_replicas=self.min_replicas)
        within(0.1, 10_000, target_ongoing_requests=self.target_ongoing_requests)
        within(0, 86_400, upscale_delay_s=self.upscale_delay_s, downscale_delay_s=self.downscale_delay_s)


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """Replicas of a service, each a process with all of its encoders."""

    num_replicas: int | None = None
    """Replicas; without this and `autoscaling_config`, one."""
    autoscaling_config: Autoscaling | None = None
    """In place of `num_replicas`."""
    num_cpus: float = 1.0
    """CPUs that Ray sets aside for a replica."""
    num_gpus: float = 0.0
    """GPUs of a replica; a fraction shares one."""
    max_ongoing_requests: int = 64
    """Under way in a replica at a time; more wait in the proxies."""
    max_queued_requests: int = 1024
    """That wait in a proxy; more are answered with 503."""
    graceful_shutdown_timeout_s: float = 30.0
    """For which a replica that is to end answers what it has accepted."""
    health_check_period_s: float = 10.0
    """How often a replica is asked to encode something; one that cannot is replaced."""
    health_check_timeout_s: float = 60.0
    """After which one that does not answer counts as ill."""
    proxy_location: Literal["EveryNode", "HeadOnly"] = "EveryNode"
    """Nodes that listen: all that have replicas, or the head node."""
    name: str = "perception"
    """Of the application; another one of that name on the cluster is replaced, and its command ends."""

    def __post_init__(self) -> None:
        if self.num_replicas is not None:
            if self.autoscaling_config is not None:
                raise UserError("'num_replicas' and 'autoscaling_config' are two ways to say how many; leave one out")
            within(1, 10_000, num_replicas=self.num_replicas)
        within(0.01, 65_536, num_cpus=self.num_cpus)
        within(0, 65_536, num_gpus=self.num_gpus)
        if self.num_gpus > 1 and self.num_gpus != int(self.num_gpus):
            raise UserError(f"'num_gpus' must be a fraction of one or a whole number, got {self.num_gpus:g}")
        at_least(1, max_ongoing_requests=self.max_ongoing_requests, max_queued_requests=self.max_queued_requests)
        within(0, 3600, graceful_shutdown_timeout_s=self.graceful_shutdown_timeout_s)
        within(1, 3600, health_check_period_s=self.health_check_period_s, health_check_timeout_s=self.health_check_timeout_s)
        if not self.name or "#" in self.name:
            raise UserError(f"'name' must have letters, and no '#', got '{self.name}'")

    @property
    def alone(self) -> bool:
        """Whether there is never more than one replica, which may then keep the memory of sequences."""
        return self.autoscaling_config is None and self.num_replicas in (None, 1)

    @property
    def most_replicas(self) -> int:
        return self.autoscaling_config.max_replicas if self.autoscaling_config is not None else self.num_replicas or 1


def read_cluster(path: Path) -> Cluster:
    """Return what a YAML says; raise `UserError` for keys that there are not, and values that cannot be."""
    try:
        return build(Cluster, read_yaml(path))
    except UserError as error:
        raise error if str(error).startswith(str(path)) else UserError(f"{path}: {error}") from error
