"""A checkpoint of an encoder's training is a file that somebody else may have made: what is wrong in it is said by file and key."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from foundation.errors import UserError


@pytest.fixture
def resume(train_small: Callable[..., Any], tmp_path: Path) -> Callable[[Callable[[dict[str, Any]], Any]], None]:
    """Return a function that changes a stopped run's checkpoint, and goes on with it."""
    train_small(tmp_path, 15)
    good = (tmp_path / "resume.pt").read_bytes()

    def changed(change: Callable[[dict[str, Any]], Any]) -> None:
        (tmp_path / "resume.pt").write_bytes(good)
        content = torch.load(tmp_path / "resume.pt", weights_only=True)
        found = change(content)
        torch.save(content if found is None else found, tmp_path / "resume.pt")
        train_small(tmp_path, 17)

    return changed


def put(*path: Any, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(content: dict[str, Any]) -> None:
        for key in path[:-1]:
            content = content[key]
        content[path[-1]] = value

    return change


def without(key: str) -> Callable[[dict[str, Any]], None]:
    return lambda content: content.pop(key) and None


def first_state(name: str, value: Any) -> Callable[[dict[str, Any]], None]:
    return lambda content: content["optimizer"]["state"][0].__setitem__(name, value)


def first_weight(part: str, change: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[dict[str, Any]], None]:
    def changed(content: dict[str, Any]) -> None:
        weights = content[part]["weights"] if part == "best" else content[part]
        name = next(iter(weights))
        weights[name] = change(weights[name])

    return changed


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda content: [1], "not a checkpoint of this version"),
        (without("seconds"), "missing key 'seconds'"),
        (put("seconds", value="long"), "'seconds' must be of type float"),
        (put("seconds", value=float("nan")), "'seconds' must be at least 0"),
        (put("step", value=-1), "'step' must be at least 0"),
        (put("step", value=10**30), "'step' must be at most"),
        (put("position", value="x"), "'position' must be of type int"),
        (put("position", value=-7), "'position' must be at least 0"),
        (put("model", value={"x": 1}), "'model.x' must be of type Tensor"),
        (put("best", value={"step": 1}), "missing key 'best.metrics'"),
        (put("best", "metrics", value={}), "does not fit"),
        (first_weight("model", lambda weight: weight * torch.nan), r"model\..* has values that are not finite"),
        (first_weight("averaged", lambda weight: weight + torch.inf), r"averaged\..* has values that are not finite"),
        (first_weight("best", lambda weight: weight[:1]), r"best\.weights\..* is missing, or is not of this run"),
        (first_weight("model", lambda weight: weight[:1]), "does not fit"),
        (put("optimizer", value={}), "does not fit"),
        (first_state("exp_avg", torch.zeros(1)), r"'exp_avg' has shape \(1,\)"),
        (first_state("step", torch.tensor(-3.0)), "'step' has numbers that are none, or below 0"),
        (first_state("exp_avg_sq", "x"), "does not fit"),
        (first_state("more", torch.zeros(1)), "the optimizer remembers"),
        (put("batches", value={}), "resume.pt: batches"),
    ],
)
def test_a_checkpoint_that_was_changed_is_refused_by_file_and_key(resume: Callable[..., None], change: Any, said: str) -> None:
    with pytest.raises(UserError, match=said) as refused:
        resume(change)
    assert "resume.pt" in str(refused.value)
    assert "\n" not in str(refused.value)


def test_how_the_optimizer_steps_is_said_by_the_settings_and_not_by_the_file(resume: Callable[..., None]) -> None:
    def change(content: dict[str, Any]) -> None:
        content["optimizer"]["param_groups"][0] |= {"lr": float("nan"), "betas": "x", "eps": -1}

    resume(change)


def test_a_pipe_is_no_checkpoint(train_small: Callable[..., Any], tmp_path: Path) -> None:
    import os

    train_small(tmp_path, 15)
    (tmp_path / "resume.pt").unlink()
    os.mkfifo(tmp_path / "resume.pt")
    with pytest.raises(UserError, match=r"resume\.pt: not a regular file"):
        train_small(tmp_path, 17)
