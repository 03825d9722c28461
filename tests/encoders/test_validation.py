"""A validation is of what the held-out recordings tell, however they fall into batches."""

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from encoders import Encoder, make_encoder
from encoders.critic.hyperparameters import CriticHyperparameters
from encoders.critic.model import LABEL, Critic
from encoders.heads import HeadsConfig, Recorded, attach_heads
from encoders.heads.attached import heads_of
from encoders.heads.config import ActionsConfig, Column, FutureConfig, StateConfig, ValueConfig
from encoders.training.validation import to_batch, validate

CPU = torch.device("cpu")
COLUMNS = (Column("action.attack", "key"), Column("action.camera[0]", "number", 4.0), Column("action.forward", "key"))
CONFIG = HeadsConfig(
    actions=ActionsConfig(weight=2, count=3), value=ValueConfig(weight=0.5), state=StateConfig(weight=0.25), hidden=5, square=0.1
)
FRAMES = 24


def frames(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, 1, 16, 16, 3), np.uint8)


def told() -> Any:
    """Frames of two players in turn: what the second does is not known, nor most of what the first sees and earns."""
    rng = np.random.default_rng(1)
    actions = rng.integers(0, 2, (FRAMES, 1, 3, 3)).astype(np.float32)
    actions[6:18] = np.nan
    # the end of a recording, and a number alone that was not read
    actions[5, 0, 1:] = np.nan
    actions[20, 0, 2, 1] = np.nan
    reward, state = rng.random((FRAMES, 1), np.float32), rng.normal(size=(FRAMES, 1, 2)).astype(np.float32)
    reward[:20] = np.nan
    state[1::3, 0, 0] = np.nan
    return SimpleNamespace(frames=frames(FRAMES), targets={"next_actions": actions, "reward_to_come": reward, "state": state})


def cut(whole: Any, size: int) -> list[Any]:
    return [
        SimpleNamespace(
            frames=whole.frames[at : at + size], targets={name: values[at : at + size] for name, values in whole.targets.items()}
        )
        for at in range(0, len(whole.frames), size)
    ]


def with_heads(model: Encoder, config: HeadsConfig = CONFIG) -> Encoder:
    torch.manual_seed(0)
    attach_heads(model, config, Recorded(COLUMNS, (Column("distance", "number", 0.5), Column("pitch", "number", 2.0))))
    return model.eval()


def by_hand(model: Encoder, whole: Any) -> dict[str, float]:
    """Each head's loss of every label that is known, one at a time."""
    heads, batch = heads_of(model), to_batch(whole, CPU)
    assert heads is not None
    with torch.no_grad():
        said = heads.predictions(model, model.some_readings(batch.frames, None, heads.readings), batch)
    found: dict[str, list[float]] = {"keys": [], "numbers": [], "value": [], "state": []}
    for (row, _, step, place), truth in np.ndenumerate(whole.targets["next_actions"]):
        guess = said["actions"][row, 0, step, place]
        if math.isnan(truth):
            continue
        if COLUMNS[place].kind == "key":
            found["keys"].append(float(F.binary_cross_entropy_with_logits(guess, torch.tensor(float(truth)))))
        else:
            found["numbers"].append(float(F.smooth_l1_loss(guess, torch.tensor(truth / COLUMNS[place].scale))))
    for (row, _), truth in np.ndenumerate(whole.targets["reward_to_come"]):
        if not math.isnan(truth):
            found["value"].append(float(F.binary_cross_entropy_with_logits(said["value"][row, 0], torch.tensor(float(truth > 0.3)))))
    for (row, _, place), truth in np.ndenumerate(whole.targets["state"]):
        if not math.isnan(truth):
            found["state"].append((float(said["state"][row, 0, place]) - truth / (0.5, 2.0)[place]) ** 2)
    means = {name: sum(values) / len(values) for name, values in found.items()}
    return {"heads_actions": means["keys"] + means["numbers"], "heads_value": means["value"], "heads_state": means["state"]}


@pytest.mark.parametrize("size", [1, 6, 7, FRAMES])
def test_every_head_is_judged_by_all_labels_that_are_known_in_whatever_batches(size: int) -> None:
    model, whole = with_heads(make_encoder("points_tiny", frame_shape=[16, 16, 3])), told()
    found, expected = validate(model, cut(whole, size), 0, CPU).terms, by_hand(model, whole)
    assert {name: found[name] for name in expected} == pytest.approx(expected, rel=1e-5)
    weighted = 2 * expected["heads_actions"] + 0.5 * expected["heads_value"] + 0.25 * expected["heads_state"]
    square = float(to_square(model, whole))
    assert (found["objective"], found["heads_square"]) == pytest.approx((weighted, square), rel=1e-5)
    assert found["loss"] == pytest.approx(weighted + 0.1 * square, rel=1e-5)


