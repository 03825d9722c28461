"""What all tests of MineRL's client stand on."""

import signal

import pytest


@pytest.fixture(autouse=True)
def interruptible():
    """Let SIGINT interrupt, also where the tests run in the background of a shell, which has it ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
