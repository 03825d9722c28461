"""Latents of the service are those of a `FrozenEncoder`, bit for bit, whoever else asks and whoever keeps the memory."""

import threading
from pathlib import Path

import numpy as np
import pytest

from encoders.registry import described
from tests.fixtures.service import Client, random_frames, save_small
from wrappers import FrozenEncoder

FAMILIES = {
    "conv_vae": "debug",
    "critic": "critic_debug",
    "critic_vae": "critic_vae_debug",
    "cwvae": "cwvae_debug",
    "efficientmorl": "efficientmorl_debug",
    "evidence": "evidence_tiny",
    "nvae": "nvae_debug",
    "pca": "pca",
    "points": "points_tiny",
    "slot_attention": "slot_attention_tetrominoes",
}


@pytest.mark.parametrize("preset", FAMILIES.values(), ids=FAMILIES)
def test_latents_are_those_of_a_local_encoder_in_batches_of_8_whoever_else_asks(preset, tmp_path, start_service):
    small = {"critic_vae_debug": {"critic": described("critic", {})}, "slot_attention_tetrominoes": {"slots": 2, "slot_size": 8}}
    folder = save_small(preset, tmp_path / "encoder", **small.get(preset, {}))
    frozen = FrozenEncoder(folder)
    size = frozen.frame_shape[0]
    running = start_service(folder)
    frames = random_frames(16, size)
    expected, _ = frozen.encode(frames)
    stop = threading.Event()
    failed: list[BaseException] = []

    def crowd(seed: int) -> None:
        other, rng = Client(running.port), np.random.default_rng(seed)
        try:
            while not stop.is_set():
                other.infer("encoder", frames=random_frames(int(rng.integers(1, 9)), size, int(rng.integers(1000))))
        except BaseException as error:
            failed.append(error)

    others = [threading.Thread(target=crowd, args=(seed,)) for seed in range(15)]
    for thread in others:
        thread.start()
    client, at = Client(running.port), 0
    for rows in (1, 8, 5, 2):
        got = client.infer("encoder", frames=frames[at : at + rows])["latents"]
        np.testing.assert_array_equal(got, expected[at : at + rows])
        at += rows
    stop.set()
    for thread in others:
        thread.join()
    assert at == len(frames)
    assert failed == []


def test_rows_that_begin_anew_at_different_times_share_a_batch_and_are_as_alone(service, small_encoders):
    frozen = FrozenEncoder(small_encoders["told"])
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (6, 2, 64, 64, 3), np.uint8)
    actions = rng.normal(size=(6, 2, 3)).astype(np.float32)
    resets = np.array([[True, True], [False, False], [True, False], [False, False], [False, True], [True, True]])
    together = Client(service.port)
    alone = [Client(service.port) for _ in range(2)]
    for step in range(6):
        start = {"sequence_start": step == 0}
        reset = resets[step]
        both = together.infer("told", None, {"sequence_id": "both", **start}, frames=frames[step], action=actions[step], reset=reset)
        for row, client in enumerate(alone):
            one = slice(row, row + 1)
            inputs = {"frames": frames[step][one], "action": actions[step][one], "reset": reset[one]}
            got = client.infer("told", None, {"sequence_id": f"row{row}", **start}, **inputs)["latents"]
            np.testing.assert_array_equal(both["latents"][one], got)
    # and as a local encoder that keeps its own state
    state = frozen.initial_state(8)
    for step in range(6):
        anew = np.resize(resets[step], 8)
        state = {
            name: np.where(anew.reshape(-1, *[1] * (tensor.ndim - 1)), frozen.initial_state(8)[name].numpy(), tensor.numpy())
            for name, tensor in state.items()
        }
        told = np.where(anew[:, None], np.float32(0), np.resize(actions[step], (8, 3)))
        local, state = frozen.encode(np.resize(frames[step], (8, 64, 64, 3)), {n: _tensor(a) for n, a in state.items()}, told)
    np.testing.assert_array_equal(both["latents"], local[:2])


def test_memory_kept_by_the_client_and_by_the_service_gives_the_same(client, small_encoders):
    frozen = FrozenEncoder(small_encoders["memory"])
    local, kept = None, {}
    for step in range(5):
        frames = random_frames(8, seed=step)
        expected, local = frozen.encode(frames, local)
        mine = client.infer("memory", frames=frames, **kept)
        kept = {"state": mine["state"]}
        theirs = client.infer("memory", ["latents", "state"], {"sequence_id": 5, "sequence_start": step == 0}, frames=frames)
        np.testing.assert_array_equal(mine["latents"], expected)
        np.testing.assert_array_equal(theirs["latents"], expected)
        np.testing.assert_array_equal(theirs["state"], mine["state"])
    assert np.abs(expected - frozen.encode(frames)[0]).max() > 0


