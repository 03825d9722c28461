"""Open-loop evaluation with predictors whose scores are known beforehand."""

from collections.abc import Iterator, Sequence

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor

from evaluation.open_loop import Clips, Settings, evaluate_open_loop, fit_blend, is_frozen
from evaluation.open_loop_pictures import write_curves, write_predictions, write_spread
from foundation.errors import UserError

CONTEXT, HORIZON = 3, 12
CPU = torch.device("cpu")


class Noisy:
    """Predicts the last frame and noise of a known deviation."""

    def __init__(self, deviation: float) -> None:
        self.deviation = deviation

    def open_loop(
        self,
        frames: Tensor,
        context: int,
        horizon: int,
        num_samples: int = 1,
        use_obs: Sequence[bool] | None = None,
        generator: torch.Generator | None = None,
        actions: Tensor | None = None,
    ) -> Iterator[Tensor]:
        if use_obs is not None and len(use_obs) != 3:
            raise ValueError("use_obs needs an entry for each of the 3 levels")
        for _ in range(num_samples):
            last = frames[:, context - 1 : context].expand(-1, horizon, -1, -1, -1)
            yield torch.cat([frames[:, :context], last + self.deviation * torch.randn(last.shape, generator=generator)], 1)


def clips(count: int = 4, seed: int = 0, still: bool = False, rate: float = 20.0) -> Clips:
    """Frames that drift from a first picture to another one; or that stand still."""
    random = np.random.default_rng(seed)
    first, last = random.integers(60, 196, (2, count, 1, 16, 16, 3))
    share = np.linspace(0, 0 if still else 1, CONTEXT + HORIZON)[:, None, None, None]
    return Clips((first * (1 - share) + last * share).round().astype(np.uint8), rate)


def judged(model: Noisy, some: list[Clips], **settings: int) -> dict:
    mean = np.full((16, 16, 3), 0.5, np.float32)
    return evaluate_open_loop(model, some, Settings(CONTEXT, **settings), mean, fit_blend(some, CONTEXT, mean), CPU)


def test_a_prediction_is_scored_by_its_pooled_squared_error() -> None:
    report = judged(Noisy(0.1), [clips(still=True)])
    (group,) = report["groups"].values()
    # noise of deviation 0.1, and nothing else to be wrong: 20 dB
    assert group["rows"]["model"]["psnr_db"]["all"] == pytest.approx(20, abs=0.2)
    assert group["rows"]["model"]["psnr_db"]["first 10"] == pytest.approx(20, abs=0.3)
    assert len(group["rows"]["model"]["curves"]["ssim"]) == HORIZON


def test_repeating_the_last_frame_is_perfect_where_nothing_moves() -> None:
    report = judged(Noisy(0.1), [clips(still=True)])
    (name,) = report["groups"]
    rows = report["groups"][name]["rows"]
    assert name == "frozen clips, 20 frames/s"
    assert rows["repeat the last frame"]["psnr_db"]["all"] == pytest.approx(120)
    assert rows["repeat the last frame"]["ssim"]["all"] == pytest.approx(1)
    assert rows["best blend of both"]["psnr_db"]["all"] > 100


def test_frozen_clips_and_rates_are_told_apart() -> None:
    report = judged(Noisy(0.0), [clips(3), clips(2, still=True), clips(1, rate=10.0)])
    counts = {name: group["clips"] for name, group in report["groups"].items()}
    assert counts == {"frozen clips, 20 frames/s": 2, "moving clips, 10 frames/s": 1, "moving clips, 20 frames/s": 3}


def test_the_blend_is_the_best_of_all_fixed_weights() -> None:
    some = [clips(6)]
    mean = np.full((16, 16, 3), 0.5, np.float32)
    blend = fit_blend(some, CONTEXT, mean)
    x = some[0].frames.astype(np.float64) / 255
    for ahead in (0, HORIZON - 1):
        errors = [((x[:, CONTEXT + ahead] - (w * x[:, CONTEXT - 1] + (1 - w) * 0.5)) ** 2).mean() for w in np.linspace(0, 1, 1001)]
        assert blend[ahead] == pytest.approx(np.argmin(errors) / 1000, abs=2e-3)
    assert blend[0] > blend[-1]


