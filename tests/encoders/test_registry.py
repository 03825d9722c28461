"""Encoders are made by name, and a wrong name or hyperparameter is answered in words."""

from importlib.metadata import EntryPoint

import pytest

import encoders.registry
from encoders import encoder_names, make_encoder
from encoders.conv_vae import ConvVAE
from foundation.errors import UserError
from foundation.presets import preset_names, to_dict


class AnotherEncoder(ConvVAE):
    """What a package from elsewhere would bring."""


@pytest.fixture
def another(monkeypatch: pytest.MonkeyPatch) -> None:
    class Entry(EntryPoint):
        def load(self) -> type:
            return AnotherEncoder

    def entries(group: str) -> list[EntryPoint]:
        return [Entry("another", f"{AnotherEncoder.__module__}:AnotherEncoder", group)]

    monkeypatch.setattr(encoders.registry, "entry_points", entries)


@pytest.mark.parametrize("preset", preset_names("encoder"))
def test_every_preset_makes_an_encoder(preset: str) -> None:
    assert make_encoder(preset).latents


def test_hyperparameters_override_the_preset_s() -> None:
    model = make_encoder("conv_vae_small", latent_dim=16, frame_shape=[32, 32, 3])
    assert model.latents == {"mean": (16,)}
    assert model.hyperparameters.encoder == make_encoder("conv_vae_small").hyperparameters.encoder


def test_an_encoder_of_another_package_is_made_and_named(another: None) -> None:
    assert isinstance(make_encoder("another", latent_dim=8), AnotherEncoder)
    assert "another" in encoder_names()
    assert encoders.registry.registered_name(AnotherEncoder()) == "another"


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


def test_a_class_registered_nowhere_is_refused_when_it_is_saved() -> None:
    with pytest.raises(UserError, match="entry points"):
        encoders.registry.registered_name(AnotherEncoder())
