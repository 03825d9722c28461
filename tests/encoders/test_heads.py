"""Heads: their losses computed by loops, what reaches the encoder, and what an artifact keeps of them."""

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from encoders import Batch, Encoder, GivesValue, StoreReference, load_encoder, make_encoder, save_encoder
from encoders.artifact import reading_statistics
from encoders.heads import HeadsConfig, Recorded, attach_heads, value_giver
from encoders.heads.attached import (
    Heads,
    heads_of,
    held_out_scores,
    labels_with,
    means_and_scores,
    preferred_reading,
    training_terms,
    wanted_labels,
)
from encoders.heads.config import ActionsConfig, Column, FutureConfig, InverseConfig, StateConfig, ValueConfig
from encoders.heads.networks import Actions, Future, StateOf, Value
from encoders.heads.pictures import heads_picture
from encoders.heads.scores import area_under_curve, explained
from encoders.training.pictures import ShownClips
from encoders.training.validation import validate
from foundation.errors import UserError

COLUMNS = (
    Column("action.attack", "key"),
    Column("action.camera[0]", "number", 4.0),
    Column("action.camera[1]", "number", 2.0),
    Column("action.forward", "key"),
)
RECORDED = Recorded(COLUMNS, (Column("bearing_sin", "number", 0.5), Column("pitch", "number", 2.0)))
ALL = HeadsConfig(
    actions=ActionsConfig(weight=1, count=3),
    value=ValueConfig(weight=0.5),
    inverse=InverseConfig(weight=2),
    future=FutureConfig(weight=0.1, ahead=1),
    state=StateConfig(weight=1),
    hidden=5,
)


