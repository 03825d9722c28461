"""An encoder behind a service gives what the same encoder gives here, bit for bit, whatever happens on the way."""

import json
import multiprocessing
import pickle
import shutil
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from stable_baselines3.common.vec_env import DummyVecEnv

from foundation.errors import UserError
from wrappers import FrozenEncoder, LatentObservation, MaskedPicture, RemoteEncoder, VecLatent, open_encoder
from wrappers.state_rows import memory_for

SMALL = {"frame_shape": [16, 16, 3], "encoder_kernels": [4, 4], "decoder_kernels": [6, 6]}
KINDS = {
    "plain": ("debug", {}),
    "memory": ("cwvae_debug", SMALL),
    "told": ("cwvae_debug", SMALL | {"action_size": 3}),
    "critic": ("critic_debug", {}),
    "slots": ("efficientmorl_debug", {}),
}


@pytest.fixture(scope="module")
def folders(save_encoder, tmp_path_factory):
    place = tmp_path_factory.mktemp("encoders")
    return {kind: save_encoder(preset, place / kind, **changes) for kind, (preset, changes) in KINDS.items()}


@pytest.fixture
def served(serve, folders):
    return serve(*folders.values())


def pictures(encoder, rows, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (rows, *encoder.frame_shape), np.uint8)


def follow(encoder, rows=8, steps=3, seed=0):
    """Return the latents of some frames, one after the other."""
    state, found = None, []
    for step in range(steps):
        action = np.random.default_rng(step).normal(size=(rows, encoder.action_size)).astype(np.float32) if encoder.action_size else None
        latents, state = encoder.encode(pictures(encoder, rows, seed + step), state, action)
        found.append(latents)
    return np.stack(found)


@pytest.mark.parametrize("kind", KINDS)
def test_latents_have_the_bits_of_an_encoder_here_for_any_number_of_rows(served, folders, kind):
    here, there = FrozenEncoder(folders[kind]), RemoteEncoder(served.address(folders[kind]))
    for rows in (1, 3, 8, 11, 70):
        np.testing.assert_array_equal(follow(there, rows), follow(here, rows))
    latents, _ = there.encode(pictures(there, 0))
    assert latents.shape == (0, *here.latent_shape)
    shapes, facts = ("latent_shape", "frame_shape"), ("has_memory", "action_size", "actions", "is_set", "generates", "reading")
    for name in (*shapes, *facts, "parameter_count"):
        assert getattr(there, name) == getattr(here, name), name


@pytest.mark.parametrize("kind", ["memory", "slots"])
def test_every_reading_can_be_asked_for(served, folders, kind):
    for reading in FrozenEncoder(folders[kind]).info.latents:
        here, there = FrozenEncoder(folders[kind], latents=reading), RemoteEncoder(served.address(folders[kind]), reading)
        np.testing.assert_array_equal(follow(there), follow(here))
        assert there.is_set == here.is_set
    with pytest.raises(UserError, match="no latents named 'none'; this encoder has"):
        RemoteEncoder(served.address(folders[kind]), "none")


def test_it_is_opened_by_a_text_and_never_by_a_path(served, folders):
    assert isinstance(open_encoder(served.address(folders["plain"])), RemoteEncoder)
    assert isinstance(open_encoder(str(folders["plain"])), FrozenEncoder)
    from pathlib import Path

    with pytest.raises(UserError, match="cannot be read"):
        open_encoder(Path(served.address(folders["plain"])))


def test_an_address_that_is_none_is_refused():
    for text in ("ftp://host/RUN", "http://host", "http://host/a/b", "http://host/a?b", "http://host:x/a", "http:///a"):
        with pytest.raises(UserError, match=r"address is http://HOST:PORT/NAME"):
            RemoteEncoder(text)
    with pytest.raises(UserError, match="MINERL_PERCEPTION_TOKEN") as refused:
        RemoteEncoder("http://me:secret@host/RUN")
    assert "secret" not in str(refused.value)


def test_a_row_of_zeros_begins_anew(served, folders):
    there = RemoteEncoder(served.address(folders["told"]))
    assert not there.initial_state(2)["state"].any()
    frames, action = pictures(there, 8), np.ones((8, 3), np.float32)
    first, state = there.encode(frames, None, 0 * action)
    state["state"][3] = 0
    again, _ = there.encode(frames, state, np.where(np.arange(8)[:, None] == 3, 0, action))
    np.testing.assert_array_equal(again[3], first[3])
    assert (again[2] != first[2]).any()


