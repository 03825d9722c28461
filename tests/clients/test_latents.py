"""The client for old Pythons: one file that any of them can read, and that gives what an encoder here gives."""

import ast
import importlib.util
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from wrappers import FrozenEncoder

FILE = Path(__file__).resolve().parents[2] / "clients" / "latents.py"


@pytest.fixture(scope="module")
def latents():
    spec = importlib.util.spec_from_file_location("latents", FILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def told(save_encoder, tmp_path_factory):
    small = {"frame_shape": [16, 16, 3], "encoder_kernels": [4, 4], "decoder_kernels": [6, 6]}
    return save_encoder("cwvae_debug", tmp_path_factory.mktemp("encoder") / "told", action_size=3, **small)


def frames(count, size=16, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, size, size, 3), np.uint8)


def test_python_3_6_can_read_it_and_has_all_that_it_imports() -> None:
    tree = ast.parse(FILE.read_text(), feature_version=(3, 6))
    imported = {name.name for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names}
    imported |= {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {name.partition(".")[0] for name in imported} <= {"array", "http", "json", "os", "ssl", "sys", "time", "urllib"}


def test_latents_are_those_of_an_encoder_here_and_the_memory_is_kept(latents, serve, told) -> None:
    encoder, here = latents.Latents(serve(told).address()), FrozenEncoder(told)
    assert (encoder.shape, encoder.action_size, encoder.frames_per_second) == (here.latent_shape, 3, 5.0)
    state, action = None, np.zeros((1, 3), np.float32)
    for step, frame in enumerate(frames(6)):
        # the third begins an episode, the fifth is looked at and forgotten
        state, action = (None, 0 * action) if step == 2 else (state, action)
        expected, following = here.encode(frame[None], state, action)
        found = encoder(frame, action=action[0], first=step == 2, keep=step != 4)
        np.testing.assert_array_equal(np.asarray(found), expected[0].reshape(-1))
        state = state if step == 4 else following
        action = np.random.default_rng(step).normal(size=(1, 3)).astype(np.float32)


def test_a_batch_has_a_memory_a_row(latents, serve, told) -> None:
    encoder, here = latents.Latents(serve(told).address()), FrozenEncoder(told)
    batch, action = frames(3), np.zeros((3, 3), np.float32)
    first, before = here.encode(batch, None, action)
    np.testing.assert_array_equal(np.stack(encoder(batch)), first.reshape(3, -1))
    before = {name: tensor.clone() for name, tensor in before.items()}
    for name, tensor in here.initial_state(3).items():
        before[name][1] = tensor[1]
    again, _ = here.encode(batch[:, ::-1], before, action)
    np.testing.assert_array_equal(np.stack(encoder(batch[:, ::-1], action=action, first=[False, True, False])), again.reshape(3, -1))
    with pytest.raises(latents.LatentsError, match="2 frames, and the memory is of 3 episodes"):
        encoder(batch[:2])
    with pytest.raises(latents.LatentsError, match="action has 2 numbers, and 9 are needed"):
        encoder(batch, action=[1, 2])


def test_what_it_cannot_use_is_said(latents, serve, told) -> None:
    address = serve(told).address()
    with pytest.raises(latents.LatentsError, match="no latents named 'none'; this encoder has"):
        latents.Latents(address, reading="none")
    with pytest.raises(latents.LatentsError, match="status 404"):
        latents.Latents(address + "2")
    with pytest.raises(latents.LatentsError, match=r"address is http://HOST:PORT/NAME"):
        latents.Latents("127.0.0.1:8000/RUN")
    for wrong in (frames(1) / 255, frames(1)[0, 0]):
        with pytest.raises(latents.LatentsError, match="frames must be uint8"):
            latents.Latents(address)(wrong)
    with pytest.raises(latents.LatentsError, match=r"no answer for 0\.2 s"):
        latents.Latents("http://127.0.0.1:1/RUN", patience=0.2)


def test_a_service_that_fails_is_asked_again_and_one_with_other_weights_is_an_error(latents, serve, between, told, save_encoder) -> None:
    served = serve(told)
    stand = between(served)
    encoder, whole = (latents.Latents(f"http://127.0.0.1:{port}/told") for port in (stand.port, served.port))
    for number, failure in enumerate(["drop", "half", "garbage", 503, 500, "nobody behind"]):
        stand.failures[:] = [failure]
        assert encoder(frames(1, seed=number)[0]) == whole(frames(1, seed=number)[0])
    served.stop()
    back = threading.Timer(0.3, served.start)
    back.start()
    assert encoder(frames(1)[0]) == whole(frames(1)[0])
    back.join()
    stand.failures[:] = [lambda headers, body: (headers, body.replace(encoder.weights.encode(), b"0" * 64))]
    with pytest.raises(latents.LatentsError, match=f"has the weights {'0' * 16} by now, and had {encoder.weights[:16]}"):
        encoder(frames(1)[0])


def test_a_token_is_sent(latents, serve, told, monkeypatch) -> None:
    address = serve(told, tokens=("a-token-of-some-length",)).address()
    with pytest.raises(latents.LatentsError, match="status 401"):
        latents.Latents(address)
    assert latents.Latents(address, token="a-token-of-some-length").shape
    monkeypatch.setenv("MINERL_PERCEPTION_TOKEN", "a-token-of-some-length")
    assert latents.Latents(address)(frames(1)[0])


def test_a_token_is_read_from_the_file_that_the_environment_names(latents, serve, told, monkeypatch, tmp_path) -> None:
    address = serve(told, tokens=("a-token-of-some-length",)).address()
    monkeypatch.setenv("MINERL_PERCEPTION_TOKEN_FILE", str(tmp_path / "token"))
    with pytest.raises(latents.LatentsError, match="token, which MINERL_PERCEPTION_TOKEN_FILE names, cannot be read"):
        latents.Latents(address)
    (tmp_path / "token").write_text("a-token-of-some-length\nanother\n")
    for mode in (0o640, 0o604, 0o620):
        (tmp_path / "token").chmod(mode)
        with pytest.raises(latents.LatentsError, match=r"token: holds a token and can be read or written by others; chmod 600 .*token$"):
            latents.Latents(address)
    (tmp_path / "token").chmod(0o600)
    assert latents.Latents(address)(frames(1)[0], first=np.bool_(True))


@pytest.mark.parametrize("python", [sys.executable, "python3.6", "python3.7", "python3.8"], ids=lambda path: Path(path).name)
def test_its_command_encodes_a_file_of_frames(python, latents, serve, told, tmp_path) -> None:
    # the stand-ins of version managers are found and do not run
    if not (found := shutil.which(python)) or subprocess.run([found, "--version"], capture_output=True).returncode:
        pytest.skip(f"no {python} on PATH")
    address = serve(told).address()
    film = frames(4)
    (tmp_path / "frames").write_bytes(film.tobytes())
    words = [found, str(FILE), address, str(tmp_path / "frames"), "16", "16"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    ran = subprocess.run(words, capture_output=True, text=True, timeout=60, env=environment)
    assert ran.returncode == 0, ran.stderr
    encoder = latents.Latents(address)
    expected = [encoder(frame, first=number == 0)[:6] for number, frame in enumerate(film)]
    shown = [[float(number) for number in line.split()[2:]] for line in ran.stdout.splitlines() if line.startswith("frame ")]
    np.testing.assert_allclose(shown, expected, atol=1e-4)
