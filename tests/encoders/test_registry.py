"""Encoders are made by name, and a wrong name or hyperparameter is answered in words."""

from collections.abc import Callable
from pathlib import Path

import pytest

import encoders.registry
from encoders import check_encoder, encoder_names, load_encoder, make_encoder
from encoders.conv.vae import ConvVAE
from foundation.errors import UserError
from foundation.presets import preset_names, to_dict


@pytest.mark.parametrize("preset", preset_names("encoder"))
def test_every_preset_makes_an_encoder(preset: str) -> None:
    # stands on a trained one, of which none is needed here
    critic = {"critic": encoders.registry.described("critic", {})} if preset.startswith("critic_vae") else {}
    assert make_encoder(preset, **critic).latents


@pytest.mark.parametrize("name", encoders.registry.BUILT_IN)
def test_the_options_of_a_model_are_its_own(name: str) -> None:
    assert encoders.registry.hyperparameters_class(name) is encoders.registry.encoder_class(name).Hyperparameters


def test_hyperparameters_override_the_preset_s() -> None:
    model = make_encoder("conv_vae_small", latent_dim=16, frame_shape=[32, 32, 3])
    assert model.latents == {"mean": (16,)}
    assert model.hyperparameters.encoder == make_encoder("conv_vae_small").hyperparameters.encoder


def test_an_encoder_of_another_package_is_made_checked_and_named(another_encoder: None) -> None:
    model = make_encoder("another", sides=3)
    check_encoder(model)
    assert model.latents == {"colour": (3,)}
    assert "another" in encoder_names()
    assert encoders.registry.registered_name(model) == "another"


def test_an_encoder_of_another_package_is_trained_by_the_command(
    another_encoder: None, command: Callable[..., int], video_store: Path, tmp_path: Path
) -> None:
    preset = tmp_path / "mine.yaml"
    preset.write_text("encoder: another\nsteps: 4\ntraining: {batch_size: 4, learning_rate: 0.01, validation_every: 2}\n")
    run = tmp_path / "run"
    assert command("train_encoder.py", preset, "--store", video_store, "--run", run, "--threads", 1, "--device", "cpu") == 0
    artifact = load_encoder(run)
    assert (artifact.info.name, artifact.info.latents) == ("another", {"colour": [2]})
    assert not list(run.glob("pictures/*"))


def test_full_hyperparameters_make_the_same_encoder_without_a_preset() -> None:
    values = to_dict(make_encoder("conv_vae_tiny").hyperparameters)
    assert to_dict(encoders.registry.make_architecture("conv_vae", values).hyperparameters) == values


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("conv_vae_smal", {}, "did you mean 'conv_vae_small'"),
        ("conv_vae_small", {"latent_dims": 3}, "did you mean 'latent_dim'"),
        ("conv_vae_small", {"latent_dim": "many"}, "'model.latent_dim' must be of type int"),
    ],
)
def test_a_wrong_name_or_value_is_answered_with_the_key_and_the_nearest(name: str, options: dict, said: str) -> None:
    with pytest.raises(UserError, match=said):
        make_encoder(name, **options)


class Unregistered(ConvVAE):
    pass


def test_a_class_registered_nowhere_is_refused_when_it_is_saved() -> None:
    with pytest.raises(UserError, match="entry points"):
        encoders.registry.registered_name(Unregistered())