@pytest.mark.parametrize("kind", ["plain", "memory", "told"])
def test_environments_see_the_same_through_either(served, folders, pictures_env, kind):
    seen = []
    for encoder in (FrozenEncoder(folders[kind]), RemoteEncoder(served.address(folders[kind]))):
        size = encoder.frame_shape[0]
        venv = VecLatent(DummyVecEnv([lambda seed=seed, size=size: pictures_env(seed, size=size) for seed in range(5)]), encoder, True)
        found = [venv.reset()]
        for step in range(12):
            latents, _, dones, infos = venv.step(np.arange(5) % 3)
            found += [latents, *(infos[row]["terminal_observation"] for row in np.flatnonzero(dones))]
            if step == 6:
                venv.restore_encoder_state({name: tensor.clone() for name, tensor in venv.encoder_state().items()})
        alone = LatentObservation(pictures_env(0, size=size), encoder, True)
        seen.append([*found, alone.reset()[0], alone.step(1)[0]])
    for here, there in zip(*seen, strict=True):
        np.testing.assert_array_equal(there, here)


def test_frames_of_other_sizes_are_resized_where_that_is_asked_for(served, folders):
    frames = np.random.default_rng(0).integers(0, 256, (4, 50, 70, 3), np.uint8)
    here, there = FrozenEncoder(folders["plain"], resize=True), RemoteEncoder(served.address(folders["plain"]), resize=True)
    np.testing.assert_array_equal(there.encode(frames)[0], here.encode(frames)[0])
    with pytest.raises(UserError, match="ask for resize=True"):
        RemoteEncoder(served.address(folders["plain"])).encode(frames)
    with pytest.raises(UserError, match="frames must be uint8"):
        there.encode(frames / 255)


def test_masks_and_reconstructions_come_from_there_too(served, folders, pictures_env):
    here, there = FrozenEncoder(folders["critic"]), RemoteEncoder(served.address(folders["critic"]))
    frames = pictures(here, 8)
    np.testing.assert_array_equal(there.masks(frames), here.masks(frames))
    shown = MaskedPicture(pictures_env(0, size=64), there).reset()[0]
    np.testing.assert_array_equal(shown, MaskedPicture(pictures_env(0, size=64), str(folders["critic"])).reset()[0])
    for kind in ("plain", "slots"):
        there = RemoteEncoder(served.address(folders[kind]))
        with pytest.raises(UserError, match="gives no masks"):
            there.masks(frames)
    here, there = FrozenEncoder(folders["plain"]), RemoteEncoder(served.address(folders["plain"]))
    assert abs(there.reconstruct(frames).astype(int) - here.reconstruct(frames)).max() <= 1


def test_threads_have_connections_of_their_own(served, folders):
    there = RemoteEncoder(served.address(folders["memory"]))
    expected = [follow(FrozenEncoder(folders["memory"]), 3, seed=seed) for seed in range(4)]
    with ThreadPoolExecutor(4) as threads:
        for found, one in zip(threads.map(lambda seed: follow(there, 3, seed=seed), range(4)), expected, strict=True):
            np.testing.assert_array_equal(found, one)


def test_a_pickled_one_connects_anew_and_holds_no_token(served, folders, monkeypatch):
    monkeypatch.setenv("MINERL_PERCEPTION_TOKEN", "very-secret-token")
    there = RemoteEncoder(served.address(folders["memory"]))
    expected = follow(there)
    content = pickle.dumps(there)
    assert b"very-secret" not in content
    np.testing.assert_array_equal(follow(pickle.loads(content)), expected)


def _in_child(encoder, results):
    results.put(follow(encoder, 2))


def test_a_forked_process_does_not_talk_into_its_parents_connection(served, folders):
    there = RemoteEncoder(served.address(folders["plain"]))
    expected = follow(there, 2)
    context = multiprocessing.get_context("fork")
    results = context.Queue()
    child = context.Process(target=_in_child, args=(there, results))
    child.start()
    for _ in range(5):
        np.testing.assert_array_equal(follow(there, 2), expected)
    np.testing.assert_array_equal(results.get(timeout=60), expected)
    child.join(30)


@pytest.fixture
def unreliable(served, folders, between):
    """The encoder with memory, behind something that fails as it is told."""
    stand = between(served)
    return RemoteEncoder(f"http://127.0.0.1:{stand.port}/memory", deadline_seconds=30), stand


FAILURES = ["drop", "half", "garbage", 503, (503, 0), 502, 504, 429, 408, 500, "nobody behind"]


