import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest
import tyro

from foundation.errors import UserError
from foundation.presets import build, command_line, parse, preset_names, read_preset, to_dict

ROOT = Path(__file__).resolve().parents[2]


@dataclass
class Model:
    latent_dim: int = 3
    beta: float = 0.1
    channels: tuple[int, ...] = (1, 2)
    cycle: int | None = None
    kind: Literal["a", "b"] = "a"


@dataclass
class Config:
    store: str
    steps: int = 5
    model: Model = field(default_factory=Model)


def test_values_of_a_preset_reach_nested_fields():
    config = build(Config, {"store": "s", "model": {"beta": "1e-3", "channels": [4, 5, 6], "cycle": 7}})
    assert config == Config("s", 5, Model(3, 0.001, (4, 5, 6), 7))


def test_a_config_survives_a_round_trip():
    config = Config("s", 6, Model(channels=(8,)))
    assert build(Config, to_dict(config)) == config


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"store": "s", "modle": {}}, "unknown key 'modle': did you mean 'model'"),
        ({"store": "s", "model": {"latent_dmi": 3}}, "unknown key 'model.latent_dmi': did you mean 'latent_dim'"),
        ({"store": "s", "model": {"beta": "much"}}, "'model.beta' must be of type float"),
        ({"store": "s", "steps": True}, "'steps' must be of type int"),
        ({"store": "s", "model": {"kind": "c"}}, "'model.kind' must be one of a, b"),
        ({"store": "s", "model": 3}, "model: must be a mapping"),
        ({}, "missing key 'store'"),
    ],
)
def test_a_wrong_preset_names_the_key(values, message):
    with pytest.raises(UserError, match=message.replace("(", r"\(")):
        build(Config, values)


def test_options_override_the_preset():
    default = build(Config, {"steps": 9}, missing=tyro.MISSING)
    config = parse(Config, "", ["--store", "s", "--model.latent-dim", "64"], default=default)
    assert config == Config("s", 9, Model(latent_dim=64))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "missing: --store STR"),
        (["--store", "s", "--setps", "3"], "Unrecognized options: --setps, 3; did you mean --steps?"),
        (["--store", "s", "--model.kind", "c"], "invalid choice 'c' for argument '--model.kind'. Expected one of ('a', 'b')"),
        (["--store", "s", "--steps", "many"], "Error parsing --steps: invalid literal for int() with base 10: 'many'"),
        (["--store", "s", "--steps"], "Missing value for argument '--steps'. Expected 1 values"),
    ],
)
def test_a_mistake_in_the_options_is_one_line_that_names_it(options, message):
    with pytest.raises(UserError) as refused:
        parse(Config, "what it does", options, program="train.py")
    assert str(refused.value).startswith(message)
    assert str(refused.value).endswith(" see python train.py --help")
    assert "\n" not in str(refused.value)


def test_a_preset_can_be_a_path(tmp_path):
    (tmp_path / "mine.yaml").write_text("store: s\nmodel: {latent_dim: 2}\n")
    config = command_line("encoder", Config, "", [str(tmp_path / "mine.yaml"), "--steps", "8"])
    assert config == Config("s", 8, Model(latent_dim=2))


def test_an_unknown_preset_names_the_nearest():
    with pytest.raises(UserError, match="did you mean 'conv_vae'"):
        read_preset("encoder", "conv_va")


def test_broken_yaml_and_tags_that_run_code_are_refused(tmp_path):
    path = tmp_path / "bad.yaml"
    path.write_text("a: [1\n")
    with pytest.raises(UserError, match="cannot be read as YAML"):
        read_preset("encoder", str(path))
    path.write_text("a: !!python/object/apply:os.getcwd []\n")
    with pytest.raises(UserError, match="cannot be read as YAML"):
        read_preset("encoder", str(path))


@pytest.mark.parametrize("kind", ["encoder", "agent", "env"])
def test_every_preset_is_a_mapping(kind):
    names = preset_names(kind)
    assert "debug" in names
    assert all(isinstance(read_preset(kind, name), dict) for name in names)


@pytest.mark.parametrize("arguments", [["--store", "s", "--setps", "3"], [], ["--store", "s", "--steps", "two"]])
def test_a_mistake_is_the_same_line_where_output_is_not_utf8(arguments):
    imports = "import sys; from foundation.presets import parse; from tests.foundation.test_presets import Config"
    code = f"{imports}; parse(Config, 'x', sys.argv[1:])"

    def said(encoding):
        environment = {**os.environ, "PYTHONIOENCODING": encoding, "PYTHONPATH": str(ROOT)}
        ran = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, cwd=ROOT, env=environment)
        return ran.stderr.splitlines()[-1]

    assert said("ascii") == said("utf-8")
    assert said("utf-8").startswith("foundation.errors.UserError: ")


def test_what_ends_the_program_while_options_are_read_is_no_mistake_in_them(monkeypatch):
    def terminated(*_, **__):
        raise SystemExit(143)

    monkeypatch.setattr(tyro, "cli", terminated)
    with pytest.raises(SystemExit) as stop:
        parse(int, "", ["1"])
    assert stop.value.code == 143
