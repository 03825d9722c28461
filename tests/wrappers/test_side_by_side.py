"""Several encoders side by side give what each gives alone, whatever they remember; what does not fit together is refused."""

import hashlib
import json
from dataclasses import replace

import numpy as np
import pytest
import safetensors.torch
import torch
from stable_baselines3.common.vec_env import DummyVecEnv

from encoders import EncoderArtifact, StoreReference, load_encoder, make_encoder, prepare
from encoders.actions import ActionArray
from encoders.artifact import INFO_FILE, WEIGHTS_FILE, EncoderInfo
from encoders.scaling import ReadingStatistics
from foundation.errors import UserError
from foundation.places import Address, View, Views
from tests.fixtures.slots import ColourSlots
from tests.wrappers.conftest import ACTIONS, Remembering
from wrappers import FrozenEncoder, LatentObservation, SideBySide, VecLatent, open_encoder
from wrappers.opening import described, info_of, seen_through
from wrappers.state_rows import StateRows, memory_for

ENVIRONMENTS = 8


def frozen(memory=True, latents="all", rate=5.0, scale=0.7, actions=None, resize="squash", size=8):
    """Return an encoder of the tests' pictures, with statistics of its own."""
    model = Remembering(memory=memory)
    model.frame_shape = (size, size, 3)
    statistics = {name: ReadingStatistics(torch.full(shape, 0.2), torch.full(shape, scale)) for name, shape in model.latents.items()}
    store = StoreReference("a/store", "f", rate, resize, actions)
    info = EncoderInfo("remembering", {}, model.frame_shape, {"colour": [3], "all": [7]}, store, 0, {}, f"{scale}")
    return FrozenEncoder(EncoderArtifact(model, info, statistics), latents=latents)


@pytest.fixture
def three():
    return [frozen(), frozen(memory=False, latents="colour", scale=3.0), frozen(latents="colour", scale=0.1)]


def test_latents_stand_side_by_side_in_every_step_and_memories_are_those_of_each_alone(pictures_env, three) -> None:
    def venv(encoder):
        return VecLatent(DummyVecEnv([lambda seed=seed: pictures_env(seed, dictionary=True) for seed in range(ENVIRONMENTS)]), encoder)

    together, alone = venv(SideBySide(three)), [venv(one) for one in three]
    assert together.observation_space["latent"].shape == (7 + 3 + 3,)
    found, expected = together.reset(), [one.reset() for one in alone]
    drawn, ended = np.random.default_rng(1), 0
    for _ in range(40):
        assert (found["latent"] == np.concatenate([one["latent"] for one in expected], axis=1)).all()
        state = together.encoder_state()
        assert set(state) == {"0.sum", "0.count", "2.sum", "2.count"}
        for number, one in enumerate(alone):
            assert all(torch.equal(state[f"{number}.{name}"], tensor) for name, tensor in one.encoder_state().items())
        actions = drawn.integers(0, ACTIONS, ENVIRONMENTS)
        found, _, dones, infos = together.step(actions)
        steps = [one.step(actions) for one in alone]
        expected = [step[0] for step in steps]
        for row in np.flatnonzero(dones):
            ended += 1
            last = [step[3][row]["terminal_observation"]["latent"] for step in steps]
            assert (infos[row]["terminal_observation"]["latent"] == np.concatenate(last)).all()
    assert ended > ENVIRONMENTS


def test_the_memories_of_all_are_restored(pictures_env, three) -> None:
    def venv():
        return VecLatent(DummyVecEnv([lambda: pictures_env(3)]), SideBySide(three))

    one, other = venv(), venv()
    one.reset()
    one.step(np.ones(1, int))
    other.reset()
    other.restore_encoder_state(one.encoder_state())
    assert all(torch.equal(one.encoder_state()[name], tensor) for name, tensor in other.encoder_state().items())
    with pytest.raises(UserError, match="memory in it is of another encoder"):
        other.restore_encoder_state({name: tensor for name, tensor in one.encoder_state().items() if name != "2.sum"})


