"""Likelihoods, divergences, GECO, weights and mask statistics, against plain formulas and torch.distributions."""

import math

import pytest
import torch
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal, kl_divergence

from encoders.efficientmorl.distributions import Slots
from encoders.efficientmorl.geco import GECO, START, GECOSettings
from encoders.efficientmorl.hyperparameters import EfficientMORLHyperparameters, SlotAttentionHyperparameters
from encoders.efficientmorl.likelihoods import LOG_2_PI_HALF, Drawn, gaussian, mixture
from encoders.efficientmorl.model import loss_weights
from encoders.efficientmorl.readings import mask_statistics, readings_of


@pytest.fixture
def drawn() -> Drawn:
    return Drawn(torch.rand(2, 4, 3, 5, 6, dtype=torch.float64), 3 * torch.randn(2, 4, 5, 6, dtype=torch.float64))


def test_a_gaussian_is_around_the_mixed_colours(drawn: Drawn) -> None:
    x_N3HW = torch.rand(2, 3, 5, 6, dtype=torch.float64)
    mixed = sum(drawn.masks[:, k, None] * drawn.colours[:, k] for k in range(4))
    expected = -Normal(mixed, 0.2).log_prob(x_N3HW).sum((1, 2, 3))
    torch.testing.assert_close(gaussian(x_N3HW, drawn, 0.2) + 3 * 5 * 6 * LOG_2_PI_HALF, expected)


def test_a_mixture_is_of_each_pixel_and_channel(drawn: Drawn) -> None:
    x_N3HW = torch.rand(2, 3, 5, 6, dtype=torch.float64)
    shares = drawn.masks.permute(0, 2, 3, 1)[:, None].expand(-1, 3, -1, -1, -1)
    components = Normal(drawn.colours.permute(0, 2, 3, 4, 1), 0.2)
    expected = -MixtureSameFamily(Categorical(shares), components).log_prob(x_N3HW).sum((1, 2, 3))
    torch.testing.assert_close(mixture(x_N3HW, drawn, 0.2) + 3 * 5 * 6 * LOG_2_PI_HALF, expected)


def test_divergences_are_torch_s() -> None:
    q, p = (Slots(torch.randn(2, 3, 4).double(), 5 * torch.randn(2, 3, 4).double()) for _ in range(2))
    (q_normal, p_normal) = (Independent(Normal(one.mean, (torch.log1p(one.raw.exp()) + 1e-5).sqrt()), 3) for one in (q, p))
    torch.testing.assert_close(q.kl(p).sum(), kl_divergence(q_normal, p_normal))
    standard = Independent(Normal(torch.zeros_like(q.mean), 1.0), 3)
    torch.testing.assert_close(q.kl(None).sum(), kl_divergence(q_normal, standard))


def test_a_huge_variance_stays_finite_and_has_no_gradient() -> None:
    raw = torch.tensor([200.0, 20.0], requires_grad=True)
    Slots(torch.zeros(2), raw).kl(None).sum().backward()
    assert raw.grad is not None
    assert raw.grad[0] == 0 < raw.grad[1]


def test_the_multiplier_rises_while_the_target_is_missed_and_falls_faster_once_it_is_met() -> None:
    geco = GECO(GECOSettings(target=-100.0, warmup_steps=10, decay=0.5, rate=1e-3, acceleration=4.0))
    geco.update(torch.tensor(900.0), step=9)
    assert (float(geco.beta), float(geco.distance)) == (pytest.approx(START), 0)
    geco.update(torch.tensor(900.0), step=10)
    assert (float(geco.beta), float(geco.distance)) == (pytest.approx(START + 1.0), -1000)
    geco.update(torch.tensor(-1300.0), step=11)
    assert (float(geco.beta), float(geco.distance)) == (pytest.approx(START + 1.0 - 4 * 0.1), 100)
    for step in range(12, 20):
        geco.update(torch.tensor(-1300.0), step)
    assert float(geco.beta) == pytest.approx(START)


def test_the_reference_s_fall_of_the_multiplier() -> None:
    geco = GECO(GECOSettings(target=250.0, warmup_steps=0, decay=0.99, rate=1e-6, acceleration=5.0)).double()
    geco.beta.fill_(0.9)
    geco.update(torch.zeros((), dtype=torch.float64), step=0)
    assert float(geco.beta) == pytest.approx(0.89875)


