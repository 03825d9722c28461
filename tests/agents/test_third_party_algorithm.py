"""Another package's algorithm trains in a Ray worker and plays, found by its entry point alone."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from agents.command import train
from agents.learning.algorithms import settings_class
from agents.learning.on_policy import PPOSettings
from agents.playing import play
from agents.run.config import AgentRun
from agents.run.options import read_command
from foundation.errors import UserError

SETTINGS = '''
from dataclasses import dataclass
from typing import Literal

from agents.learning.on_policy import PPOSettings


@dataclass
class PatientSettings(PPOSettings):
    """PPO that says how patient it is."""

    kind: Literal["patient_ppo"] = "patient_ppo"
    patience: float = 1.0

    algorithm = "patient_learning:PatientPPO"


class NoSettings:
    kind = "no_settings"


class Unnamed(PPOSettings):
    pass
'''
LEARNING = """
from stable_baselines3 import PPO


class PatientPPO(PPO):
    def __init__(self, *arguments, patience, **keywords):
        super().__init__(*arguments, **keywords)
        self.patience = patience

    def train(self):
        super().train()
        self.logger.record("train/patience", self.patience)
"""
PRESET = "kind: patient_ppo\npatience: 2.5\nn_envs: 2\nn_steps: 16\nbatch_size: 32\nn_epochs: 1\nnet_arch: [8]\n"


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Return a function that installs the package with the given lines of entry points, for this process and those it starts."""
    place = tmp_path / "site"
    about = place / "patient-1.0.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: patient\nVersion: 1.0\n")
    (place / "patient_settings.py").write_text(SETTINGS)
    (place / "patient_learning.py").write_text(LEARNING)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, (str(place), os.environ.get("PYTHONPATH")))))

    def install(lines: str) -> None:
        (about / "entry_points.txt").write_text(f"[minerl_perception.algorithms]\n{lines}\n")
        monkeypatch.syspath_prepend(str(place))

    return install


def test_it_trains_in_a_worker_and_plays(installed, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    installed("patient_ppo = patient_settings:PatientSettings")
    preset, run = tmp_path / "patient.yaml", tmp_path / "run"
    preset.write_text(PRESET)
    options = ["--control", "pixels", "--device", "cpu", "--evaluation.final-episodes", "1", "--evaluation.every", "64", "--run", str(run)]
    assert train(["debug", "--agent", str(preset), "--steps", "64", *options]) == 0
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [line["train/patience"] for line in lines if "train/patience" in line] == [2.5, 2.5]
    assert json.loads((run / "agent.json").read_text())["settings"]["algorithm"]["patience"] == 2.5
    assert play([str(run)]) == 0
    assert "episode 0" in capsys.readouterr().out


def test_its_settings_are_as_strict_as_others(installed, tmp_path: Path) -> None:
    installed("patient_ppo = patient_settings:PatientSettings")
    preset = tmp_path / "patient.yaml"
    preset.write_text(PRESET.replace("patience", "patiense"))
    with pytest.raises(UserError, match=r"unknown key 'algorithm\.patiense': did you mean 'patience'"):
        read_command(AgentRun, "", ["debug", "--agent", str(preset), "--control", "pixels", "--run", "r"])


def test_what_is_built_in_cannot_be_replaced(installed) -> None:
    installed("ppo = patient_settings:PatientSettings")
    assert settings_class({"kind": "ppo"}) is PPOSettings


@pytest.mark.parametrize(
    ("lines", "kind", "said"),
    [
        ("gone = no_such_module:Settings", "gone", "adds the algorithm 'gone' cannot be imported: No module named 'no_such_module'"),
        ("gone = patient_settings:Settings", "gone", "adds the algorithm 'gone' cannot be imported: module 'patient_settings' has no"),
        ("no_settings = patient_settings:NoSettings", "no_settings", r"'no_settings' of minerl_perception\.algorithms is no subclass"),
        ("other = patient_settings:PatientSettings", "other", "PatientSettings, whose kind is 'patient_ppo'"),
        ("unnamed = patient_settings:Unnamed", "unnamed", "Unnamed, whose kind is 'ppo'"),
        ("patient_ppo = patient_settings:PatientSettings", "patient_poo", "did you mean 'patient_ppo'"),
    ],
)
def test_a_faulty_package_is_one_line(installed, lines: str, kind: str, said: str) -> None:
    installed(lines)
    with pytest.raises(UserError, match=said) as raised:
        settings_class({"kind": kind})
    assert "\n" not in str(raised.value)
