"""The service as an ingress of Ray Serve: each replica is a process that runs the same application as the embedded server does.

`application` is what `serve deploy` and KubeRay name: `import_path: service.replica:application`.
"""

import asyncio
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

from foundation.errors import UserError
from foundation.presets import build
from foundation.tokens import TOKEN, service_token
from service.cluster_options import Cluster
from service.options import Serve
from service.tokens import Tokens, read_tokens

DEPLOYMENT, COMMAND = "perception", "command"
"""The deployment's name, and the key under which Serve keeps for it which command deployed it."""
_OF_SERVE = ("host", "port", "grpc_port", "certificate", "key", "ray", "drain_seconds")
_OF_SERVE_TOO = ("name", "proxy_location")
"""Options, and keys of `cluster`, that `serve deploy` has its own keys for."""
_STARTS = 3
"""How often Serve tries to start a first replica."""
_HUNG = 0.5
"""A batch that takes this part of the time of an answer, while others wait too long for it, is one that the encoder hangs at."""
_LOOK_SECONDS = 0.1
"""How often a replica that is to end looks whether it has answered everything."""


class Replica:
    """The encoders and their application in one process.

    `alone`: no other replica answers, so that this one may keep the memory of sequences. `on_loopback`: nothing of it listens elsewhere.
    """

    def __init__(self, options: Serve, tokens: Tokens, alone: bool, on_loopback: bool) -> None:
        if on_loopback:
            _listen_on_loopback()
        # what computes is imported where it computes
        import torch

        from service.models import Models
        from service.upkeep import prepare_process

        prepare_process()
        torch.set_num_threads(options.threads)
        if options.device.startswith("cuda") and not torch.cuda.is_available():
            raise UserError("Ray gave this replica a GPU, and torch sees none: install torch for CUDA on all nodes")
        self.options, self.tokens, self.alone = options, tokens, alone
        self.models = Models(options.runs, options.device)

    def __serve_build_asgi_app__(self) -> Any:
        # called where the application will run, in the loop that it belongs to
        from service.core import Service
        from service.http_app import HttpApplication
        from service.upkeep import watch

        self.service = Service(self.models, self.options.limits, self.options.batching, asyncio.get_running_loop())
        self.service.is_shared = self._is_shared
        self._watching = asyncio.ensure_future(watch(self.service, self.options.watch_seconds))
        return HttpApplication(self.service, self.tokens, self.options.access_log)

    def reconfigure(self, told: dict[str, str]) -> None:
        """Do nothing: what Serve keeps for the deployment, and gives to replicas, is for commands to see."""

    def drain(self) -> None:
        """Be not ready any more, and end connections with their next answers."""
        self.service.ready = False

    async def close(self) -> None:
        """Answer what was accepted, and refuse everything else."""
        self._watching.cancel()
        await asyncio.get_running_loop().run_in_executor(None, self.service.close)

    async def check_health(self) -> None:
        """Raise where an encoder fails at anything, as after a fault of its GPU, or hangs: Serve then starts another replica."""
        from service.errors import ServiceError

        try:
            await self.service.encode_nothing()
        except ServiceError as error:
            # one that is busy, or ends, is well, as long as its batches end
            if error.status == 500 or self.service.encoder.batch_seconds > _HUNG * self.options.limits.answer_seconds:
                raise

    def _is_shared(self) -> bool:
        from ray import serve

        # Serve may have been told another number than this project's own options say
        return not self.alone or serve.get_replica_context().world_size > 1


def application(args: dict[str, Any]) -> Any:
    """Return the service for `serve deploy`: `args` are options of `serve_encoder.py`, `cluster` a mapping in place of its file.

    Raises `UserError` for options that cannot be, and where there is no token: who reaches Serve's port could ask.
    """
    given = dict(args)
    replicas = given.pop("cluster", {})
    cluster = build(Cluster, replicas, "args.cluster")
    refused = [f"args.{one}" for one in _OF_SERVE if one in given] + [f"args.cluster.{one}" for one in _OF_SERVE_TOO if one in replicas]
    for name in refused:
        raise UserError(f"{name}: Serve listens, and has keys of its own for that in its configuration; leave it out here")
    options = build(Serve, given, "args")
    for name in options.limits.of_connections:
        raise UserError(f"args.limits.{name}: it is Serve's proxies that listen, and they have no such limit; leave it out")
    if not options.runs:
        raise UserError("args.runs: name the folders of the encoders to serve")
    if options.token_file is not None:
        if not options.token_file.exists():
            # a new token would be known to nobody
            raise UserError(f"args.token_file: there is no file {options.token_file} where the cluster runs this; make it first")
        tokens = read_tokens(options.token_file)
    elif token := service_token():
        tokens = Tokens([token])
    else:
        raise UserError(f"args.token_file is missing: name a file of tokens, or set {TOKEN} where the cluster runs this")
    return ingress(options, tokens, cluster, on_loopback=False)


def ingress(options: Serve, tokens: Tokens, cluster: Cluster, on_loopback: bool, command: str = "") -> Any:
    """Return the service as an application of Ray Serve, deployed by a command. Only digests of the tokens travel to the replicas."""
    from ray import serve

    scaling = cluster.autoscaling_config
    count = {"num_replicas": cluster.num_replicas or 1} if scaling is None else {"autoscaling_config": vars(scaling)}
    deployment: Any = serve.deployment(
        serve.ingress()(Replica),
        name=DEPLOYMENT,
        ray_actor_options={"num_cpus": cluster.num_cpus, "num_gpus": cluster.num_gpus},
        max_ongoing_requests=cluster.max_ongoing_requests,
        max_queued_requests=cluster.max_queued_requests,
        graceful_shutdown_wait_loop_s=_LOOK_SECONDS,
        graceful_shutdown_timeout_s=cluster.graceful_shutdown_timeout_s,
        health_check_period_s=cluster.health_check_period_s,
        health_check_timeout_s=cluster.health_check_timeout_s,
        max_constructor_retry_count=_STARTS,
        logging_config={"enable_access_log": False},
        user_config={COMMAND: command},
        **count,
    )
    return deployment.bind(placed(options, cluster), tokens, cluster.alone, on_loopback)


def placed(options: Serve, cluster: Cluster) -> Serve:
    """Return the options with the device that replicas have, and folders that mean the same in any process.

    Raises `UserError` for a device that Ray is not asked for.
    """
    device = options.device if options.device != "auto" else "cuda" if cluster.num_gpus else "cpu"
    if device.startswith("cuda") != bool(cluster.num_gpus):
        remedy = "say num_gpus: 1, or a fraction" if not cluster.num_gpus else "leave out num_gpus, or --device"
        raise UserError(f"--device {device}, and a replica has {cluster.num_gpus:g} GPUs: {remedy}")
    return replace(options, device=device, runs=tuple(Path(os.path.abspath(run)) for run in options.runs))


def _listen_on_loopback() -> None:
    """Have this replica's own gRPC server listen on loopback, where Serve itself opens it on every interface."""
    from ray.serve._private import replica as of_serve

    opened = of_serve.add_port_to_grpc_server
    of_serve.add_port_to_grpc_server = lambda server, _: opened(server, "127.0.0.1:0")
