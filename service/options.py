"""What `serve_encoder.py` can be told."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import tyro

from foundation.ranges import at_least

Batching = Literal["exact", "fast", "alone"]


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a client may ask of the service; beyond it is an error, never a crash."""

    body_bytes: int = 64 * 2**20
    """Of a request, before and after decompression."""
    json_bytes: int = 2 * 2**20
    """Of a request's JSON, and at most a 32nd of `body_bytes`: read, it is up to 27 times as large as its text."""
    reading_bytes: int = 512 * 2**20
    """Of all requests that are being read or wait, together."""
    answer_bytes: int = 64 * 2**20
    """Of an answer's tensors, as bytes or as the text that JSON makes of them."""
    rows: int = 4096
    """Frames of a request, and frames that wait for the encoder."""
    connections: int = 4096
    """Open at a time."""
    header_seconds: float = 5.0
    """In which a request's header has to be there."""
    body_seconds: float = 5.0
    """In which something of a body that is missing has to come."""
    request_seconds: float = 60.0
    """In which a request has to be there as a whole, or its answer to be taken."""
    answer_seconds: float = 30.0
    """In which an answer is given, or the request is given up."""
    idle_seconds: float = 75.0
    """After which a connection without a request is closed."""
    sequences: int = 100_000
    """Open at a time."""
    sequence_bytes: int = 2**30
    """Of memory that all sequences hold."""
    sequence_seconds: float = 900.0
    """After which a sequence without a request ends."""

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            # a millisecond, or one of what is counted: less would refuse everything, not limit it
            at_least(0.001 if name.endswith("seconds") else 1, **{f"limits.{name}": value})

    @property
    def of_connections(self) -> list[str]:
        """Names of limits that are not their defaults, and that only the embedded server keeps to."""
        return [name for name in ("connections", "header_seconds") if getattr(self, name) != getattr(Limits(), name)]


@dataclass(frozen=True)
class RayOptions:
    """Where the replicas of `--cluster` are."""

    address: str | None = None
    """None: start Ray on this machine for as long as the command runs; auto: the cluster this machine belongs to; or HOST:PORT."""


@dataclass(frozen=True, kw_only=True)
class Serve:
    """Serve encoders."""

    runs: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Folders of trained encoders; each is served under its folder's name."""
    host: str = "127.0.0.1"
    """Where to listen; beyond this machine (0.0.0.0) only with a token."""
    port: int = 8000
    """Of HTTP; 0 for any that is free."""
    grpc_port: int | None = None
    """Of gRPC; none without. 0 for any that is free."""
    device: str = "auto"
    """Where encoders run: auto, cpu or cuda."""
    threads: int = 1
    """Of torch on a CPU."""
    batching: Batching = "exact"
    """exact: padded to 8 rows, the same whoever else asks. fast: as many rows as wait. alone: each request as an own encoder does it."""
    token_file: Path | None = None
    """A file with the tokens of those who may ask, one a line, readable by its owner alone; made with a new one where it is missing."""
    certificate: Path | None = None
    """TLS: the server's certificate with its chain (PEM)."""
    key: Path | None = None
    """TLS: the certificate's private key (PEM)."""
    drain_seconds: float = 1.0
    """How long to go on after SIGTERM, not ready for new clients, before connections are closed."""
    watch_seconds: float = 1.0
    """How often to look whether an encoder was trained on; 0 for never."""
    access_log: bool = False
    """Print a line for every request."""
    cluster: Path | None = None
    """Serve from replicas on Ray Serve: a YAML file that says how many, and what each is given (docs/service.md)."""
    ray: RayOptions = field(default_factory=RayOptions)
    limits: Limits = field(default_factory=Limits)