@pytest.mark.parametrize("batching", ["exact", "alone"])
def test_one_row_goes_on_from_its_state_too(client, small_encoders, batching):
    frozen, local, kept = FrozenEncoder(small_encoders["memory"]), None, {}
    for step in range(3):
        frames = random_frames(1, seed=step)
        alone, following = frozen.encode(frames, local)
        padded, _ = frozen.encode(
            np.repeat(frames, 8, 0), local and {name: tensor.repeat_interleave(8, 0) for name, tensor in local.items()}
        )
        got = client.infer("memory", None, {"batching": batching}, frames=frames, **kept)
        local, kept = following, {"state": got["state"]}
        if batching == "alone":
            np.testing.assert_array_equal(got["latents"], alone)
        elif step == 0:
            np.testing.assert_array_equal(got["latents"], padded[:1])
        np.testing.assert_allclose(got["latents"], alone, atol=1e-4)


def test_a_request_encoded_alone_has_the_bits_of_a_local_encoder_for_any_number_of_rows(client, small_encoders):
    frozen = FrozenEncoder(small_encoders["plain"])
    for rows in (1, 2, 3, 7, 9, 17):
        frames = random_frames(rows, seed=rows)
        got = client.infer("plain", None, {"batching": "alone"}, frames=frames)["latents"]
        np.testing.assert_array_equal(got, frozen.encode(frames)[0])


def test_the_last_picture_of_an_episode_is_encoded_without_a_trace(client):
    start = {"sequence_id": "terminal", "sequence_start": True}
    client.infer("memory", None, start, frames=random_frames(2, seed=0))
    go_on = {"sequence_id": "terminal"}
    last = client.infer("memory", None, {**go_on, "keep_state": False}, frames=random_frames(2, seed=1))["latents"]
    again = client.infer("memory", None, go_on, frames=random_frames(2, seed=1))["latents"]
    np.testing.assert_array_equal(last, again)
    after = client.infer("memory", None, go_on, frames=random_frames(2, seed=1))["latents"]
    assert not np.array_equal(after, again)


def test_pictures_of_another_size_are_resized_as_the_artifact_says(client, small_encoders):
    frames = random_frames(8, 100)
    expected, _ = FrozenEncoder(small_encoders["plain"], resize=True).encode(frames)
    np.testing.assert_array_equal(client.infer("plain", frames=frames)["latents"], expected)


def test_every_reading_masks_and_reconstructions_are_outputs(client, small_encoders):
    frozen = FrozenEncoder(small_encoders["critic"])
    frames = random_frames(8)
    readings = list(frozen.model.latents)
    got = client.infer("critic", ["mask", *(f"reading.{name}" for name in readings), "objects"], frames=frames)
    np.testing.assert_array_equal(got["mask"], frozen.masks(frames))
    for name in readings:
        np.testing.assert_array_equal(got[f"reading.{name}"], FrozenEncoder(small_encoders["critic"], latents=name).encode(frames)[0])
    np.testing.assert_array_equal(got["objects"], got["reading.objects"])
    plain = FrozenEncoder(small_encoders["plain"])
    made = client.infer("plain", ["reconstruction"], frames=frames)["reconstruction"]
    local = plain.model.reconstruct(_tensor(frames).movedim(-1, 1).float().div(255)[:, None])[:, 0].movedim(1, -1).numpy()
    assert np.abs(made / 255 - local).max() < 0.01


def test_numbers_as_json_are_those_of_binary_data(client):
    # more of them than are written at a time
    wanted, frames = ["reconstruction", "latents"], random_frames(3)
    binary = client.infer("plain", wanted, frames=frames)
    status, _, answer = client.try_infer("plain", wanted, {"binary_data_output": False}, frames=frames)
    assert (status, [one["name"] for one in answer["outputs"]]) == (200, wanted)
    for one in answer["outputs"]:
        np.testing.assert_array_equal(np.array(one["data"], binary[one["name"]].dtype).reshape(one["shape"]), binary[one["name"]])


def test_metadata_says_all_that_an_agent_asks_of_an_encoder(client, small_encoders: dict[str, Path]):
    frozen = FrozenEncoder(small_encoders["told"])
    metadata = client.get("/v2/models/told")
    properties = metadata["properties"]
    assert all(isinstance(value, str) for value in properties.values())
    assert properties["weights_sha256"] == frozen.info.weights_sha256
    assert (properties["memory"], properties["action_size"], properties["default_reading"]) == ("true", "3", frozen.reading)
    assert int(properties["state_size"]) == 9 + sum(tensor[0].nbytes for tensor in frozen.initial_state(1).values())
    assert "some/store" not in str(metadata)
    inputs = {one["name"]: (one["datatype"], one["shape"]) for one in metadata["inputs"]}
    assert inputs["frames"] == ("UINT8", [-1, 64, 64, 3])
    assert inputs["action"] == ("FP32", [-1, 3])


def _tensor(array):
    import torch

    return torch.from_numpy(np.ascontiguousarray(array))
