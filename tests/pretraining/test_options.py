"""A preset decides which hyperparameters train_encoder.py takes; the rest of its options are the same for all."""

import dataclasses
from pathlib import Path

import pytest

from encoders.registry import encoder_class
from encoders.training.config import TrainingConfig
from foundation.errors import UserError
from foundation.presets import command_line, preset_names, read_preset
from pretraining.options import TrainOptions, options_of


@pytest.mark.parametrize("preset", preset_names("encoder"))
def test_every_preset_can_be_trained_with_its_models_own_hyperparameters(preset: str) -> None:
    words = [preset, "--store", "some/store", "--run", "some/run", "--steps", "3", "--training.seed", "5"]
    options = command_line("encoder", options_of, "", words)
    values = read_preset("encoder", preset)
    assert isinstance(options, TrainOptions)
    assert isinstance(options.model, encoder_class(values["encoder"]).Hyperparameters)
    assert options.training == dataclasses.replace(options.training, seed=5)
    assert isinstance(options.training, TrainingConfig)
    assert (options.store, options.steps, options.encoder) == (Path("some/store"), 3, values["encoder"])
    assert all(_plain(getattr(options.model, name)) == _plain(value) for name, value in values.get("model", {}).items())


def test_a_preset_that_names_no_architecture_is_told_what_there_is() -> None:
    with pytest.raises(UserError, match=r"missing key 'encoder'.*conv_vae.*nvae"):
        options_of({"model": {}})


def _plain(value: object) -> object:
    return [_plain(one) for one in value] if isinstance(value, (list, tuple)) else value
