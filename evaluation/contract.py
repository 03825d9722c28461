"""The contract's tests for any judge, of this or another package: `check_judge(MyJudge(), load_encoder(RUN), FrameStore(STORE))`."""

import dataclasses
import json
import math
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from encoders import EncoderArtifact
from evaluation.evaluation import Evaluation
from evaluation.judge import RESERVED, Judge, Numbers
from frames import FrameStore


def check_judge(judge: Judge, artifact: EncoderArtifact, store: FrameStore, options: Any = None) -> Numbers | None:
    """Hold `judge` to what the command relies on; raise `AssertionError` with the first promise it breaks.

    `store` needs a train and a val split. Returns what it measured with `options` (by default its own); None where it does not apply.
    """
    _check_description(judge)
    options = judge.Options() if options is None else options
    reason = judge.applies(artifact.model, store)
    _require(reason is None or (bool(reason) and "\n" not in reason), f"applies() must give None or one line, got {reason!r}")
    if reason is not None:
        return None
    found = [_judged(judge, artifact, store, options, seed) for seed in (1, 2)]
    _require(found[0] == found[1], "judge() must give the same numbers every time: draw with a seed that it sets itself")
    return found[0]


def _check_description(judge: Judge) -> None:
    name, schema = judge.name, judge.Options
    _require(name.isidentifier() and name.islower(), f"the name must be of small letters and underscores, got '{name}'")
    _require(name not in RESERVED, f"the name '{name}' is taken")
    _require(dataclasses.is_dataclass(schema), "Options must be a dataclass")
    fields = dataclasses.fields(schema)
    missing = dataclasses.MISSING
    without = [field.name for field in fields if field.default is missing and field.default_factory is missing]
    _require(not without, f"every option must have a default; without: {', '.join(without)}")
    needed = {field.name: field.default for field in fields if field.name in judge.needs}
    _require(set(needed) == set(judge.needs) and not any(needed.values()), "needs must name options whose default is None")


def _judged(judge: Judge, artifact: EncoderArtifact, store: FrameStore, options: Any, seed: int) -> Numbers:
    model = artifact.model
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    modes = [part.training for part in model.modules()]
    with tempfile.TemporaryDirectory() as folder:
        out = Evaluation(artifact, store, "val", store, Path(folder) / "pictures", torch.device("cpu"))
        judge.check(artifact, store, options, out)
        torch.manual_seed(seed)
        numbers = judge.judge(artifact, store, options, out)
        written = {path for path in Path(folder).rglob("*") if path.is_file()}
        _require(written == set(out.files), "every file must be in out.pictures, and told to out (out.picture or out.wrote)")
    _require(_is_same(before, model.state_dict()), "judge() must leave the model's weights and buffers as they were")
    _require(modes == [part.training for part in model.modules()], "judge() must leave the model in evaluation mode")
    _require(bool(numbers or out.files), "judge() must give numbers or pictures")
    _require(isinstance(numbers, dict) and _is_json(numbers), "judge() must give what JSON can hold")
    wrong = [value for value in _leaves(numbers) if isinstance(value, float) and not math.isfinite(value)]
    _require(not wrong, f"every number must be finite, got {wrong[:3]}")
    return numbers


def _is_json(numbers: Numbers) -> bool:
    try:
        json.dumps(numbers)
    except (TypeError, ValueError):
        return False
    return True


def _is_same(before: dict[str, Tensor], after: dict[str, Tensor]) -> bool:
    return before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)


def _leaves(numbers: Any) -> Iterator[Any]:
    if isinstance(numbers, dict):
        for value in numbers.values():
            yield from _leaves(value)
    elif isinstance(numbers, (list, tuple)):
        for value in numbers:
            yield from _leaves(value)
    else:
        yield numbers


def _require(condition: bool, promise: str) -> None:
    if not condition:
        raise AssertionError(promise)
