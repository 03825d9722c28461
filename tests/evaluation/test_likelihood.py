"""Bits per dimension: by a histogram of the training frames, and by an NVAE's groups and its tighter bound."""

import math

import numpy as np
import pytest
import torch

from encoders import Batch, make_encoder
from encoders.nvae.model import NVAE
from evaluation.histogram import Histogram
from evaluation.importance import bound, bound_likelihood, importance_weighted_nll, log_weights
from evaluation.judges.hierarchy import judge_groups

CPU = torch.device("cpu")


@pytest.fixture
def model() -> NVAE:
    torch.manual_seed(0)
    return make_encoder("nvae_debug", frame_shape=[16, 16, 3]).eval()  # type: ignore[return-value]


def test_a_histogram_s_bits_are_the_cross_entropy_of_held_out_values() -> None:
    training, held_out = Histogram(2), Histogram(2)
    chunk = np.zeros((2, 1, 2, 2), np.uint8)
    chunk[..., 1] = [[[7, 7]], [[7, 9]]]
    assert all(passed is chunk for passed in training.counting([chunk]))
    held_out.add(np.array([[[[0, 9]]]], np.uint8))
    # Laplace: (4 + 1) / (4 + 256) of channel 0, (1 + 1) / 260 of channel 1
    assert training.bits_per_dim(held_out) == pytest.approx(-(math.log2(5 / 260) + math.log2(2 / 260)) / 2)
    assert Histogram(2).bits_per_dim(held_out) == pytest.approx(8)


def test_a_coarser_histogram_counts_what_a_coarser_likelihood_sees() -> None:
    coarse = Histogram(1, bits=5)
    coarse.add(np.array([0, 7, 8, 255], np.uint8).reshape(4, 1, 1, 1))
    assert coarse.counts[0, [0, 1, 31]].tolist() == [2, 1, 1]
    assert Histogram(1, bits=5).bits_per_dim(coarse) == pytest.approx(5)
    assert make_encoder("nvae_debug", bits=5).discrete_bits == 5
    assert make_encoder("nvae_debug", mixtures=1).discrete_bits is None


def test_the_bound_tightens_with_samples_and_its_elbo_is_of_the_same_draws(model: NVAE) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (20, 16, 16, 3), np.uint8)
    counted: list[int] = []
    one = bound_likelihood(model, frames, 1, CPU, lambda amount=1, **_: counted.append(amount))
    many = bound_likelihood(model, frames, 8, CPU, lambda amount=1, **_: None)
    assert sum(counted) == one["frames"] == 20
    assert one["importance_weighted_bits_per_dim"] == pytest.approx(one["elbo_bits_per_dim"], abs=1e-9)
    assert many["importance_weighted_bits_per_dim"] < many["elbo_bits_per_dim"]
    assert many["samples"] == 8
    assert many == bound_likelihood(model, frames, 8, CPU, lambda amount=1, **_: None)


def test_one_sample_is_the_elbo_and_more_tighten_the_bound(model: NVAE) -> None:
    frames = torch.rand(2, 1, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(0)
    elbo = torch.stack([importance_weighted_nll(model, frames, 1) for _ in range(20)]).mean(0)
    bound = importance_weighted_nll(model, frames, 40)
    assert bound.dtype == torch.float64
    assert (bound < elbo).all()
    terms = torch.stack([model.loss(Batch(frames), 20)["negative_elbo"] for _ in range(20)])
    assert elbo.mean().item() == pytest.approx(terms.mean().item(), rel=0.01)
    with pytest.raises(ValueError, match="1 sample or more"):
        importance_weighted_nll(model, frames, 0)


def test_the_bound_is_the_log_mean_of_weights() -> None:
    weights = torch.tensor([[1.0, -800.0], [3.0, -802.0]], dtype=torch.float64)
    expected = -math.log((math.exp(1) + math.exp(3)) / 2)
    assert bound(weights).tolist() == pytest.approx([expected, 800 - math.log((1 + math.exp(-2)) / 2)])
    with pytest.raises(ValueError, match="1 sample or more, got 0"):
        log_weights(make_encoder("nvae_debug"), torch.zeros(1, 1, 3, 64, 64), 0)  # type: ignore[arg-type]


def test_groups_and_readings_are_judged_by_the_kl_of_their_channels(model: NVAE) -> None:
    # groups of 4 channels: one at the coarsest size, two at the next
    kl = np.array([2.0, 0.05, 0.05, 0.05, *(1.0, 1.0, 0.0, 0.0), *(0.5, 0.5, 0.5, 0.0)])
    report = judge_groups(model, {"pooled": kl.tolist()})
    assert [group["active_channels"] for group in report["groups"]] == [1, 2, 3]
    assert [group["scale"] for group in report["groups"]] == [0, 1, 1]
    assert report["groups"][1]["bits"] == pytest.approx(2 / math.log(2))
    informative = {name: reading["informative"] for name, reading in report["readings"].items()}
    # 1 of 4; 6 of 12 with both sizes in `coarse`; all; and what follows from the coarsest size's only group
    assert informative == {"top": False, "coarse": True, "pooled": True, "top_down": False}
    assert (report["recommended_latents"], report["default_latents"]) == ("coarse", "top")
    assert report["verdict"].startswith("Recommended for agents: 'coarse' (6 of 12 channels), the first of top, coarse and pooled with")
    assert "train_agent.py --latents coarse" in report["verdict"]
    model.prefer("coarse")
    again = judge_groups(model, {"pooled": kl.tolist()})
    assert again["verdict"].endswith("half of its channels active; they get it by default.")
    assert {name: reading["size"] for name, reading in again["readings"].items()} == {name: model.latents[name][0] for name in informative}


def test_where_nothing_is_informative_it_is_said(model: NVAE) -> None:
    said = judge_groups(model, {"pooled": [0.0] * 12})
    assert said["verdict"].startswith("Recommended for agents: 'pooled' (0 of 12 channels), for want of a reading with")
    assert said["recommended_latents"] == "pooled"
