"""What a request can be refused with: one text for people, and a code of HTTP's that gRPC's follow from."""

from foundation.errors import in_one_line

_LONGEST = 500


class ServiceError(Exception):
    """A request that is not served: `status` is HTTP's code, `retry_after` the seconds after which it may be tried again."""

    def __init__(self, status: int, text: str, retry_after: int | None = None) -> None:
        super().__init__(in_one_line(text, _LONGEST))
        self.status = status
        self.retry_after = retry_after


def bad_request(text: str) -> ServiceError:
    """Return the refusal of what a client has to write otherwise."""
    return ServiceError(400, text)


def busy(text: str) -> ServiceError:
    """Return the refusal of what may be asked for again in a second."""
    return ServiceError(503, text, retry_after=1)