@torch.no_grad()
def to_square(model: Encoder, whole: Any) -> torch.Tensor:
    return model.encode_clip(to_batch(whole, CPU).frames).square().mean()


def test_a_term_of_the_model_s_own_is_still_a_mean_over_frames() -> None:
    model = with_heads(make_encoder("debug", frame_shape=[16, 16, 3], encoder="4k4s4", decoder="4 k4s4", linear_stem=False))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "randn_like", torch.zeros_like)
        found, whole = (validate(model, cut(told(), size), 0, CPU).terms for size in (7, FRAMES))
    assert found == pytest.approx(whole, rel=1e-5)
    heads = 2 * found["heads_actions"] + 0.5 * found["heads_value"] + 0.25 * found["heads_state"]
    assert found["objective"] == pytest.approx(heads + found["negative_elbo"], rel=1e-5)


def test_a_label_that_nowhere_is_known_costs_nothing() -> None:
    model, whole = with_heads(make_encoder("points_tiny", frame_shape=[16, 16, 3])), told()
    whole.targets["reward_to_come"][:] = np.nan
    assert validate(model, cut(whole, 7), 0, CPU).terms["heads_value"] == 0


def test_the_future_of_frames_that_have_one_counts() -> None:
    config = HeadsConfig(future=FutureConfig(weight=1, ahead=2), hidden=5)
    model = with_heads(make_encoder("points_tiny", frame_shape=[16, 16, 3]), config)

    def batch(seed: int, known: list[float]) -> Any:
        targets = {"frames_ahead": frames(len(known), seed + 1), "frames_ahead_known": np.array(known, np.float32)[:, None]}
        return SimpleNamespace(frames=frames(len(known), seed), targets=targets)

    parts = [batch(0, [1] * 6), batch(2, [0] * 6), batch(4, [0, 1, 0, 1, 1, 0])]
    each = [validate(model, [part], 0, CPU).terms["heads_future"] for part in parts]
    found = validate(model, parts, 0, CPU).terms["heads_future"]
    assert found == pytest.approx((6 * each[0] + 3 * each[2]) / 9, rel=1e-6)


def critic() -> Critic:
    torch.manual_seed(0)
    return Critic(CriticHyperparameters(frame_shape=(32, 32, 3), swapped_frames=6)).eval()


def valued(values: list[float], seed: int) -> Any:
    pictures = np.random.default_rng(seed).integers(0, 256, (len(values), 1, 32, 32, 3), np.uint8)
    return SimpleNamespace(frames=pictures, targets={LABEL: np.array(values, np.float32)[:, None]})


def test_batches_without_frames_of_high_value_do_not_make_swaps_cheaper() -> None:
    model, nan = critic(), float("nan")
    paired = [valued([0.9, 0.1, 0.2, 0.8, nan], 0), valued([0.0, 1.0, nan], 1)]
    dim = [valued([0.1, 0.2, 0.1], seed) for seed in range(2, 6)] + [valued([nan] * 4, 6), valued([0.0], 7)]
    alone, found = (validate(model, batches, 0, CPU).terms for batches in (paired, paired + dim))
    swaps = ("replace", "inject", "l1", "l2")
    assert {name: found[name] for name in swaps} == pytest.approx({name: alone[name] for name in swaps})
    errors = []
    for one in paired + dim:
        with torch.no_grad():
            said = model.value(to_batch(one, CPU).frames)[:, 0].numpy()
        errors += [(guess - truth) ** 2 for guess, truth in zip(said, one.targets[LABEL][:, 0], strict=True) if not math.isnan(truth)]
    assert found["value_loss"] == pytest.approx(np.mean(errors), rel=1e-4)
    h = model.hyperparameters
    weighted = h.critic_weight * found["value_loss"] + found["replace"] + found["inject"] + h.l1 * found["l1"] + h.l2 * found["l2"]
    assert (found["objective"], found["loss"]) == pytest.approx((weighted, weighted))


def test_heads_beside_a_loss_that_has_labels_too_add_up() -> None:
    config = HeadsConfig(own_weight=0.5, state=StateConfig(weight=3), hidden=5)
    model, nan = with_heads(critic(), config), float("nan")
    batches = [valued([0.9, 0.1, 0.2], 0), valued([nan, nan], 1), valued([0.1, nan], 2)]
    for one, state in zip(batches, (nan, 1.0, 2.0), strict=True):
        one.targets["state"] = np.full((len(one.frames), 1, 2), state, np.float32)
    torch.manual_seed(0)
    found = validate(model, batches, 0, CPU).terms
    own = 5 * found["value_loss"] + found["replace"] + found["inject"] + 0.5 * found["l1"]
    assert found["objective"] == pytest.approx(0.5 * own + 3 * found["heads_state"], rel=1e-6)