def test_more_samples_cannot_make_the_best_one_worse() -> None:
    rows = next(iter(judged(Noisy(0.1), [clips()], samples=4)["groups"].values()))["rows"]
    assert rows["best sample by PSNR"]["psnr_db"]["all"] >= rows["model"]["psnr_db"]["all"]
    assert rows["best sample by SSIM"]["ssim"]["all"] >= rows["model"]["ssim"]["all"]
    # the mean of four draws has a quarter of the noise's variance
    assert rows["mean of the samples"]["psnr_db"]["all"] > rows["model"]["psnr_db"]["all"]


def test_the_same_seed_gives_the_same_scores() -> None:
    assert judged(Noisy(0.1), [clips()]) == judged(Noisy(0.1), [clips()])


def test_no_clips_are_an_error() -> None:
    mean = np.full((16, 16, 3), 0.5, np.float32)
    with pytest.raises(UserError, match="predict fewer frames"):
        fit_blend([], CONTEXT, mean)
    with pytest.raises(UserError, match="predict fewer frames"):
        evaluate_open_loop(Noisy(0), [], Settings(CONTEXT), mean, np.ones(HORIZON), CPU)


def test_a_clip_that_mostly_stands_still_is_frozen() -> None:
    assert is_frozen(np.concatenate([clips(1).frames, clips(1, still=True).frames])).tolist() == [False, True]


def test_strips_and_films_show_every_predicted_frame(tmp_path) -> None:
    some = clips(1)
    strip, film = write_predictions(tmp_path, "clip", Noisy(0.05), some, Settings(CONTEXT), CPU)
    shown = cv2.imread(str(strip))
    # three lines of twelve frames with a label each
    assert shown.shape[1] >= HORIZON * 16
    assert shown.shape[0] >= 3 * (16 + 18)
    ok, animation = cv2.imreadanimation(str(film))
    assert ok
    assert len(animation.frames) == CONTEXT + HORIZON
    # target and prediction begin with the same context
    first = animation.frames[0][..., :3].astype(int)
    assert np.abs(first[:, :48] - first[:, 48:96]).mean() < 3


@pytest.mark.parametrize(("length", "scale"), [(20, 3), (760, 1)])
def test_films_of_long_futures_are_enlarged_less_and_have_every_frame(tmp_path, length: int, scale: int) -> None:
    some = Clips(np.random.default_rng(0).integers(0, 256, (1, length, 8, 8, 3), np.uint8), 20.0)
    _, film = write_predictions(tmp_path, "clip", Noisy(0.05), some, Settings(CONTEXT), CPU)
    ok, animation = cv2.imreadanimation(str(film))
    assert ok
    assert len(animation.frames) == length
    assert animation.frames[0].shape[:2] == (8 * scale, 3 * 8 * scale)


def test_a_few_clips_at_equal_distances_are_drawn_and_filmed(tmp_path) -> None:
    held_out = [clips(3), clips(3, still=True)]
    curves = write_curves(tmp_path / "curves.png", judged(Noisy(0.1), held_out))
    pictures = write_spread(tmp_path, Noisy(0.1), held_out, 6, Settings(CONTEXT), CPU)
    assert sorted(path.name for path in (curves, *pictures)) == sorted(path.name for path in tmp_path.iterdir())
    assert len(pictures) == 2 * 4
    assert cv2.imread(str(curves)).std() > 5


@pytest.mark.parametrize(("use_obs", "message"), [("TT", "each of the 3 levels"), ("TXF", "a T or an F for every level")])
def test_wrong_levels_are_an_error(use_obs, message) -> None:
    with pytest.raises(UserError, match=message):
        judged(Noisy(0.1), [clips()], use_obs=use_obs)