def test_what_may_pass_is_asked_again_and_changes_no_bit(unreliable, folders, capsys):
    there, stand = unreliable
    here, state, expected = FrozenEncoder(folders["memory"]), None, None
    for step, failure in enumerate([*FAILURES, ["drop", 503, "drop"]]):
        stand.failures[:] = failure if isinstance(failure, list) else [failure]
        frames = pictures(there, 8, step)
        latents, state = there.encode(frames, state)
        wanted, expected = here.encode(frames, expected)
        np.testing.assert_array_equal(latents, wanted)
        assert not stand.failures
    assert "no answer (status 503, made to fail); trying again for up to 30 s" in capsys.readouterr().err


def test_a_service_that_is_away_is_waited_for_until_the_deadline(serve, folders):
    served = serve(folders["memory"])
    there = RemoteEncoder(served.address(), deadline_seconds=30)
    latents, state = there.encode(pictures(there, 8))
    served.stop()
    back = threading.Timer(0.5, served.start)
    back.start()
    wanted = FrozenEncoder(folders["memory"])
    expected, before = wanted.encode(pictures(there, 8))
    np.testing.assert_array_equal(latents, expected)
    np.testing.assert_array_equal(there.encode(pictures(there, 8, 1), state)[0], wanted.encode(pictures(there, 8, 1), before)[0])
    back.join()
    served.stop()
    hasty = pickle.loads(pickle.dumps(there))
    hasty.deadline_seconds = 0.3
    with pytest.raises(UserError, match=r"no answer for 0\.3 s \(.*[Rr]efused.*start serve_encoder\.py"):
        hasty.encode(pictures(there, 8), state)


@pytest.mark.parametrize("failure", [400, 401, 403, 404, 413, 415])
def test_what_would_come_again_is_an_error_at_once(unreliable, failure):
    there, stand = unreliable
    stand.failures[:] = [failure]
    with pytest.raises(UserError, match=f"status {failure}, made to fail") as refused:
        there.encode(pictures(there, 8))
    assert ("MINERL_PERCEPTION_TOKEN" in str(refused.value)) == (failure in (401, 403))
    there.encode(pictures(there, 8))


def test_a_fault_that_comes_again_and_again_is_an_error(unreliable):
    there, stand = unreliable
    stand.failures[:] = [500, 500, 500, 500]
    with pytest.raises(UserError, match="status 500, made to fail"):
        there.encode(pictures(there, 8))
    assert stand.failures == [500]


def changed(**changes):
    """Return what changes the JSON text of an answer: `head` by a function, the bytes behind it by another."""

    def change(headers, body):
        name = next(name for name in headers if name.lower() == "inference-header-content-length")
        length = int(headers[name])
        head, rest = json.loads(body[:length]), body[length:]
        changes.get("head", lambda head: None)(head)
        text = json.dumps(head).encode()
        rest = changes.get("rest", lambda rest: rest)(rest)
        return {**headers, name: changes.get("length", str(len(text)))}, text + rest

    return change


@pytest.mark.parametrize(
    "change",
    [
        {"rest": lambda rest: rest[:-1]},
        {"length": "99999999"},
        {"length": "-1"},
        {"head": lambda head: head.update(outputs=[])},
        {"head": lambda head: head.update(outputs=7)},
        {"head": lambda head: head["outputs"][0].update(shape=[8, 21])},
        {"head": lambda head: head["outputs"][0].update(datatype="FP64")},
        {"head": lambda head: head["outputs"][0].update(parameters={"binary_data_size": "many"})},
        {"head": lambda head: head["outputs"][0].update(parameters={"binary_data_size": -8})},
        {"head": lambda head: head["outputs"][0].pop("parameters")},
    ],
)
def test_an_answer_that_does_not_fit_is_an_error_that_names_the_service(unreliable, change):
    there, stand = unreliable
    stand.failures[:] = [changed(**change)]
    with pytest.raises(UserError, match=rf"127\.0\.0\.1:{stand.port}/memory: not an answer that this version understands"):
        there.encode(pictures(there, 8))


def test_an_answer_without_an_end_is_not_taken_in(unreliable):
    there, stand = unreliable
    stand.failures[:] = [lambda headers, body: (headers, bytes(2**25))]
    with pytest.raises(UserError, match="answered with more than"):
        there.encode(pictures(there, 8))
    there.encode(pictures(there, 8))


def test_what_is_no_such_service_is_said(unreliable):
    _, stand = unreliable
    for answer in (b"[]", b"<html>", b'{"properties": {}, "outputs": []}', b"[" * 100_000):
        stand.failures[:] = [lambda headers, body, answer=answer: (headers, answer)]
        with pytest.raises(UserError, match="is that a perception service"):
            RemoteEncoder(f"http://127.0.0.1:{stand.port}/memory")
    with pytest.raises(UserError, match="no model 'nobody' is served"):
        RemoteEncoder(f"http://127.0.0.1:{stand.port}/nobody")