def test_a_memory_that_a_service_kept_goes_on_in_one_of_the_folders(pictures_env) -> None:
    parts = [frozen(), frozen(latents="colour", scale=0.1)]
    for part, digest in zip(parts, ("a1", "b2"), strict=True):
        part.info = replace(part.info, weights_sha256=digest * 32)
    together = SideBySide(parts)
    venv = VecLatent(DummyVecEnv([lambda: pictures_env(3)]), together)
    venv.reset()
    venv.step(np.ones(1, int))
    state = venv.encoder_state()
    apart = together.states_apart(state)
    rows = [StateRows(part.initial_state(1), part.info.weights_sha256).pack(own) for part, own in zip(parts, apart, strict=True)]
    kept = together.joined_states([apart[0], {"state": torch.from_numpy(rows[1])}])
    restored = memory_for(together, kept, 1)
    assert restored is not None
    assert restored.keys() == state.keys()
    assert all(torch.equal(restored[name], tensor) for name, tensor in state.items())
    swapped = together.joined_states([apart[0], {"state": torch.from_numpy(rows[0])}])
    assert memory_for(together, swapped, 1) is None
    assert memory_for(together, {**state, "2.more": torch.zeros(1)}, 1) is None


def test_one_environment_sees_the_same(pictures_env, three) -> None:
    together, alone = LatentObservation(pictures_env(2), SideBySide(three)), [LatentObservation(pictures_env(2), one) for one in three]
    found, expected = together.reset()[0], [one.reset()[0] for one in alone]
    for action in (0, 2, 1):
        np.testing.assert_array_equal(found, np.concatenate(expected))
        found, expected = together.step(action)[0], [one.step(action)[0] for one in alone]


def test_what_is_said_of_them_is_said_of_all(three) -> None:
    pair = SideBySide(three)
    assert (pair.reading, pair.scale, pair.latent_shape) == ("all+colour+colour", "unit+unit+unit", (13,))
    assert pair.info.name == "remembering+remembering+remembering"
    assert pair.info.weights_sha256 == "0.7+3.0+0.1"
    assert (pair.has_memory, pair.action_size, pair.placed(), pair.batch_rows(20)) == (True, ACTIONS, "cpu", 8)
    assert pair.on_cpu().latent_shape == (13,)
    with pytest.raises(UserError, match="side by side give no masks"):
        pair.masks(np.zeros((1, 8, 8, 3), np.uint8))


def test_the_rate_is_that_of_those_who_remember(three) -> None:
    assert SideBySide([frozen(memory=False, rate=20.0), frozen()]).info.frames_per_second == 5.0
    with pytest.raises(UserError, match="'remembering' and 'remembering' cannot stand side by side: they remember 5 and 20 frames/s"):
        SideBySide([frozen(), frozen(rate=20.0)])


def test_encoders_that_cannot_see_the_same_are_refused() -> None:
    with pytest.raises(UserError, match=r"see the same pictures, and 'remembering' was trained on \(8, 8, 3\) .* \(16, 16, 3\)"):
        SideBySide([frozen(), frozen(size=16)])
    with pytest.raises(UserError, match=r"resized by 'squash', .* by 'crop'"):
        SideBySide([frozen(), frozen(resize="crop")])
    one, other = (ActionArray("jump", ACTIONS),), (ActionArray("walk", ACTIONS),)
    with pytest.raises(UserError, match=r"they were trained with other actions \('jump' is missing"):
        SideBySide([frozen(actions=one), frozen(actions=other)])
    assert SideBySide([frozen(actions=one), frozen(memory=False), frozen(actions=one)]).actions == one


def test_a_set_stands_beside_others_only_flat(three) -> None:
    model = ColourSlots()
    model.frame_shape, model.set_readings = (8, 8, 3), frozenset({"slots"})
    info = replace(three[0].info, latents={"slots": [7, 7]})
    slots = FrozenEncoder(EncoderArtifact(model, info, {"slots": ReadingStatistics(torch.zeros(7, 7), torch.ones(7, 7))}))
    with pytest.raises(UserError, match=r"'slots' .* is a set, .* flatten it with --algorithm.set-policy flat"):
        SideBySide([three[0], slots])
    assert SideBySide([three[0], slots], flat=True).latent_shape == (7 + 49,)


