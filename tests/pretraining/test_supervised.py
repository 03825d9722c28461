"""The supervised control is the mirrored architecture trained on the recorded state, and on nothing else."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from agents.run.training import train_agent
from encoders import StoreReference, load_encoder, make_encoder, make_on_top, prepare
from foundation.errors import UserError
from frames import FrameStore, Labels
from pretraining import supervised
from pretraining.supervised import supervised_artifact, supervised_options
from tests.fixtures.clips import write_states
from wrappers import FrozenEncoder

EVIDENCE = {"encoder": "4k8s8 8k3s2", "maps": 2}


@pytest.fixture(autouse=True)
def short(monkeypatch) -> None:
    monkeypatch.setattr(supervised, "STEPS", 60)
    monkeypatch.setattr(supervised, "FRAMES_A_STEP", 16)


def mirrored(folder: Path, store: Path, preset: str = "debug", **hyperparameters) -> Path:
    """Return the folder of an untrained encoder that names the store."""
    frames = np.random.default_rng(0).integers(0, 256, (64, 64, 64, 3), np.uint8)
    reference = StoreReference(path=str(store), fingerprint="f", frames_per_second=20.0, resize="squash")
    prepare(make_encoder(preset, frame_shape=[64, 64, 3], **hyperparameters), frames, folder, store=reference)
    return folder


@pytest.fixture
def encoder(tmp_path, state_store) -> Path:
    return mirrored(tmp_path / "mirrored", state_store)


def weights(folder: Path) -> bytes:
    return (folder / "encoder.safetensors").read_bytes()


def explained(folder: Path, store: FrameStore) -> float:
    """Return how much of the light of held-out frames a linear regression explains from the latents, R^2, fitted on training frames."""
    frozen, parts = FrozenEncoder(folder), []
    for split in ("train", "val"):
        indices = store.indices(split)
        latents = frozen.encode(store.frames(indices))[0].reshape(len(indices), -1)
        parts.append((np.c_[latents, np.ones(len(latents))], Labels(store, {"state": {}}).at(indices)["state"][:, 0, 1]))
    (x, y), (held_out, truth) = parts
    # a ridge, since there are about as many latents as frames
    solution = np.linalg.solve(x.T @ x + np.eye(x.shape[1]), x.T @ y)
    return 1 - np.mean((held_out @ solution - truth) ** 2) / truth.var()


def test_its_latents_tell_the_state_and_it_is_an_encoder_like_any_other(encoder, state_store, tmp_path) -> None:
    made = supervised_artifact(supervised_options(encoder, tmp_path / "made", 0))
    assert made.info.hyperparameters == load_encoder(encoder).info.hyperparameters
    assert made.info.steps == 60
    assert "state" in made.info.store.saw
    assert explained(tmp_path / "made", FrameStore(state_store)) > 0.99
    # nothing of it was trained to reconstruct
    torch.manual_seed(0)
    fresh = make_encoder("debug", frame_shape=[64, 64, 3]).state_dict()
    same = [name for name, tensor in made.model.state_dict().items() if name in fresh and torch.equal(tensor, fresh[name])]
    assert {name.split(".")[0] for name in fresh.keys() - set(same)} == {"encoder", "to_posterior"}


def test_what_was_stopped_goes_on_with_the_same_bits_and_what_is_whole_is_kept(encoder, tmp_path) -> None:
    whole = supervised_options(encoder, tmp_path / "whole", 0)
    supervised_artifact(whole)
    broken = replace(whole, run=tmp_path / "broken")
    supervised_artifact(replace(broken, steps=25))
    supervised_artifact(broken)
    assert weights(tmp_path / "broken") == weights(tmp_path / "whole")
    (tmp_path / "whole" / "resume.pt").unlink()
    supervised_artifact(whole)
    assert not (tmp_path / "whole" / "resume.pt").exists()
    with pytest.raises(UserError, match=r"training\.seed=0, now it is 1"):
        supervised_artifact(supervised_options(encoder, tmp_path / "broken", 1))


def test_a_finished_one_of_another_store_is_refused_as_a_begun_one_is(encoder, state_store, tmp_path) -> None:
    options = supervised_options(encoder, tmp_path / "made", 0)
    supervised_artifact(options)
    other = write_states(tmp_path / "other", first=10)
    with pytest.raises(UserError, match="store"):
        supervised_artifact(supervised_options(encoder, tmp_path / "made", 0, other))
    # where it lies does not matter
    moved = shutil.copytree(state_store, tmp_path / "moved")
    supervised_artifact(supervised_options(encoder, tmp_path / "made", 0, moved))


def test_what_stands_on_another_encoder_is_not_mirrored(encoder, state_store, tmp_path) -> None:
    frames = np.zeros((64, 64, 64, 3), np.uint8)
    reference = StoreReference(path=str(state_store), fingerprint="f", frames_per_second=20.0, resize="squash")
    prepare(make_on_top("critic_debug", features=str(encoder)), frames, tmp_path / "critic", store=reference)
    with pytest.raises(UserError, match="a 'critic' on another encoder"):
        supervised_options(tmp_path / "critic", tmp_path / "made", 0)


def test_a_critic_is_mirrored_without_the_rewards_it_learns_from(state_store, tmp_path) -> None:
    folder = mirrored(tmp_path / "critic", state_store, "critic_debug")
    made = supervised_artifact(supervised_options(folder, tmp_path / "made", 0, latents="bottleneck"))
    assert made.info.store.saw == ("state",)


def test_agents_see_the_reading_that_was_trained(state_store, tmp_path) -> None:
    folder = mirrored(tmp_path / "evidence", state_store, "evidence", **EVIDENCE)
    first, other = list(load_encoder(folder).model.latents)[:2]
    for reading in (first, other):
        supervised_artifact(supervised_options(folder, tmp_path / reading, 0, latents=reading))
        assert load_encoder(tmp_path / reading).model.reading(None) == reading


def test_what_cannot_be_made_is_said_before_anything_is_written(encoder, state_store, tmp_path) -> None:
    without = write_states(tmp_path / "without", state=False)
    with pytest.raises(UserError, match=r"without: holds no state.*--record state.*--store STORE"):
        supervised_options(encoder, tmp_path / "made", 0, store=without)
    with pytest.raises(UserError, match="there is no such store"):
        supervised_options(encoder, tmp_path / "made", 0, store=tmp_path / "nowhere")
    with pytest.raises(UserError, match="a 'pca' is computed, so 'supervised' cannot mirror it"):
        supervised_options(mirrored(tmp_path / "pca", state_store, "pca", latent_dim=4), tmp_path / "made", 0)
    assert not (tmp_path / "made").exists()


def test_an_agent_on_it_trains_once_and_resumes_without_the_store(small_run, tmp_path) -> None:
    store = write_states(tmp_path / "store")
    folder = mirrored(tmp_path / "mirrored", store)

    def run(steps: int):
        return small_run(control="supervised", encoder=folder, steps=steps)

    result = train_agent(run(32), lambda steps, note: False)
    assert (result["control"], result["encoder"]["name"]) == ("supervised", "conv_vae")
    before = weights(tmp_path / "run" / "encoder")
    (store / "data.mdb").unlink()
    store.rmdir()
    assert train_agent(run(64), lambda steps, note: False)["steps"] == 64
    assert weights(tmp_path / "run" / "encoder") == before
