"""The command `serve_encoder.py`, behind its door."""

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from foundation.errors import UserError
from foundation.presets import parse
from service.cluster_options import read_cluster
from service.options import Serve
from service.origins import is_loopback

SERVE = """Serve trained encoders over the network: frames in, latents out, by the Open Inference Protocol v2 (docs/service.md).

Agents use it by address: train_agent.py ... --encoder http://127.0.0.1:8000/RUN"""


def serve(argv: Sequence[str]) -> int:
    """Serve encoders until SIGTERM or Ctrl-C; return the exit status."""
    options: Serve = parse(Serve, SERVE, argv)
    check(options)
    cluster = None if options.cluster is None else read_cluster(options.cluster)
    _need("service", "uvicorn", "httptools") if cluster is None else _need("cluster", "ray.serve")
    if options.grpc_port is not None:
        _need("service", "grpc", "google.protobuf")
    from service.tokens import Tokens, read_tokens

    tokens = Tokens() if options.token_file is None else read_tokens(options.token_file)
    # brings torch: not before the options are known to be right
    if cluster is None:
        from service.server import serve_forever

        serve_forever(options, tokens)
    else:
        from service.cluster import serve_on_cluster

        serve_on_cluster(options, cluster, tokens)
    return 0


def _need(extra: str, *modules: str) -> None:
    """Raise `UserError` where packages of an extra are not installed."""
    for module in modules:
        try:
            import_module(module)
        except ImportError as error:
            raise UserError(f"serving needs packages that are not installed ({module}); run: pip install -e '.[{extra}]'") from error


def check(options: Serve) -> None:
    """Raise `UserError` for options that do not go together."""
    if not options.runs:
        raise UserError("name the folders of the encoders to serve: python serve_encoder.py RUN")
    if (options.certificate is None) != (options.key is None):
        raise UserError("TLS needs both --certificate and --key")
    for path in (options.certificate, options.key):
        if path is not None and not Path(path).is_file():
            raise UserError(f"{path}: there is no such file; give the certificate and its key in PEM")
    if options.token_file is None and not is_loopback(options.host):
        where = f"--host {options.host} is reached by other machines, and whoever reaches it could ask"
        raise UserError(f"{where}; add --token-file FILE (made with a token where it is missing)")
    if options.cluster is not None:
        _check_cluster(options)
    elif options.ray.address is not None:
        raise UserError("--ray.address goes with --cluster FILE, which says how many replicas there are")


def _check_cluster(options: Serve) -> None:
    """Raise `UserError` for what Ray Serve's proxies, which listen in the service's place, do not do."""
    if options.grpc_port is not None:
        raise UserError("--grpc-port: with --cluster there is HTTP alone, since Serve's gRPC listens on every interface without TLS")
    for name in options.limits.of_connections:
        option = f"--limits.{name.replace('_', '-')}"
        raise UserError(f"{option}: with --cluster it is Serve's proxies that listen, and they have no such limit; leave it out")
    if options.access_log and options.ray.address is None:
        raise UserError("--access-log: with --cluster the lines are in Ray's logs, which go with the command; leave it out")
