"""LPIPS and FVD with made-up weights: their arithmetic, not their judgement."""

import pytest
import torch
from torch.nn import functional as F

from evaluation.perceptual import I3D, LPIPS, frechet_distance, perceptual_distances
from foundation.errors import UserError

SHAPES = {0: (64, 3, 11, 11), 3: (192, 64, 5, 5), 6: (384, 192, 3, 3), 8: (256, 384, 3, 3), 10: (256, 256, 3, 3)}


@pytest.fixture
def lpips_weights(tmp_path):
    generator = torch.Generator().manual_seed(0)
    alexnet = {f"features.{place}.weight": torch.randn(shape, generator=generator) / 30 for place, shape in SHAPES.items()}
    alexnet |= {f"features.{place}.bias": torch.zeros(shape[0]) for place, shape in SHAPES.items()}
    heads = {f"lin{n}.model.1.weight": torch.rand(1, shape[0], 1, 1, generator=generator) for n, shape in enumerate(SHAPES.values())}
    torch.save(alexnet, tmp_path / "alexnet.pth")
    torch.save(heads, tmp_path / "lpips.pth")
    return tmp_path


def test_lpips_is_zero_for_equal_frames_and_grows_with_noise(lpips_weights) -> None:
    distance = LPIPS(lpips_weights)
    x = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(2))
    assert distance(x, x).tolist() == [0, 0]
    near, far = distance(x, (x + 0.02 * noise).clamp(0, 1)), distance(x, (x + 0.2 * noise).clamp(0, 1))
    assert (near > 0).all()
    assert (far > near).all()


def test_lpips_first_layer_is_the_paper_s_equation(lpips_weights) -> None:
    distance = LPIPS(lpips_weights)
    for head in list(distance.heads)[1:]:
        head.zero_()
    x, y = torch.rand(2, 1, 3, 64, 64, generator=torch.Generator().manual_seed(3))
    features = []
    constants = [(-0.03, 0.458), (-0.088, 0.448), (-0.188, 0.45)]
    for frame in (x, y):
        scaled = torch.stack([(2 * frame[:, c] - 1 - shift) / scale for c, (shift, scale) in enumerate(constants)], 1)
        found = F.conv2d(scaled, distance.layers[0].weight, distance.layers[0].bias, stride=4, padding=2).relu()
        features.append(found / found.square().sum(1, keepdim=True).sqrt().clamp_min(1e-10))
    expected = ((features[0] - features[1]) ** 2 * distance.heads[0]).sum(1).mean()
    torch.testing.assert_close(distance(x, y)[0], expected)


def test_weights_of_another_network_are_refused_by_name(lpips_weights) -> None:
    torch.save({"features.0.weight": torch.zeros(64, 3, 3, 3)}, lpips_weights / "alexnet.pth")
    with pytest.raises(UserError, match=r"'layers\.0\.weight' are of shape \(64, 3, 3, 3\)"):
        LPIPS(lpips_weights)
    (lpips_weights / "alexnet.pth").write_bytes(b"no weights")
    with pytest.raises(UserError, match="not a file of weights"):
        LPIPS(lpips_weights)
    with pytest.raises(UserError, match=r"no i3d\.pth"):
        I3D(lpips_weights)


def test_the_frechet_distance_of_gaussians_is_the_closed_form() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(20_000, 3, generator=generator, dtype=torch.float64)
    y = torch.randn(20_000, 3, generator=generator, dtype=torch.float64) * torch.tensor([1.0, 2.0, 3.0]) + torch.tensor([1.0, 0.0, 0.0])
    assert frechet_distance(x, x) == pytest.approx(0, abs=1e-9)
    # 1 for the means; (s - 1)^2 for every deviation
    assert frechet_distance(x, y) == pytest.approx(1 + 0 + 1 + 4, rel=0.03)


def test_i3d_gives_400_logits_for_16_frames(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("evaluation.perceptual.read_weights", lambda folder, name: {})
    monkeypatch.setattr("evaluation.perceptual.load_weights", lambda module, found, folder: None)
    network = I3D(tmp_path)
    assert sum(parameter.numel() for parameter in network.parameters()) == 12_697_264
    with torch.no_grad():
        assert network(torch.rand(1, 16, 3, 32, 32)).shape == (1, 400)
    with pytest.raises(UserError, match="at least 16 frames"):
        network(torch.rand(1, 15, 3, 32, 32))


def test_what_has_weights_is_measured(lpips_weights, tmp_path_factory) -> None:
    x = torch.rand(2, 5, 3, 32, 32, generator=torch.Generator().manual_seed(4))
    measured = perceptual_distances(lpips_weights, [(x, x), (x, x.flip(1))], torch.device("cpu"))
    assert list(measured) == ["lpips"]
    assert len(measured["lpips"]) == 5
    # the middle frame of a reversed clip is where it was
    assert measured["lpips"][2] == 0
    assert measured["lpips"][0] > 0
    with pytest.raises(UserError, match="neither"):
        perceptual_distances(tmp_path_factory.mktemp("empty"), [], torch.device("cpu"))
