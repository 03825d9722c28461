"""Readings that say where: points, evidence and masks, computed another way; feature maps for models on top."""

import math

import numpy as np
import pytest
import torch

from encoders import Encoder, GivesMasks, HasFeatureMaps, check_encoder, make_encoder
from encoders.conv.where import Where, points_of
from foundation.errors import UserError


def frames(count: int, side: int = 32) -> torch.Tensor:
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(1))


def test_points_are_where_the_mass_of_a_map_is_and_how_much() -> None:
    maps = 3 * torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = points_of(maps).numpy()
    for row in range(2):
        for number in range(3):
            total = x = y = 0.0
            for i in range(4):
                for j in range(5):
                    mass = math.exp(maps[row, number, i, j])
                    total += mass
                    x += mass * (-1 + 2 * j / 4)
                    y += mass * (-1 + 2 * i / 3)
            expected = [x / total, y / total, math.log(total)]
            assert found[row, [number, 3 + number, 6 + number]] == pytest.approx(expected, rel=1e-12)


def test_a_point_follows_what_its_map_lights_up_at() -> None:
    maps = torch.full((1, 1, 8, 8), -20.0)
    maps[0, 0, 1, 6] = 20.0
    assert points_of(maps)[0].tolist() == pytest.approx([-1 + 2 * 6 / 7, -1 + 2 * 1 / 7, 20.0], abs=1e-5)


@pytest.mark.parametrize("preset", ["points_tiny", "evidence_tiny"])
def test_encoders_of_points_keep_the_contract(preset: str) -> None:
    torch.manual_seed(0)
    check_encoder(make_encoder(preset, frame_shape=[32, 32, 3]))


def test_the_extra_readings_of_a_conv_vae_keep_it_too_and_change_no_other_number() -> None:
    torch.manual_seed(0)
    plain = make_encoder("debug").eval()
    more = make_encoder("debug", points=3, evidence=True).eval()
    more.load_state_dict(plain.state_dict(), strict=False)
    check_encoder(make_encoder("debug", points=3, evidence=True))
    assert more.latents == {"mean": (16,), "points": (9,), "evidence": (64,), "both": (73,)}
    batch = frames(2, 64)
    assert torch.equal(plain.encode(batch, {})[0], more.encode(batch, {})[0])


def test_both_readings_lie_side_by_side() -> None:
    model = make_encoder("evidence_tiny", frame_shape=[32, 32, 3]).eval()
    batch = frames(2)
    read = {name: model.encode(batch, {}, latents=name)[0] for name in model.latents}
    assert next(iter(model.latents)) == "both"
    assert torch.equal(read["both"], torch.cat([read["points"], read["evidence"]], 1))
    assert list(make_encoder("evidence_tiny", maps=0).latents) == ["evidence"]


def test_a_mask_is_what_a_place_alone_would_come_to() -> None:
    model = make_encoder("evidence_tiny").eval()
    assert isinstance(model, GivesMasks)
    assert not isinstance(make_encoder("points_tiny"), GivesMasks)
    clips = frames(2, 64)[:, None]
    with torch.no_grad():
        evidence, masks = model.encode_clip(clips, latents="evidence"), model.masks(clips)
    assert masks.shape == (2, 1, 64, 64)
    alone = 1 / (1 + np.exp(5 - evidence[1, 0].double().numpy().reshape(8, 8)))
    for row, column in [(0, 0), (4, 4), (20, 35), (63, 30)]:
        y, x = ((place + 0.5) / 8 - 0.5 for place in (row, column))
        corners = [
            (i, j, (1 - abs(y - i)) * (1 - abs(x - j))) for i in range(-1, 9) for j in range(-1, 9) if abs(y - i) < 1 and abs(x - j) < 1
        ]
        expected = sum(weight * alone[min(max(i, 0), 7), min(max(j, 0), 7)] for i, j, weight in corners)
        assert float(masks[1, 0, row, column]) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("preset", "shapes"),
    [
        ("conv_vae_tiny", [(32, 16), (64, 8), (128, 4)]),
        ("conv_vae", [(64, 64), (64, 32), (128, 16), (256, 8)]),
        ("points_tiny", [(32, 16), (64, 8)]),
        ("nvae_tiny", [(16, 32), (32, 16), (64, 8), (128, 4)]),
    ],
)
def test_feature_maps_come_finest_first(preset: str, shapes: list[tuple[int, int]]) -> None:
    torch.manual_seed(0)
    model = make_encoder(preset).eval()
    assert isinstance(model, HasFeatureMaps)
    with torch.no_grad():
        maps = model.feature_maps(frames(1, 64))
    assert [(one.shape[1], one.shape[2]) for one in maps] == shapes
    if preset != "nvae_tiny":
        assert torch.equal(maps[-1], features(model))


@torch.no_grad()
def features(model: Encoder) -> torch.Tensor:
    assert isinstance(model.encoder, torch.nn.Module)
    return model.encoder(frames(1, 64))


def test_sizes_that_do_not_fit_are_told() -> None:
    with pytest.raises(UserError, match=r"multiples of 8"):
        make_encoder("points_tiny", frame_shape=[60, 64, 3])
    with pytest.raises(UserError, match=r"maps must be 1 or more"):
        make_encoder("points_tiny", maps=0)


@pytest.mark.parametrize("preset", ["points_tiny", "evidence_tiny", "conv_vae_heads"])
def test_agents_pay_at_most_six_million_multiplications_a_frame(preset: str) -> None:
    model, count = make_encoder(preset).eval(), [0]

    def note(layer: torch.nn.Module, inputs: tuple[torch.Tensor], output: torch.Tensor) -> None:
        count[0] += output.numel() * layer.weight[0].numel()  # type: ignore[operator, index]

    for part in model.modules():
        if isinstance(part, (torch.nn.Conv2d, torch.nn.Linear)):
            part.register_forward_hook(note)
    with torch.no_grad():
        model.encode(frames(1, 64), {})
    assert 3.9e6 < count[0] < 6e6


def test_points_are_taken_in_float32_under_autocast_too() -> None:
    torch.manual_seed(0)
    where = Where(4, (16, 16), points=3, evidence=False)
    where.point_maps.requires_grad_(False).weight.mul_(20)
    maps: list[torch.Tensor] = []
    where.point_maps.register_forward_hook(lambda layer, given, output: maps.append(output))
    with torch.autocast("cpu", torch.bfloat16):
        found = where(torch.rand(2, 4, 16, 16), ["points"])["points"]
    assert maps[0].dtype == torch.bfloat16
    assert torch.equal(found, points_of(maps[0].float()))
