"""What a run asks of Ray."""

import math

from agents.cluster.resources import Needs
from agents.remote.config import ACTOR_CPUS
from agents.run.config import TrainingConfig


def run_needs(config: TrainingConfig) -> Needs:
    """Return what each run of `config` asks for; call inside `ray_cluster`, since device auto means what the cluster has."""
    gpus = config.ray.gpus
    if gpus is None and not _wants_gpu(config):
        gpus = 0.0
    return Needs(config.ray.cpus, gpus, ACTOR_CPUS * config.remote.actors)


def local_cpus(config: TrainingConfig, runs: int) -> int:
    """Return the whole CPUs that a Ray of this machine must have for so many runs at the same time."""
    return math.ceil(round(runs * (config.ray.cpus + ACTOR_CPUS * config.remote.actors), 6))


def _wants_gpu(config: TrainingConfig) -> bool:
    import ray
    import torch

    devices = {config.device, config.policy_device}
    there = torch.cuda.is_available() if config.ray.address is None else ray.cluster_resources().get("GPU", 0) > 0
    return "cuda" in devices or ("auto" in devices and there)
