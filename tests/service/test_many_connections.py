"""Many connections at a time that say little or nothing: each gets its code, and nobody else is kept out."""

import resource
import socket
from contextlib import ExitStack

import pytest

from tests.fixtures.service import Client, Good, answer_of, post, with_limits

pytestmark = pytest.mark.usefixtures("good_client_goes_on")

HALF_OPEN = {
    b"": (None, b""),
    b"POST /v2/models/plain/infer HTTP/1.1\r\nContent-": 408,
    post(b'{"inputs"', length=2**26): 408,
    post(b"", "Content-Encoding: gzip", length=2**20): 408,
    b"POST /v2/models/plain/infer HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n": 408,
}


@pytest.fixture
def many_files():
    """Let this process have both ends of a thousand connections."""
    needed = 2500
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < needed:
        pytest.skip(f"needs {needed} open files, and this user may have {hard} (ulimit -Hn)")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, needed), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_thousand_half_open_connections_get_their_codes_and_keep_nobody_out(start_service, small_encoders, many_files):
    running = start_service(small_encoders["plain"], limits=with_limits(header_seconds=2.0, body_seconds=2.0))
    with Good(running.port) as good, ExitStack() as stack:
        made = []
        for content in [*HALF_OPEN] * 200:
            one = stack.enter_context(socket.create_connection(("127.0.0.1", running.port), timeout=60))
            one.sendall(content)
            made.append((one, content))
        good.goes_on()
        for one, content in made:
            found = answer_of(one)
            assert found == HALF_OPEN[content] or found[0] == HALF_OPEN[content], (content, found)
        good.goes_on()


def test_too_many_connections_push_out_the_silent_ones(start_service, small_encoders):
    running = start_service(small_encoders["plain"], limits=with_limits(connections=8))
    silent = [socket.create_connection(("127.0.0.1", running.port)) for _ in range(8)]
    assert Client(running.port).get("/v2/health/live") == {"live": True}
    silent[0].settimeout(60)
    status, answer = answer_of(silent[0])
    assert status == 503
    assert answer["error"]
    for one in silent:
        one.close()
