"""An unmodified `tritonclient`, in an environment of its own, works with the service."""

import os
import subprocess
from pathlib import Path

import pytest

from service.tokens import Tokens

TOKEN = "a-token-of-many-characters"
SUITE = Path(__file__).with_name("triton_suite.py")
INTERPRETERS = os.environ.get("TRITONCLIENT_PYTHON", "").split(":")


@pytest.mark.parametrize("interpreter", INTERPRETERS)
def test_tritonclient_does_all_that_it_does_with_triton(interpreter, start_service, small_encoders):
    if not interpreter:
        pytest.skip("needs interpreters with tritonclient[http,grpc]: TRITONCLIENT_PYTHON=/path/to/python[:another]")
    folders = (small_encoders["plain"], small_encoders["memory"])
    running = start_service(*folders, grpc_port=0)
    guarded = start_service(*folders, grpc_port=0, tokens=Tokens([TOKEN]))
    ports = [running.port, running.grpc_port, guarded.port, guarded.grpc_port]
    command = [interpreter, str(SUITE), *map(str, ports), TOKEN]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=120, env={"PATH": os.environ["PATH"]})
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "checks passed" in ran.stdout
    print(ran.stdout)
