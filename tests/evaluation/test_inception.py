"""FID's network with made-up weights: its shapes, its names, its pooling; the distance is tested beside FVD's."""

from pathlib import Path

import pytest
import torch
from torch import nn

from evaluation.inception import FIDInception, frechet_inception_distances, pooled, warn_of_few
from foundation.errors import UserError

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def network() -> FIDInception:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("evaluation.inception.read_weights", lambda folder, name: {})
        patch.setattr("evaluation.inception.load_weights", lambda module, found, folder: None)
        torch.manual_seed(0)
        return FIDInception(Path("unused"))


@torch.no_grad()
def test_a_frame_of_any_size_gives_2048_features(network: FIDInception) -> None:
    assert sum(parameter.numel() for parameter in network.parameters()) == 21_785_568
    sizes = {}
    for name in ("Conv2d_4a_3x3", "Mixed_5d", "Mixed_6e", "Mixed_7c"):
        network.get_submodule(name).register_forward_hook(lambda _, __, out, name=name: sizes.update({name: tuple(out.shape[1:])}))
    assert network(torch.rand(1, 3, 64, 64)).shape == (1, 2048)
    # 299 pixels become 71, 35, 17 and 8, as the 2015 network's do
    assert sizes == {"Conv2d_4a_3x3": (192, 71, 71), "Mixed_5d": (288, 35, 35), "Mixed_6e": (768, 17, 17), "Mixed_7c": (2048, 8, 8)}


def test_the_names_are_those_of_the_published_port(network: FIDInception) -> None:
    shapes = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    assert shapes["Mixed_5b.branch5x5_2.conv.weight"] == (64, 48, 5, 5)
    assert shapes["Mixed_6c.branch7x7dbl_5.conv.weight"] == (192, 160, 1, 7)
    assert shapes["Mixed_7a.branch7x7x3_4.bn.running_var"] == (192,)
    assert shapes["Mixed_7c.branch3x3dbl_3b.conv.weight"] == (384, 384, 3, 1)
    assert sum(isinstance(part, nn.Conv2d) for part in network.modules()) == 94


def test_averages_do_not_count_the_padding_and_the_last_block_takes_the_maximum(network: FIDInception) -> None:
    x = torch.arange(9.0).view(1, 1, 3, 3)
    assert pooled(x, "average").tolist() == [[[[2.0, 2.5, 3.0], [3.5, 4.0, 4.5], [5.0, 5.5, 6.0]]]]
    assert pooled(x, "maximum").tolist() == [[[[4.0, 5.0, 5.0], [7.0, 8.0, 8.0], [7.0, 8.0, 8.0]]]]
    assert pooled(x, "halving").tolist() == [[[[8.0]]]]
    kinds = {name: block.pool for name, block in network.named_children() if name.startswith("Mixed")}
    assert (kinds["Mixed_7b"], kinds["Mixed_7c"]) == ("average", "maximum")
    assert [name for name, kind in kinds.items() if kind == "halving"] == ["Mixed_6a", "Mixed_7a"]


@torch.no_grad()
def test_the_parts_of_a_block_stand_in_their_order(network: FIDInception) -> None:
    block, x = network.Mixed_7c, torch.rand(1, 2048, 4, 4, generator=torch.Generator().manual_seed(0))
    found = block(x)
    torch.testing.assert_close(found[:, :320], block.branch1x1(x))
    torch.testing.assert_close(found[:, 320:704], block.branch3x3_2a(block.branch3x3_1(x)))
    deep = block.branch3x3dbl_2(block.branch3x3dbl_1(x))
    torch.testing.assert_close(found[:, 1472:1856], block.branch3x3dbl_3b(deep))
    torch.testing.assert_close(found[:, 1856:], block.branch_pool(pooled(x, "maximum")))


def test_weights_are_read_by_name_and_a_missing_one_is_named(network: FIDInception, tmp_path: Path) -> None:
    weights = {name: tensor for name, tensor in network.state_dict().items() if not name.endswith("num_batches_tracked")}
    torch.save({**weights, "fc.weight": torch.zeros(1008, 1)}, tmp_path / "inception.pth")
    loaded = FIDInception(tmp_path)
    assert torch.equal(loaded.Mixed_7c.branch1x1.conv.weight, network.Mixed_7c.branch1x1.conv.weight)
    del weights["Mixed_6e.branch_pool.bn.weight"]
    torch.save(weights, tmp_path / "inception.pth")
    with pytest.raises(UserError, match=r"the weights of 'Mixed_6e\.branch_pool\.bn\.weight' are missing"):
        FIDInception(tmp_path)


def test_fid_is_the_distance_of_features_chunk_by_chunk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Means(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.mean((2, 3))

    monkeypatch.setattr("evaluation.inception.FIDInception", lambda weights: Means())
    generator = torch.Generator().manual_seed(0)
    frames = torch.rand(500, 3, 4, 4, generator=generator)
    counted: list[int] = []
    found = frechet_inception_distances(
        tmp_path, [frames], {"the same": frames.split(70), "brighter": [frames + 0.5]}, CPU, lambda amount=1, **_: counted.append(amount)
    )
    assert sum(counted) == 3 * 500
    assert found["the same"] == pytest.approx(0, abs=1e-6)
    # only the means differ, by 1/2 in each of three channels
    assert found["brighter"] == pytest.approx(0.75, rel=1e-4)
    with pytest.raises(UserError, match="2 images or more"):
        frechet_inception_distances(tmp_path, [frames], {"one": [frames[:1]]}, CPU, lambda amount=1, **_: None)


def test_few_images_are_warned_of(capsys: pytest.CaptureFixture) -> None:
    warn_of_few(2048)
    assert not capsys.readouterr().err
    warn_of_few(500)
    assert "FID from 500 images is too high" in capsys.readouterr().err