def test_weighted_likelihood_has_the_average_s_value_and_a_scaled_gradient() -> None:
    geco, nll = GECO(GECOSettings(-100.0, 0, 0.9, 1e-6, 1.0)), torch.tensor(40.0, requires_grad=True)
    geco.distance.fill_(-30.0)
    weighted = geco.weighted(nll)
    weighted.backward()
    multiplier = math.log1p(math.exp(START))
    assert weighted.item() == pytest.approx(30 * multiplier)
    assert nll.grad == pytest.approx(multiplier)


@pytest.mark.parametrize(
    ("kind", "refinements", "expected"),
    [
        ("code", 3, [1.5, 1.25, 1.0, 0.75]),
        ("code", 1, [2.0, 1.5]),
        ("code", 0, [3.0]),
        ("paper", 3, [1.0, 0.75, 0.5, 0.25]),
        ("paper", 0, [1.0]),
    ],
)
def test_weights_of_the_steps(kind: str, refinements: int, expected: list[float]) -> None:
    assert loss_weights(refinements, kind) == pytest.approx(expected)


def test_the_curriculum_s_last_entry_that_has_begun_counts() -> None:
    h = EfficientMORLHyperparameters(refinement_curriculum=((-1, 3), (10, 1), (20, 2)))
    assert [h.refinements(step) for step in (0, 9, 10, 19, 20, 1000)] == [3, 3, 1, 1, 2, 2]
    assert (h.judged_refinements, EfficientMORLHyperparameters(test_refinements=0).judged_refinements) == (2, 0)


def test_mask_statistics_are_those_of_a_loop_over_pixels() -> None:
    masks = torch.rand(2, 3, 4, 7).double()
    found = mask_statistics(masks)
    for n in range(2):
        for k in range(3):
            mask = masks[n, k]
            total = mask.sum()
            places = [(x, y, mask[y, x] / total) for y in range(4) for x in range(7)]
            mean_x = sum((2 * x / 6 - 1) * share for x, _, share in places)
            mean_y = sum((2 * y / 3 - 1) * share for _, y, share in places)
            spread = sum(((2 * x / 6 - 1 - mean_x) ** 2 + (2 * y / 3 - 1 - mean_y) ** 2) * share for x, y, share in places).sqrt()
            torch.testing.assert_close(found[n, k], torch.stack([total / 28, mean_x, mean_y, spread, mask.max()]))


def test_where_a_slot_is_does_not_depend_on_autocast() -> None:
    masks = torch.zeros(1, 1, 64, 64)
    masks[0, 0, 20:25, 40:45] = 1
    full = readings_of(torch.zeros(1, 1, 3), masks)["slots"]
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(readings_of(torch.zeros(1, 1, 3), masks)["slots"], full)


def test_a_mask_in_a_corner_is_where_it_is_and_an_empty_one_is_nowhere() -> None:
    masks = torch.zeros(1, 2, 16, 16)
    masks[0, 0, :2, 14:] = 1
    readings = readings_of(torch.zeros(1, 2, 3), masks)
    area, x, y, spread, existence = readings["slots"][0, 0, 3:]
    assert area == pytest.approx(4 / 256)
    assert (x > 0.9, y < -0.9, spread < 0.2, existence == 1) == (True, True, True, True)
    assert torch.isfinite(readings["slots"]).all()
    assert readings["slots"][0, 1, -1] == 0
    assert readings["masks"][0, 0].nonzero().tolist() == [[0, 7]]
    assert readings["masks"][0, 0, 0, 7] == 1


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"decoder": "big", "frame_shape": (64, 40, 3)}, "16 divides, frame_shape is 64x40: take 'iodine'"),
        ({"geco": True}, "geco needs geco_target.*--geco suggest"),
        ({"layers": 0}, "without layers only refinement sees the frame"),
        ({"refinement_curriculum": ((0, 3),)}, r"the first step -1, then rising: \[\[-1, 3\]"),
        ({"refinement_curriculum": ((-1, 3), (9, 1), (5, 2))}, "then rising"),
        ({"refinement_curriculum": ((-1, -3),)}, "0 steps or more"),
        ({"slots": 0}, "slots must be greater than 0"),
        ({"slots": 10**9}, "slots 1,000,000,000: the limit is 65,536"),
        ({"sigma": 0.0}, "sigma must be greater than 0"),
        ({"encoder_strides": ()}, "one stride of 1 or more for each convolution"),
    ],
)
def test_what_cannot_be_made_is_told_in_words(options: dict, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        EfficientMORLHyperparameters(**options)


def test_slot_attention_needs_a_round() -> None:
    with pytest.raises(ValueError, match="iterations must be 1 or more"):
        SlotAttentionHyperparameters(iterations=0)
