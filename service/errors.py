"""What a request can be refused with: one text for people, and a code of HTTP's that gRPC's follow from."""

import traceback

from foundation.errors import in_one_line
from foundation.progress import say

_LONGEST = 500


class ServiceError(Exception):
    """A request that is not served: `status` is HTTP's code, `retry_after` the seconds after which it may be tried again."""

    def __init__(self, status: int, text: str, retry_after: int | None = None) -> None:
        super().__init__(in_one_line(text, _LONGEST))
        self.status = status
        self.retry_after = retry_after
        self.counted = False
        """Whether it is among a model's failures already."""


def say_failure(what: str, error: Exception) -> None:
    """Print the traceback of what is the service's own mistake; its client is told that there is one."""
    for part in (f"{what}:\n", *traceback.format_exception(error)):
        for line in part.splitlines():
            say(line)


def refusal_of(error: Exception) -> ServiceError:
    """Return what a client is told of an error; the traceback of one that is the service's own mistake is printed."""
    if isinstance(error, ServiceError):
        return error
    say_failure("a request failed", error)
    return ServiceError(500, "the service failed; its own output says why")


def bad_request(text: str) -> ServiceError:
    """Return the refusal of what a client has to write otherwise."""
    return ServiceError(400, text)


def busy(text: str) -> ServiceError:
    """Return the refusal of what may be asked for again in a second."""
    return ServiceError(503, text, retry_after=1)