def some(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def batch_of(model: Encoder, clips: int = 4, length: int | None = None) -> Batch:
    """A batch with every label: actions of 3 steps, some of them unknown."""
    height, width, channels = model.frame_shape
    length, source = length or model.clip_length, torch.Generator().manual_seed(3)
    frames = torch.rand(clips, length, channels, height, width, generator=source)
    actions = torch.rand(clips, length, 3, len(COLUMNS), generator=source).round()
    actions[0] = math.nan
    reward = torch.rand(clips, length, generator=source)
    targets = {"next_actions": actions, "reward_to_come": reward, "state": torch.rand(clips, length, 2, generator=source)}
    if length == 1:
        targets |= {"frames_ahead": torch.rand(frames.shape, generator=source), "frames_ahead_known": torch.ones(clips, 1)}
        targets["frames_ahead_known"][1] = 0
    return Batch(frames, torch.rand(clips, length, 2, generator=source), targets)


def with_heads(preset: str, config: HeadsConfig = ALL, **hyperparameters: Any) -> tuple[Encoder, Heads]:
    torch.manual_seed(0)
    model = make_encoder(preset, **hyperparameters)
    attach_heads(model, config, RECORDED)
    heads = heads_of(model)
    assert heads is not None
    return model, heads


def smooth_l1(x: float) -> float:
    return x * x / 2 if abs(x) < 1 else abs(x) - 0.5


def cross_entropy(logit: float, truth: float) -> float:
    probability = 1 / (1 + math.exp(-logit))
    return -truth * math.log(probability) - (1 - truth) * math.log(1 - probability)


def test_the_loss_of_actions_is_a_mean_over_those_that_are_known() -> None:
    head = Actions(ActionsConfig(count=2), "mean", 3, 0, COLUMNS)
    prediction, target = 2 * some(3, 1, 2, 4), 3 * some(3, 1, 2, 4, seed=1)
    target[..., [0, 3]] = (target[..., [0, 3]] > 0).float()
    target[0] = math.nan
    target[1, 0, 1] = math.nan
    keys, numbers = [], []
    for row, step, place in np.ndindex(3, 2, 4):
        truth, guess = float(target[row, 0, step, place]), float(prediction[row, 0, step, place])
        if math.isnan(truth):
            continue
        if COLUMNS[place].kind == "key":
            keys.append(cross_entropy(guess, truth))
        else:
            numbers.append(smooth_l1(guess - truth / COLUMNS[place].scale))
    found = head.loss(prediction, Batch(some(3, 1, 3, 4, 4), None, {"next_actions": target}))
    assert float(found) == pytest.approx(sum(keys) / len(keys) + sum(numbers) / len(numbers), rel=1e-5)


@pytest.mark.parametrize("above", [0.3, None])
def test_a_map_of_evidence_says_the_value_without_parameters(above: float | None) -> None:
    head = Value(ValueConfig(above=above), "evidence", 6, 64)
    assert not list(head.parameters())
    evidence, reward = 2 * some(5, 1, 6), torch.tensor([[0.0], [0.2], [0.5], [1.0], [math.nan]])
    expected = []
    for row in range(4):
        logit = math.log(sum(math.exp(float(one)) for one in evidence[row, 0])) - 5
        truth = float(reward[row])
        expected.append(cross_entropy(logit, truth if above is None else float(truth > above)))
    batch = Batch(some(5, 1, 3, 4, 4), None, {"reward_to_come": reward})
    assert float(head.loss(head(evidence), batch)) == pytest.approx(sum(expected) / 4, rel=1e-5)


def test_the_future_is_told_from_the_other_frames_of_the_batch() -> None:
    head = Future(FutureConfig(temperature=0.2, ahead=4), "mean", 3, 0)
    now, later = some(4, 1, 3), some(4, 1, 3, seed=1)
    known = torch.tensor([[1.0], [1.0], [0.0], [1.0]])
    batch = Batch(some(4, 1, 3, 2, 2), None, {"frames_ahead_known": known})
    left, right = (one.weight.detach().numpy() for one in (head.now, head.then))
    losses = []
    for row in (0, 1, 3):
        scores = []
        for other in (0, 1, 3):
            a = left @ now[row, 0].numpy() + head.now.bias.detach().numpy()
            b = right @ later[other, 0].numpy() + head.then.bias.detach().numpy()
            scores.append(float(a @ b / np.linalg.norm(a) / np.linalg.norm(b)) / 0.2)
        losses.append(math.log(sum(map(math.exp, scores))) - scores[(0, 1, 3).index(row)])
    assert float(head.loss(head(now, later), batch).detach()) == pytest.approx(sum(losses) / 3, rel=1e-4)
    batch.targets["frames_ahead_known"] = torch.zeros(4, 1)
    assert float(head.loss(head(now, later), batch).detach()) == 0


def test_the_loss_of_the_state_is_of_scaled_numbers() -> None:
    head = StateOf(StateConfig(), "mean", 3, 0, RECORDED.states)
    prediction, state = some(4, 1, 2), some(4, 1, 2, seed=1)
    state[2, 0, 1] = math.nan
    squares = [
        (float(prediction[row, 0, place]) - float(state[row, 0, place]) / (0.5, 2.0)[place]) ** 2
        for row in range(4)
        for place in range(2)
        if (row, place) != (2, 1)
    ]
    found = head.loss(prediction, Batch(some(4, 1, 3, 2, 2), None, {"state": state}))
    assert float(found) == pytest.approx(sum(squares) / 7, rel=1e-5)


def test_a_batch_of_which_nothing_is_known_costs_nothing_and_has_a_gradient() -> None:
    model, _ = with_heads("points_tiny", HeadsConfig(actions=ActionsConfig(weight=1, count=3), square=0), frame_shape=[16, 16, 3])
    batch = batch_of(model)
    batch.targets["next_actions"][:] = math.nan
    terms = training_terms(model.train(), batch, 0)
    terms["loss"].backward()
    assert float(terms["loss"].detach()) == 0
    assert all(one.grad is None or not one.grad.any() for one in model.parameters())


def test_the_loss_is_what_the_weights_say() -> None:
    model, heads = with_heads("debug", dataclasses.replace(ALL, own_weight=0.25, noise=0.0, square=0.5))
    batch = batch_of(model)
    torch.manual_seed(5)
    terms = {name: float(value.detach()) for name, value in training_terms(model.train(), batch, 7).items()}
    torch.manual_seed(5)
    own = {name: float(value.detach()) for name, value in model.loss(batch, 7).items()}
    weighted = sum(head.weight * terms[f"heads_{name}"] for name, head in heads.by_name.items())
    assert heads.by_name.keys() == {"actions", "value", "inverse", "future", "state"}
    assert terms["loss"] == pytest.approx(0.25 * own["loss"] + weighted + 0.5 * terms["heads_square"], rel=1e-5)
    assert terms["objective"] == pytest.approx(0.25 * own["negative_elbo"] + weighted, rel=1e-5)
    assert terms["heads_square"] == pytest.approx(float(model.encode_clip(batch.frames).square().mean().detach()), rel=1e-5)
    assert {name: terms[name] for name in own if name != "loss"} == pytest.approx({name: own[name] for name in own if name != "loss"})


def test_a_conv_vae_is_not_encoded_twice_and_says_the_same() -> None:
    model, batch = make_encoder("debug", points=2, evidence=True), None
    batch = batch_of(model)
    passes = []
    model.get_submodule("encoder").register_forward_hook(lambda *_: passes.append(1))
    torch.manual_seed(5)
    terms, latents = model.loss_and_latents(batch, 3, ["mean", "points", "both"])
    assert len(passes) == 1
    torch.manual_seed(5)
    slow, slow_latents = Encoder.loss_and_latents(model, batch, 3, ["mean", "points", "both"])
    assert {name: float(value.detach()) for name, value in terms.items()} == {name: float(value.detach()) for name, value in slow.items()}
    assert all(torch.equal(latents[name], slow_latents[name]) for name in ("mean", "points", "both"))


@pytest.mark.parametrize(
    ("preset", "own_weight"), [("debug", 1.0), ("debug", 0.0), ("points_tiny", 1.0), ("nvae_debug", 0.1), ("cwvae_debug", 0.1)]
)
def test_every_head_teaches_every_family(preset: str, own_weight: float) -> None:
    model, heads = with_heads(preset, dataclasses.replace(ALL, own_weight=own_weight))
    batch = batch_of(model)
    for name in heads.by_name:
        model.zero_grad()
        only = dataclasses.replace(heads.config, own_weight=0.0, square=0.0)
        only = dataclasses.replace(
            only, **{other: dataclasses.replace(getattr(only, other), weight=0.0) for other in only.active if other != name}
        )
        model.heads = Heads(only, RECORDED, model.latents)
        training_terms(model.train(), batch, 0)["loss"].backward()
        taught = [one for one, parameter in model.named_parameters() if parameter.grad is not None and parameter.grad.abs().max() > 0]
        assert any(one.startswith(("encoder.", "stem.")) for one in taught), name
        assert {one for one, _ in model.named_parameters() if one.startswith("heads.")} <= set(taught), name


def test_a_frozen_nvae_gives_the_same_latents_with_heads_and_without() -> None:
    model, _ = with_heads("nvae_debug")
    frames = batch_of(model).frames
    with torch.no_grad():
        found = model.eval().encode_clip(frames)
        model.heads = None
        model.load_state_dict(model.state_dict())
        assert torch.equal(found, model.encode_clip(frames))


def test_noise_is_for_training_only() -> None:
    model, _ = with_heads("points_tiny", dataclasses.replace(ALL, noise=1.0), frame_shape=[16, 16, 3])
    batch = batch_of(model)
    training, judging = ([float(training_terms(model.train(mode), batch, 0)["loss"].detach()) for _ in range(2)] for mode in (True, False))
    assert training[0] != training[1]
    assert judging[0] == judging[1]


def test_heads_are_judged_by_scores_that_a_loop_finds_too() -> None:
    rng = np.random.default_rng(0)
    scores, truths = rng.integers(0, 4, 40).astype(float), rng.integers(0, 2, 40).astype(float)
    pairs = [(a > b) + 0.5 * (a == b) for a in scores[truths == 1] for b in scores[truths == 0]]
    assert area_under_curve(scores, truths) == pytest.approx(np.mean(pairs))
    assert math.isnan(area_under_curve(scores, np.ones(40)))
    assert explained(np.array([1.0, 2, 3]), np.array([1.0, 2, 6])) == pytest.approx(1 - 9 / 14)


def test_held_out_scores_are_of_all_batches_together() -> None:
    model, _ = with_heads("points_tiny", frame_shape=[16, 16, 3])
    batches = [batch_of(model, 4), batch_of(model, 6)]
    batches[1].frames.mul_(0.5)
    with torch.no_grad():
        found = held_out_scores([means_and_scores(model.eval(), one, 0)[1] for one in batches])
        value = value_giver(model)
        assert isinstance(value, GivesValue)
        said = torch.cat([value.value(one.frames)[:, 0] for one in batches]).numpy()
    above = torch.cat([one.targets["reward_to_come"][:, 0] for one in batches]).numpy() > 0.3
    assert found["heads_value_auc"] == pytest.approx(area_under_curve(said, above.astype(float)))
    assert ((said >= 0) & (said <= 1)).all()
    assert set(found) == {
        *("heads_actions_keys_auc", "heads_actions_numbers_r2", "heads_inverse_keys_auc", "heads_inverse_numbers_r2"),
        *("heads_value_auc", "heads_future_accuracy", "heads_state_r2"),
    }


def test_an_evaluation_without_labels_is_of_the_models_own_loss() -> None:
    model, _ = with_heads("debug", dataclasses.replace(ALL, own_weight=0.0))
    shown = ShownClips(np.random.default_rng(0).integers(0, 256, (3, 1, 64, 64, 3), np.uint8))
    found = validate(model.eval(), [shown], 0, torch.device("cpu"))
    assert found.terms == validate(make_plain(model), [shown], 0, torch.device("cpu")).terms
    assert (found.scores, found.compared) == ({}, "negative_elbo")


def make_plain(model: Encoder) -> Encoder:
    plain = make_encoder("debug").eval()
    plain.load_state_dict({name: one for name, one in model.state_dict().items() if not name.startswith("heads.")})
    return plain


def test_an_artifact_keeps_the_heads_for_judges(tmp_path: Path) -> None:
    model, _ = with_heads("evidence_tiny", dataclasses.replace(ALL, value=ValueConfig(weight=1, reading="evidence")))
    frames = np.random.default_rng(0).integers(0, 256, (4, 64, 64, 3), np.uint8)
    saw = ("rewards",)
    store = StoreReference("some/store", "f1", 20.0, "squash", None, ("VoxelTreechop-v0",), saw)
    save_encoder(tmp_path, model.eval(), reading_statistics(model, frames), store)
    loaded = load_encoder(tmp_path)
    assert (loaded.info.store.tasks, loaded.info.store.saw) == (("VoxelTreechop-v0",), saw)
    batch = batch_of(model)
    before, after = (value_giver(one) for one in (model, loaded.model))
    assert before is not None
    assert after is not None
    with torch.no_grad():
        assert torch.equal(before.value(batch.frames), after.value(batch.frames))
    assert heads_of(loaded.model).described() == model.heads.described()  # type: ignore[union-attr]
    assert value_giver(make_encoder("debug")) is None


@pytest.mark.parametrize("preset", ["evidence_tiny", "cwvae_debug"])
def test_what_heads_say_is_drawn_over_frames(preset: str) -> None:
    model, _ = with_heads(preset)
    batch = batch_of(model, 7)
    picture = heads_picture(model.eval(), batch)
    assert picture is not None
    # two rows of five and two frames of 256x256 with two lines below, each with a margin; a line above
    assert picture.shape == (18 + 2 * (256 + 32 + 4), 5 * 260, 3)
    assert heads_picture(make_encoder("debug"), batch) is None


@pytest.mark.parametrize(
    ("preset", "config", "said"),
    [
        ("debug", HeadsConfig(value=ValueConfig(weight=1, reading="points")), "heads.value.reading: no latents named 'points'"),
        ("cwvae_debug", HeadsConfig(future=FutureConfig(weight=1, ahead=8)), "heads.future: looks 8 frames ahead, in clips of 8"),
    ],
)
def test_a_head_that_does_not_fit_is_one_line(preset: str, config: HeadsConfig, said: str) -> None:
    with pytest.raises(UserError, match="^" + said.replace(".", r"\.")):
        attach_heads(make_encoder(preset), config, RECORDED)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"own_weight": -1.0}, "heads.own_weight must be 0 or more"),
        ({"value": ValueConfig(above=1.0)}, "heads.value.above must be"),
        ({"actions": ActionsConfig(weight=-1.0)}, "heads.actions.weight must be 0 or more"),
        ({"future": FutureConfig(ahead=0)}, "heads.future.ahead must be 1 or more"),
    ],
)
def test_settings_that_make_no_sense_are_one_line(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said.replace(".", r"\.")):
        HeadsConfig(**settings)


