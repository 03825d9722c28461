"""The command `serve_encoder.py`, behind its door."""

import ipaddress
from collections.abc import Sequence
from pathlib import Path

from foundation.errors import UserError
from foundation.presets import parse
from service.options import Serve

SERVE = """Serve trained encoders over the network: frames in, latents out, by the Open Inference Protocol v2 (docs/service.md).

Agents use it by address: train_agent.py ... --encoder http://127.0.0.1:8000/RUN"""


def serve(argv: Sequence[str]) -> int:
    """Serve encoders until SIGTERM or Ctrl-C; return the exit status."""
    options: Serve = parse(Serve, SERVE, argv)
    check(options)
    try:
        # brings torch: not before the options are known to be right
        from service.server import serve_forever
    except ModuleNotFoundError as error:
        if error.name not in ("uvicorn", "httptools", "grpc", "google"):
            raise
        raise UserError(f"serving needs packages that are not installed ({error.name}); run: pip install -e '.[service]'") from error
    from service.tokens import Tokens, read_tokens

    serve_forever(options, Tokens() if options.token_file is None else read_tokens(options.token_file))
    return 0


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


def is_loopback(host: str) -> bool:
    """Tell whether an address is reached from this machine alone."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
