"""What judges of slots measure, draw and write, on a model whose slots are known."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.metrics import adjusted_rand_score

from encoders import EncoderArtifact, HasSlots, StoreReference, prepare
from encoders.encoder import SlotsFound
from evaluation import check_judge
from evaluation.activeness import Range, activeness
from evaluation.blocks import THINGS
from evaluation.evaluation import Evaluation
from evaluation.judges.dci import DCI, DCIOptions
from evaluation.judges.objects import Objects, ObjectsOptions
from evaluation.judges.slots import Slots, SlotsOptions
from foundation.errors import UserError
from frames import FrameStore
from frames.scenes.building import build_scenes
from frames.scenes.tetrominoes import TETROMINOES
from tests.fixtures.slots import COLOURS, ColourSlots

Made = Callable[[Path], EncoderArtifact]


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> FrameStore:
    path = tmp_path_factory.mktemp("scenes") / "store"
    build_scenes("Tetrominoes", path, frames=160, episode_frames=20, val=0.5)
    return FrameStore(path)


@pytest.fixture
def artifact(colour_slots: Made, scenes: FrameStore) -> EncoderArtifact:
    return colour_slots(scenes.path)


def evaluation(artifact: EncoderArtifact, store: FrameStore, folder: Path) -> Evaluation:
    return Evaluation(artifact, store, "val", store, folder / "pictures", torch.device("cpu"))


def test_the_command_asks_judges_of_slots_of_a_package_s_encoder(
    scenes: FrameStore, tmp_path: Path, install: Callable[..., None], command: Callable[..., int], capsys: pytest.CaptureFixture
) -> None:
    install("slots_package", "", "minerl_perception.encoders", {"colours": f"{ColourSlots.__module__}:ColourSlots"})
    reference = StoreReference(str(scenes.path), scenes.fingerprint, 1.0, "squash")
    prepare(ColourSlots(), scenes.frames(np.arange(8)), tmp_path / "run", store=reference)
    options = ["--objects.metrics", "ari", "mse", "--objects.images", 8, "--dci.images", 40, "--dci.trees", 2, "--threads", 1]
    assert command("evaluate_encoder.py", tmp_path / "run", "--store", scenes.path, "--judges", "objects", "dci", *options) == 0
    report = json.loads((tmp_path / "run" / "evaluation.json").read_text())
    assert set(report["objects"]["levels"][0]) == {"level", "ari", "mse"}
    assert "kl_nats" not in report["objects"]
    assert report["objects"]["verdict"] in capsys.readouterr().out
    assert report["dci"]["factors"]["color"]["kind"] == "class"


def test_objects_are_measured_at_every_level_beside_k_means(artifact: EncoderArtifact, scenes: FrameStore) -> None:
    assert isinstance(artifact.model, HasSlots)
    numbers = check_judge(Objects(), artifact, scenes, ObjectsOptions(images=12))
    assert numbers is not None
    indices = scenes.indices("val")[np.linspace(0, len(scenes.indices("val")) - 1, 12).round().astype(int)]
    frames, colours = scenes.frames(indices), np.array(COLOURS)
    ari, error, ground = [], [], []
    for index, frame in zip(indices, frames, strict=True):
        episode = scenes.episode_at(int(index))
        true = scenes.array(episode, "observation.masks")[index - episode.first, ..., 0].argmax(0)
        found = ((frame[:, :, None] > 0) == colours).all(-1).argmax(-1)
        ari.append(adjusted_rand_score(true[true > 0], found[true > 0]))
        error.append(np.square(colours[found] - frame / 255).mean())
        ground.append(np.square(frame / 255).mean())
    assert [row["level"] for row in numbers["levels"]] == ["ground", "colours"]
    first, last = numbers["levels"]
    assert last["ari"] == {"mean": pytest.approx(np.mean(ari)), "deviation": pytest.approx(np.std(ari))}
    assert last["mse"] == {"mean": pytest.approx(np.mean(error)), "deviation": pytest.approx(np.std(error))}
    assert first["mse"]["mean"] == pytest.approx(np.mean(ground))
    assert first["ari"]["mean"] == 0
    assert numbers["kl_nats"] == {"mean": pytest.approx(9.25), "deviation": pytest.approx(0)}
    assert (numbers["images"], numbers["slots"], numbers["kmeans"].keys()) == (12, 7, {"ari", "miou", "mse"})
    assert f"{numbers['kmeans']['ari']['mean']:.3f}" in numbers["verdict"]


def test_without_masks_only_pictures_are_compared_and_asking_for_ari_is_refused(
    artifact: EncoderArtifact, clip_store: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    store = FrameStore(clip_store)
    out = evaluation(artifact, store, tmp_path)
    numbers = Objects().judge(artifact, store, ObjectsOptions(images=4), out)
    assert [set(row) for row in (*numbers["levels"], numbers["kmeans"])] == [{"level", "mse"}, {"level", "mse"}, {"mse"}]
    assert "has no masks of objects: no ARI" in capsys.readouterr().err
    with pytest.raises(UserError, match=r"--objects.metrics ari: .* has no masks of objects; build it from Tetrominoes"):
        Objects().check(artifact, store, ObjectsOptions(metrics=("mse", "ari")), out)
    assert DCI().applies(artifact.model, store) == "the store has no masks and factors of objects"
    assert Objects().applies(torch.nn.Identity(), store) == "its latents are no slots"  # type: ignore[arg-type]


def test_kinds_of_blocks_count_as_objects(artifact: EncoderArtifact, tmp_path: Path) -> None:
    """A recording of the voxel world: where the things are what the slots tell apart, the ARI over all pixels is 1.

    Dirt and diamond are two things, dirt and stone are both ground, unless they are told apart.
    """
    from frames.curation.splits import assign_splits
    from frames.storage.writer import store_writer

    kinds = np.random.default_rng(0).integers(0, 3, (6, 35, 35))
    frames = np.array([(0, 0, 0), (200, 0, 0), (0, 9, 9)], np.uint8)[kinds]
    with store_writer(tmp_path / "store", {"source": "a test"}, (35, 35, 3)) as writer:
        segmentation = np.array([2, 10, 255], np.uint8)[kinds]
        writer.add("a", frames, source="a", frames_per_second=20.0, arrays=lambda: {"observation.segmentation": segmentation})
        writer.finish(lambda names: assign_splits(names, "val"), {"resize": "squash", "left_out": []})
    store = FrameStore(tmp_path / "store")
    numbers = Objects().judge(artifact, store, ObjectsOptions(), evaluation(artifact, store, tmp_path))
    assert numbers["levels"][-1]["ari"] == {"mean": 1, "deviation": 0}
    assert numbers["levels"][-1]["miou"] == {"mean": 1, "deviation": 0}
    together = Objects().judge(artifact, store, ObjectsOptions(blocks=("dirt+diamond", "sky")), evaluation(artifact, store, tmp_path))
    expected = [adjusted_rand_score((one == 2).ravel(), one.ravel()) for one in kinds]
    assert together["levels"][-1]["ari"]["mean"] == pytest.approx(np.mean(expected))
    with pytest.raises(UserError, match=r"--objects.blocks dirt\+dimond: did you mean 'diamond'"):
        ObjectsOptions(blocks=("dirt+dimond",))
    nothing = Evaluation(artifact, store, "test", store, tmp_path, torch.device("cpu"))
    with pytest.raises(UserError, match="there are no frames in split 'test'; name another"):
        Objects().judge(artifact, store, ObjectsOptions(), nothing)


def test_slots_are_drawn_filmed_and_written_as_arrays(artifact: EncoderArtifact, scenes: FrameStore, tmp_path: Path) -> None:
    options = SlotsOptions(images=3, traversals=1, dimensions=4, steps=5, activeness=2)
    out = evaluation(artifact, scenes, tmp_path)
    numbers = Slots().judge(artifact, scenes, options, out)
    assert [file.name for file in out.files] == ["slots.png", "slot_levels.png", "slots.npz", "slot_traversals_0.gif"]
    with np.load(tmp_path / "pictures" / "slots.npz", allow_pickle=False) as found:
        arrays = dict(found)
    expected = ColourSlots().slots(torch.from_numpy(arrays["frames"]).movedim(-1, 1) / 255)
    assert np.array_equal(arrays["frames"], scenes.frames(arrays["indices"]))
    assert arrays["levels"].tolist() == ["ground", "colours"]
    for name in ("masks", "pictures", "reconstruction"):
        assert np.array_equal(arrays[name], torch.stack(getattr(expected, name)).numpy())
    assert (arrays["attention_levels"].tolist(), arrays["attention"].shape) == (["colours"], (1, 3, 7, 7, 7))
    assert arrays["true_masks"].shape == (3, 4, 35, 35)
    assert np.array_equal(arrays["means"], expected.means.numpy())
    assert arrays["activeness"].shape == (2, 7)
    assert "logits" not in arrays
    film = Image.open(tmp_path / "pictures" / "slot_traversals_0.gif")
    assert (film.n_frames, film.info["duration"]) == (5, 250)
    # the last number does nothing, and the colours' and the places' do something
    assert (numbers["slots"], numbers["dimensions"], numbers["activeness"][6]) == (7, 7, 0)
    assert all(len(shown) == 4 and 6 not in shown for shown in numbers["traversed"][0])


def test_activeness_is_the_variance_of_what_is_seen_over_a_number_s_range() -> None:
    model, random = ColourSlots(), torch.Generator().manual_seed(0)
    means = torch.rand(5, 7, 7, generator=random)
    reach = Range.of(means)
    found = activeness(model, means[0], 2, reach, torch.device("cpu"))
    for number in range(7):
        seen = []
        for step in range(6):
            z = means[:1].clone()
            z[0, 2, number] = means[..., number].min() + step / 5 * (means[..., number].max() - means[..., number].min())
            pictures, masks = model.decode_slots(z)
            seen.append((pictures * masks[:, :, None]).sum(1)[0].numpy())
        assert float(found[number]) == pytest.approx(np.var(seen, 0).mean(), rel=1e-4, abs=1e-9)


def test_the_film_of_the_most_active_numbers_begins_with_what_moves_most(artifact: EncoderArtifact, scenes: FrameStore) -> None:
    numbers = check_judge(Slots(), artifact, scenes, SlotsOptions(images=2, traversals=1, dimensions=7, steps=2, activeness=1))
    assert numbers is not None
    for shown in numbers["traversed"][0]:
        assert sorted(shown) == list(range(7))
        assert shown[-1] == 6


class Perfect(ColourSlots):
    """Knows the objects of `scenes`, by their pictures: each slot's numbers are its object's factors."""

    def __init__(self) -> None:
        super().__init__()
        self.known: dict[bytes, tuple[np.ndarray, np.ndarray]] = {}

    def slots(self, frames: torch.Tensor, refinements: int | None = None) -> SlotsFound:
        found = [self.known[(255 * frame).round().byte().movedim(0, -1).contiguous().numpy().tobytes()] for frame in frames]
        # an order of its own in every frame
        orders = [np.random.default_rng(number).permutation(4) for number in range(len(found))]
        masks = torch.tensor(np.array([one[0][order, ..., 0] / 255 for one, order in zip(found, orders, strict=True)]), dtype=torch.float32)
        means = torch.tensor(np.array([one[1][order] for one, order in zip(found, orders, strict=True)]))
        seen = frames[:, None].expand(-1, 4, -1, -1, -1)
        kl = torch.zeros(len(frames))
        return SlotsFound([masks], [seen], [frames], means, torch.ones_like(means), kl)


@pytest.fixture
def perfect(artifact: EncoderArtifact, scenes: FrameStore) -> EncoderArtifact:
    model = Perfect()
    for number, episode in enumerate(scenes.episodes):
        drawn = TETROMINOES.draw(np.random.default_rng([0, number]), episode.length)
        model.known |= {image.tobytes(): pair for image, *pair in zip(drawn.images, drawn.masks, drawn.factors, strict=True)}
    return EncoderArtifact(model.eval(), artifact.info, {})


def test_slots_that_are_the_factors_are_disentangled_and_informative(perfect: EncoderArtifact, scenes: FrameStore) -> None:
    numbers = check_judge(DCI(), perfect, scenes, DCIOptions(images=40, trees=15))
    assert numbers is not None
    assert (numbers["objects"], set(numbers["factors"]), numbers["left_out"]) == (120, {"x", "y", "shape", "color"}, ["visibility"])
    kinds = {name: one["kind"] for name, one in numbers["factors"].items()}
    assert kinds == {"x": "number", "y": "number", "shape": "class", "color": "class"}
    assert numbers["factors"]["x"]["informativeness"] > 0.95
    assert numbers["factors"]["color"]["informativeness"] == 1 > 3 * numbers["factors"]["color"]["chance"]
    # a colour is three numbers
    assert numbers["disentanglement"] > 0.9
    assert 0.6 < numbers["completeness"] < 0.95
    # a regression is never exactly the class
    assert numbers["reference"]["informativeness"] < 0.1
    json.dumps(numbers)


def test_factors_are_what_a_user_says(perfect: EncoderArtifact, scenes: FrameStore, tmp_path: Path) -> None:
    out = evaluation(perfect, scenes, tmp_path)
    words = ("x:number", "-", "-", "red:class", "-", "-", "-")
    options = DCIOptions(images=20, trees=3, factors=words)
    DCI().check(perfect, scenes, options, out)
    assert set(DCI().judge(perfect, scenes, options, out)["factors"]) == {"x", "red"}
    for wrong, message in ((words[:3], "3 words for 7 columns"), (("x:kind", *words[1:]), r"--dci.factors x:kind")):
        with pytest.raises(UserError, match=message):
            DCI().check(perfect, scenes, DCIOptions(factors=wrong), out)


def test_too_few_objects_with_a_slot_are_said(artifact: EncoderArtifact, scenes: FrameStore, capsys: pytest.CaptureFixture) -> None:
    numbers = check_judge(DCI(), artifact, scenes, DCIOptions(images=40, least_pixels=1000))
    assert numbers == {"objects": 0}
    assert "0 objects have a slot, 20 are needed" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (lambda: ObjectsOptions(images=0), r"--objects.images 0: must be 1 or more"),
        (lambda: ObjectsOptions(refinements=-1), r"--objects.refinements -1: must be 0 or more"),
        (lambda: SlotsOptions(steps=1), r"--slots.steps 1: must be 2 or more"),
        (lambda: DCIOptions(trees=0), r"--dci.trees 0: must be 1 or more"),
    ],
)
def test_options_that_cannot_be_are_one_line(options: Callable[[], Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        options()


def test_both_judges_count_the_same_blocks_as_one_thing() -> None:
    # written twice, so that --help needs no look at the blocks
    assert ObjectsOptions().blocks == THINGS
