import numpy as np
import pytest
import torch

from encoders import StoreReference, make_encoder, prepare
from foundation.errors import UserError
from wrappers import FrozenEncoder

FRAMES = np.random.default_rng(0).integers(0, 256, (21, 8, 8, 3), np.uint8)


def test_latents_are_standardised_with_the_stored_statistics(freeze):
    plain, _ = freeze(memory=False).encode(FRAMES)
    standardised, _ = freeze(memory=False, mean=0.25, deviation=0.5).encode(FRAMES)
    np.testing.assert_allclose(standardised, (plain - 0.25) / 0.5, rtol=1e-5)


def test_frames_of_another_size_need_to_be_asked_for(freeze):
    large = FRAMES.repeat(2, axis=1).repeat(2, axis=2)
    with pytest.raises(UserError, match=r"built for frames of \(8, 8, 3\), got \(16, 16, 3\)"):
        freeze(memory=False).encode(large)
    np.testing.assert_array_equal(freeze(memory=False, resize=True).encode(large)[0], freeze(memory=False).encode(FRAMES)[0])


def test_only_uint8_pictures_are_let_in(freeze):
    with pytest.raises(UserError, match="must be uint8"):
        freeze(memory=False).encode(FRAMES.astype(np.float32))


def test_an_unknown_reading_names_those_there_are(freeze):
    with pytest.raises(UserError, match="this encoder has: colour, all"):
        freeze(latents="slots")


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
def test_cuda_without_cuda_is_a_clear_error(freeze):
    with pytest.raises(UserError, match="no CUDA device"):
        freeze(device="cuda")


def test_a_row_is_encoded_the_same_alone_and_in_a_batch(freeze):
    frozen = freeze(latents="all")
    actions = np.random.default_rng(1).uniform(size=(21, 3)).astype(np.float32)
    whole, whole_state = frozen.encode(FRAMES, frozen.initial_state(21), actions)
    rows = [frozen.encode(FRAMES[i : i + 1], frozen.initial_state(1), actions[i : i + 1]) for i in range(21)]
    np.testing.assert_allclose(whole, np.concatenate([latents for latents, _ in rows]), rtol=1e-6)
    torch.testing.assert_close(whole_state["sum"], torch.cat([state["sum"] for _, state in rows]))


def test_an_artifact_encodes_as_its_model_does(tmp_path):
    frames = np.random.default_rng(0).integers(0, 256, (40, 64, 64, 3), np.uint8)
    model = make_encoder("debug")
    prepare(model, frames, tmp_path, store=StoreReference(path="", fingerprint="", frames_per_second=20.0, resize="squash"), seed=0)
    latents, state = FrozenEncoder(tmp_path).encode(frames)
    with torch.inference_mode():
        raw, _ = model.encode(torch.from_numpy(frames).movedim(-1, 1) / 255, {})
    spread = raw.std(0, correction=0)
    expected = (raw - raw.mean(0)) / spread.clamp(min=0.05 * float(spread.max()))
    np.testing.assert_allclose(latents, expected, atol=1e-3)
    assert state == {}
