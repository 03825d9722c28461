"""What a preset for the rows on pixels reaches: settings and words of those it was tuned for, and no layers behind an encoder."""

from pathlib import Path

import pytest

from agents.run.config import LEARNING
from agents.run.options import agent_settings
from comparison.config import Origin, PartConfig, read_grid

ON_LATENTS = "kind: ppo\nlearning_rate: 1.0e-3\nnet_arch: [64, 32]\nset_policy: flat\nset_width: 16\n"
TUNED = "kind: ppo\nlearning_rate: 2.0e-4\nnet_arch: []\nset_width: 8\ntuning: 12 trials on pixels\n"


@pytest.fixture
def part(tmp_path: Path):
    """Return a function that asks for a comparison with an agent's preset on latents and one for pixels."""

    def make(on_latents: str, on_pixels: str, *options: str) -> PartConfig:
        presets = tmp_path / "mine.yaml", tmp_path / "my_pixels.yaml"
        for path, text in zip(presets, (on_latents, on_pixels), strict=True):
            path.write_text(text)
        words = ["debug", "--agent", str(presets[0]), "--pixel-agent", str(presets[1]), "--encoders", "E", "--run", "r"]
        return read_grid("", [*words, "--controls", "pixels", *LEARNING, *options])[0]

    return make


@pytest.mark.parametrize("control", LEARNING)
def test_the_best_values_of_a_search_on_pixels_leave_the_layers_behind_an_encoder_alone(part, control: str) -> None:
    found = part(ON_LATENTS, TUNED)
    assert (found.pixels.net_arch, found.pixels.learning_rate, found.pixels.set_width) == ((), 2e-4, 8)
    learning = found.learning[control]
    assert learning.learning_rate == 2e-4
    assert (learning.net_arch, learning.set_policy, learning.set_width) == ((64, 32), "flat", 16)
    assert (found.shared.algorithm.net_arch, found.shared.algorithm.learning_rate) == ((64, 32), 1e-3)
    # a preset that says nothing of them has the algorithm's own
    assert part("kind: ppo\n", TUNED).learning[control].net_arch == part("kind: ppo\n", "kind: ppo\n").shared.algorithm.net_arch
    # LSTMs stand there too
    lstm = part("kind: recurrent_ppo\nlstm_hidden_size: 32\n", "kind: recurrent_ppo\nlstm_hidden_size: 8\nlearning_rate: 2.0e-4\n")
    assert (lstm.learning[control].lstm_hidden_size, lstm.learning[control].learning_rate) == (32, 2e-4)


def test_a_section_of_its_own_says_otherwise_and_so_does_an_option(part) -> None:
    found = part(ON_LATENTS, TUNED + "finetuned: {net_arch: [8]}\n").learning
    assert {control: one.net_arch for control, one in found.items()} == {"finetuned": (8,), "pixels_same": (64, 32)}
    found = part(ON_LATENTS + "pixels_same: {net_arch: [4]}\n", TUNED).learning
    assert {control: one.net_arch for control, one in found.items()} == {"finetuned": (64, 32), "pixels_same": (4,)}
    found = part(ON_LATENTS, TUNED, "--algorithm.net-arch", "7")
    assert {one.net_arch for one in (found.pixels, *found.learning.values())} == {(7,)}


def test_layers_under_pixels_are_those_of_pixels_alone(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(ON_LATENTS + "pixels: {net_arch: [], set_policy: deepsets, n_epochs: 2}\n")
    found = {control: agent_settings(str(path), control) for control in ("pixels", *LEARNING)}
    assert [one["n_epochs"] for one in found.values()] == [2, 2, 2]
    assert [(one["net_arch"], one["set_policy"]) for one in found.values()] == [([], "deepsets"), *[([64, 32], "flat")] * 2]


def test_no_row_is_called_tuned_for_what_was_tuned_for_another(part) -> None:
    assert part(ON_LATENTS, TUNED + "finetuned: {tuning: 9 trials}\n").origins == {
        "": Origin("mine"),
        "pixels": Origin("my_pixels", "12 trials on pixels"),
        "pixels_same": Origin("my_pixels"),
        "finetuned": Origin("my_pixels", "9 trials"),
    }
    in_its_section = part(ON_LATENTS, "kind: ppo\npixels: {tuning: 12 trials}\n").origins
    assert [in_its_section[row].tuning for row in ("pixels", *LEARNING)] == ["12 trials", None, None]
    # what holds for latents was not found for pixels
    alone = part(ON_LATENTS + "tuning: 20 trials\n", "kind: ppo\n").origins
    assert [alone[row].tuning for row in ("", "pixels", *LEARNING)] == ["20 trials", None, None, None]