@pytest.mark.parametrize("kind", ["plain", "memory"])
def test_weights_that_change_under_a_running_agent_are_an_error_that_names_both(serve, save_encoder, tmp_path, kind):
    preset, changes = KINDS[kind]
    save_encoder(preset, tmp_path / kind, **changes)
    served = serve(tmp_path / kind)
    there = RemoteEncoder(served.address())
    _, state = there.encode(pictures(there, 8))
    served.stop()
    save_encoder(preset, tmp_path / kind, seed=1, **changes)
    served.start()
    now = FrozenEncoder(tmp_path / kind).info.weights_sha256
    for before in (state, None):
        with pytest.raises(UserError) as refused:
            there.encode(pictures(there, 8), before)
        assert there.info.weights_sha256[:16] in str(refused.value)
        assert now[:16] in str(refused.value)


TOKEN = "a-token-of-some-length"


def test_a_token_comes_from_the_environment_or_from_a_file_of_ones_own(serve, folders, tmp_path, monkeypatch):
    served = serve(folders["plain"], tokens=(TOKEN,))
    with pytest.raises(UserError, match=r"wants its token.*MINERL_PERCEPTION_TOKEN"):
        RemoteEncoder(served.address())
    monkeypatch.setenv("MINERL_PERCEPTION_TOKEN", "another-token-altogether")
    with pytest.raises(UserError, match="wants its token") as refused:
        RemoteEncoder(served.address())
    assert "another" not in str(refused.value)
    monkeypatch.setenv("MINERL_PERCEPTION_TOKEN", TOKEN)
    follow(RemoteEncoder(served.address()), 1)
    monkeypatch.delenv("MINERL_PERCEPTION_TOKEN")
    file = tmp_path / "token"
    file.write_text(f"{TOKEN}\n")
    monkeypatch.setenv("MINERL_PERCEPTION_TOKEN_FILE", str(file))
    file.chmod(0o644)
    with pytest.raises(UserError, match="chmod 600"):
        RemoteEncoder(served.address())
    file.chmod(0o600)
    follow(RemoteEncoder(served.address()), 1)
    for content, expected in ((b"", "holds no token"), (b"two words", "holds no token"), (b"\xff" * 20, "holds no token")):
        file.write_bytes(content)
        with pytest.raises(UserError, match=expected):
            RemoteEncoder(served.address())
    file.unlink()
    with pytest.raises(UserError, match="cannot be read"):
        RemoteEncoder(served.address())


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs the command openssl, for a certificate")
def test_a_certificate_is_checked(serve, folders, tmp_path, monkeypatch):
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    words = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    words += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(words, check=True, capture_output=True)
    address = serve(folders["plain"], certificate=certificate, key=key).address().replace("http:", "https:")
    with pytest.raises(UserError, match="its certificate is not trusted"):
        RemoteEncoder(address)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    np.testing.assert_array_equal(follow(RemoteEncoder(address)), follow(FrozenEncoder(folders["plain"])))


def test_states_stay_on_the_cpu_and_are_torchs(served, folders):
    there = RemoteEncoder(served.address(folders["memory"]))
    _, state = there.encode(pictures(there, 3))
    assert {name: (tensor.dtype, tensor.device.type, len(tensor)) for name, tensor in state.items()} == {"state": (torch.uint8, "cpu", 3)}
    assert (there.placed(), there.on_cpu()) == ("service", there)


def test_memory_goes_on_where_the_same_weights_are(served, folders, save_encoder, tmp_path):
    here, there = FrozenEncoder(folders["memory"]), RemoteEncoder(served.address(folders["memory"]))
    frames = pictures(here, 5)
    for one, other in ((here, there), (there, here)):
        _, state = one.encode(frames)
        carried = memory_for(other, state, 5)
        assert carried is not None
        expected, _ = one.encode(frames, state)
        found, _ = other.encode(frames, carried)
        np.testing.assert_array_equal(found, expected)
        assert memory_for(other, state, 4) is None
        # a row of zeros stands before the first frame
        fresh = memory_for(other, one.initial_state(5), 5)
        np.testing.assert_array_equal(other.encode(frames, fresh)[0], one.encode(frames)[0])
    _, state = there.encode(frames)
    assert memory_for(FrozenEncoder(folders["told"]), state, 5) is None
    assert memory_for(FrozenEncoder(save_encoder("cwvae_debug", tmp_path / "memory", seed=1, **SMALL)), state, 5) is None
    assert memory_for(FrozenEncoder(folders["plain"]), state, 5) is None
    assert memory_for(RemoteEncoder(served.address(folders["plain"])), state, 5) is None
