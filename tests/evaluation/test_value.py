"""The value judge's numbers by plain loops, for a model whose value is known."""

from typing import Any

import numpy as np
import pytest

from encoders import Encoder, EncoderArtifact, make_encoder
from encoders.critic_vae.model import CriticVAE
from encoders.encoder import GivesValue
from evaluation import check_judge
from evaluation.judges.value import Value, ValueOptions
from evaluation.scores import auc
from evaluation.values import label_options, trained_label
from frames import FrameStore


def test_squared_error_auc_and_calibration_are_those_of_a_loop(marks: EncoderArtifact, marked_store: FrameStore) -> None:
    found = check_judge(Value(), marks, marked_store, ValueOptions(seconds=0.5))
    assert found is not None
    values, truths, soon = [], [], []
    for episode in marked_store.of_split("val"):
        rewards = np.append(marked_store.array(episode, "reward"), 0.0)
        to_come = 0.0
        for index in reversed(range(episode.length)):
            to_come = min(1.0, rewards[index] + 0.98 * to_come)
            values.append(float(marked_store.frames([episode.first + index])[0, -1, -1, 2]) / 255)
            truths.append(to_come)
            within = bool(rewards[index : index + 10].any())
            soon.append(float(within) if within or index + 10 < episode.length else float("nan"))
    value, truth, near = np.array(values), np.array(truths), np.array(soon)
    assert found["mean_squared_error"] == pytest.approx(np.mean((value - truth) ** 2), rel=1e-5)
    assert found["constant"]["mean_squared_error"] == pytest.approx(truth.var(), rel=1e-5)
    known = ~np.isnan(near)
    assert found["auc_of_reward_within"] == pytest.approx(auc(near[known], value[known]))
    assert found["auc_of_reward_within"] > 0.9
    assert found["calibration"]["frames"] == [int((value < 0.5).sum()), int((value > 0.5).sum())]
    assert found["calibration"]["observed"] == pytest.approx([truth[value < 0.5].mean(), truth[value > 0.5].mean()], rel=1e-5)


def test_what_has_no_value_and_what_has_no_rewards_is_left_out(marks: EncoderArtifact, judged: Any, clip_store: Any) -> None:
    assert Value().applies(judged.ReadsPixels(), FrameStore(clip_store)) == "it gives no value"
    assert Value().applies(marks.model, FrameStore(clip_store)) == "the store holds no rewards, or nothing else"


@pytest.mark.parametrize("stands_on_it", [False, True])
def test_values_are_compared_with_what_their_critic_was_trained_on(marked_store: FrameStore, stands_on_it: bool) -> None:
    model: Encoder = make_encoder("critic_debug", gamma=0.9, leave_out_after=0, binarise_above=0.5)
    model = CriticVAE(critic=model) if stands_on_it else model
    assert isinstance(model, GivesValue)
    assert label_options(model)["gamma"] == 0.9
    indices = marked_store.indices("val")[:30]
    truth, meaning = trained_label(model, model, marked_store, indices)
    # the reward comes with the step from frame 29
    np.testing.assert_array_equal(truth, 0.9 ** np.arange(29, -1, -1) > 0.5)
    assert meaning == "whether the reward to come is above 0.5"