@pytest.fixture
def folders(tmp_path, save_encoder):
    tiny = {"frame_shape": [16, 16, 3], "encoder_kernels": [4, 4], "decoder_kernels": [6, 6]}
    return [save_encoder("cwvae_debug", tmp_path / "clockwork", **tiny), small(tmp_path / "plain")]


def small(folder):
    torch.manual_seed(3)
    frames = np.random.default_rng(3).integers(0, 256, (64, 16, 16, 3), np.uint8)
    prepare(make_encoder("debug", frame_shape=[16, 16, 3]), frames, folder, store=StoreReference("a/store", "f", 5.0, "squash"))
    return folder


def test_folders_and_services_are_mixed_each_in_its_reading_and_scale_bit_for_bit(folders, serve) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (11, 16, 16, 3), np.uint8)
    clockwork, plain = folders
    chosen = [("means", "global"), ("mean", "whiten")]
    alone = [FrozenEncoder(folder, "cpu", latents, scale=scale) for folder, (latents, scale) in zip(folders, chosen, strict=True)]
    state = alone[0].encode(frames)[1]
    action = np.random.default_rng(1).random((11, alone[0].action_size), np.float32) if alone[0].action_size else None
    expected = np.concatenate([alone[0].encode(frames, state, action)[0], alone[1].encode(frames)[0]], axis=1)
    served = serve(*folders)
    addresses = [Address(served.address(folder)) for folder in folders]
    for places in ([clockwork, plain], [clockwork, addresses[1]], [addresses[0], plain], addresses):
        pair = open_encoder(Views(tuple(View(place, *said) for place, said in zip(places, chosen, strict=True))))
        _, remembered = pair.encode(frames)
        assert (pair.encode(frames, remembered, action)[0] == expected).all()
        assert (pair.reading, pair.scale) == ("means+mean", "global+whiten")


def test_what_there_is_to_see_through_is_described_as_it_is_seen(folders, serve) -> None:
    clockwork, plain = folders
    assert next(iter(load_encoder(clockwork).info.latents)) != "means"
    address = Address(serve(clockwork).address())
    for place in (clockwork, address):
        views = (View(place, "means", "global"), View(plain))
        for chosen in (views[:1], views):
            expected, found = open_encoder(Views(chosen)), described(seen_through(Views(chosen), None, None))
            reading = next(iter(found.latents.items()))
            assert reading == (expected.reading, list(expected.latent_shape)) == next(iter(info_of(Views(chosen)).latents.items()))
            assert found.scale == expected.scale
    one = load_encoder(clockwork)
    assert list(one.info.latents) == list(load_encoder(clockwork).model.latents)
    assert list(one.seen("means", None, "").info.latents) == list(one.model.latents)


def test_a_service_scales_as_a_folder_does_and_says_what_it_cannot(folders, serve, tmp_path) -> None:
    served = serve(folders[1])
    address, frames = served.address(), np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3), np.uint8)
    for scale in (None, "unit", "global", "whiten"):
        remote, local = open_encoder(address, scale=scale), FrozenEncoder(folders[1], scale=scale)
        assert remote.scale == local.scale
        assert (remote.encode(frames)[0] == local.encode(frames)[0]).all()
    # one of before there were scales
    tensors = safetensors.torch.load_file(folders[1] / WEIGHTS_FILE)
    content = safetensors.torch.save({name: tensor for name, tensor in tensors.items() if not name.endswith((".spread", ".whitening"))})
    old = tmp_path / "old"
    old.mkdir()
    (old / WEIGHTS_FILE).write_bytes(content)
    info = json.loads((folders[1] / INFO_FILE).read_text())
    (old / INFO_FILE).write_text(json.dumps(info | {"weights_sha256": hashlib.sha256(content).hexdigest()}))
    before = serve(old).address()
    assert (open_encoder(before, scale="unit").encode(frames)[0] == FrozenEncoder(old).encode(frames)[0]).all()
    with pytest.raises(UserError, match="does not scale these latents by 'global', but by unit; serve an encoder that was saved with that"):
        open_encoder(before, scale="global")