def test_two_heads_that_want_a_label_in_two_ways_are_told() -> None:
    config = HeadsConfig(inverse=InverseConfig(weight=1), future=FutureConfig(weight=1, ahead=8))
    with pytest.raises(UserError, match="'frames_ahead' is wanted with ahead=1 and with ahead=8"):
        config.labels(1)
    # in clips, the later frames are the clip's own
    assert config.labels(16).keys() == {"next_actions"}
    model, _ = with_heads("points_tiny", HeadsConfig(value=ValueConfig(weight=1, gamma=0.9)))
    model.targets = {"reward_to_come": {"gamma": 0.98}}
    with pytest.raises(UserError, match="'reward_to_come' is wanted with"):
        wanted_labels(model)


def test_agents_get_a_reading_that_something_has_trained() -> None:
    only_points = HeadsConfig(own_weight=0.0, value=ValueConfig(weight=1, reading="points"))
    assert preferred_reading(with_heads("debug", only_points, points=4)[0], {}) == "points"
    assert preferred_reading(with_heads("debug", dataclasses.replace(only_points, own_weight=1.0), points=4)[0], {}) == "mean"
    assert preferred_reading(with_heads("evidence_tiny", only_points)[0], {}) == "both"


@pytest.mark.parametrize(("own_weight", "wanted"), [(0.0, {"state"}), (1.0, {"state", "reward_to_come"})])
def test_a_model_s_own_labels_are_asked_for_only_where_its_own_loss_counts(own_weight: float, wanted: set[str]) -> None:
    config = HeadsConfig(own_weight=own_weight, state=StateConfig(weight=1))
    model = make_encoder("critic_debug")
    assert labels_with(model, config).keys() == wanted
    attach_heads(model, config, Recorded(states=(Column("distance"),)))
    assert wanted_labels(model).keys() == wanted
    # without heads there is nothing but its own
    assert labels_with(make_encoder("critic_debug"), HeadsConfig(own_weight=0.0)).keys() == {"reward_to_come"}
