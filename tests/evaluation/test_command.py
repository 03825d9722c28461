"""evaluate_encoder.py: which judges are asked, what is written, and every mistake in one line."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from encoders import StoreReference, make_encoder, prepare
from frames import FrameStore, sample_frames
from frames.storage.writer import store_writer

Command = Callable[..., int]
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def fitted(video_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of principal components, which need no training."""
    folder, store = tmp_path_factory.mktemp("pca"), FrameStore(video_store)
    reference = StoreReference(str(video_store), store.fingerprint, 20.0, "squash")
    prepare(make_encoder("pca", latent_dim=4), sample_frames(store, "train", 80, 0), folder, store=reference)
    return folder


@pytest.fixture
def run(fitted: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(fitted, tmp_path / "run"))


def judged(run: Path) -> dict:
    return json.loads((run / "evaluation.json").read_text())


def test_all_judges_that_apply_are_asked_and_the_next_command_is_named(
    command: Command, run: Path, video_store: Path, capsys: pytest.CaptureFixture
) -> None:
    assert command("evaluate_encoder.py", run, "--store", video_store, "--threads", 1) == 0
    printed, report = capsys.readouterr(), judged(run)
    assert set(report) == {
        *("split", "store", "fingerprint", "identity", "baseline_store", "encoder", "limit"),
        *("reconstruction", "memorisation", "clusters"),
    }
    for name in ("reconstruction", "memorisation"):
        assert report[name]["verdict"] in printed.out
    assert report["reconstruction"]["frames"] == len(FrameStore(video_store).indices(report["split"]))
    assert report["reconstruction"]["gain_db"] > 0
    assert len(report["reconstruction"]["kl_per_unit"]["mean"]) == 4
    assert report["reconstruction"]["mean_training_frame"].keys() == {"psnr_db", "mean_squared_error", "ssim"}
    pictures = {path.name for path in (run / "pictures").iterdir()}
    assert pictures == {"reconstructions.png", "samples.png", "traversals.png", "nearest_frames.png", "neighbours.png", "clusters.png"}
    assert all(name in printed.err for name in pictures)
    assert (
        "fid (give --fid.weights), probes (the store holds no state, actions or rewards to tell), value (it gives no value)" in printed.err
    )
    assert "open_loop (it does not predict frames), projector (give --projector.frames)" in printed.err
    assert "next: python train_agent.py" in printed.err


def test_a_judge_gives_the_same_numbers_alone_and_leaves_those_of_others(command: Command, run: Path, video_store: Path) -> None:
    assert command("evaluate_encoder.py", run, "--store", video_store, "--threads", 1) == 0
    everything = judged(run)
    assert command("evaluate_encoder.py", run, "--store", video_store, "--threads", 1, "--judges", "memorisation") == 0
    assert judged(run) == everything
    (run / "evaluation.json").unlink()
    assert command("evaluate_encoder.py", run, "--store", video_store, "--threads", 1, "--judges", "memorisation") == 0
    assert judged(run) == {name: value for name, value in everything.items() if name not in ("reconstruction", "clusters")}


def test_numbers_of_other_frames_do_not_stay_beside_new_ones(command: Command, run: Path, video_store: Path) -> None:
    short = ["evaluate_encoder.py", run, "--store", video_store, "--threads", 1, "--judges"]
    assert command(*short, "reconstruction", "--limit", 4) == 0
    assert judged(run)["reconstruction"]["frames"] == 4
    assert command(*short, "memorisation", "--split", "train") == 0
    assert "reconstruction" not in judged(run)
    (run / "evaluation.json").write_text("half a fi")
    assert command(*short, "reconstruction", "--limit", 4) == 0
    assert judged(run)["reconstruction"]["frames"] == 4


def test_a_baseline_from_another_store_than_the_training_store_is_said_to_be_one(
    command: Command, run: Path, video_store: Path, capsys: pytest.CaptureFixture
) -> None:
    info = json.loads((run / "encoder.json").read_text())
    info["store"]["fingerprint"] = "what was there before"
    (run / "encoder.json").write_text(json.dumps(info))
    assert command("evaluate_encoder.py", run, "--store", video_store, "--threads", 1, "--judges", "reconstruction") == 0
    assert "taking the mean training frame from" in capsys.readouterr().err


def in_other_splits(video_store: Path, path: Path) -> Path:
    """Write the same frames with every recording in val but one, which was there before."""
    store = FrameStore(video_store)
    with store_writer(path, store.meta["plan"], store.frame_shape) as writer:
        for one in store.episodes:
            frames = store.frames(np.arange(one.length) + one.first)
            writer.add(one.name, frames, source=one.source, frames_per_second=one.frames_per_second, origin=one.origin)
        before = next(one.name for one in store.episodes if one.split == "val")
        writer.finish(lambda names: {name: "train" if name == before else "val" for name in names}, {"resize": "squash", "left_out": []})
    assert FrameStore(path).fingerprint == store.fingerprint
    return path


def test_a_store_of_the_same_frames_in_other_splits_is_not_the_one_that_was_trained_on(
    command: Command, run: Path, video_store: Path, tmp_path: Path
) -> None:
    other = in_other_splits(video_store, tmp_path / "other")
    short = ["evaluate_encoder.py", run, "--threads", 1, "--judges"]
    assert command(*short, "memorisation", "--store", other) == 0
    # an encoder of before there were identities: by its frames alone
    assert judged(run)["baseline_store"] == str(other)
    info = json.loads((run / "encoder.json").read_text())
    info["store"]["identity"] = FrameStore(video_store).identity
    (run / "encoder.json").write_text(json.dumps(info))
    assert command(*short, "reconstruction", "--store", other) == 0
    assert judged(run)["baseline_store"] == str(video_store)
    assert command(*short, "memorisation", "--store", video_store) == 0
    assert judged(run)["baseline_store"] == str(video_store)
    # numbers of other splits do not stay beside new ones
    assert "reconstruction" not in judged(run)


def test_numbers_of_before_reports_told_the_identity_stay(command: Command, run: Path, video_store: Path) -> None:
    short = ["evaluate_encoder.py", run, "--store", video_store, "--threads", 1, "--judges"]
    assert command(*short, "reconstruction", "--limit", 4) == 0
    report = judged(run)
    del report["identity"]
    (run / "evaluation.json").write_text(json.dumps(report))
    assert command(*short, "memorisation", "--limit", 4) == 0
    assert {"reconstruction", "memorisation", "identity"} <= judged(run).keys()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--threads", -1], "--threads -1: must be 1 or more"),
        (["--limit", 0], "--limit 0: must be 1 or more"),
        (["--judges", "reconstructions"], "--judges reconstructions: did you mean 'reconstruction'?"),
        (["--judges", "open_loop", "fid"], "--judges fid: give --fid.weights; --judges open_loop: it does not predict frames"),
        (["--fid.images", 1], "--fid.images 1: must be 2 or more"),
        (["--fid.weights", "EMPTY"], "holds no inception.pth"),
        (["--likelihood.importance-samples", 0], "--likelihood.importance-samples 0: must be 1 or more"),
        (["--likelihood.importance-frames", -1], "--likelihood.importance-frames -1: must be 1 or more"),
        (["--hierarchy.temperatures", 0.7, 0], "--hierarchy.temperatures 0.7 0: give numbers greater than 0"),
        (["--hierarchy.temperatures", -1], "--hierarchy.temperatures -1: give numbers greater than 0"),
        (["--masks.blocks", "logs"], "--masks.blocks logs: did you mean 'log'?"),
        (["--probes.frames", 3], "--probes.frames 3: must be 100 or more"),
        (["--probes.above", 0], "--probes.above 0.0: must be greater than 0"),
        (["--projector.frames", 1], "--projector.frames 1: must be 2 or more"),
        (["--judges", "projector"], "--judges projector: give --projector.frames"),
        (["--fid-images", 10], "--fid-images is now --fid.images"),
        (["--temperatures", 1], "--temperatures is now --hierarchy.temperatures"),
        (["--importance-samples=3"], "--importance-samples is now --likelihood.importance-samples"),
    ],
)
def test_a_mistake_is_one_line_with_status_2_and_writes_nothing(
    command: Command, run: Path, video_store: Path, tmp_path: Path, capsys: pytest.CaptureFixture, options: list[object], said: str
) -> None:
    options = [tmp_path if option == "EMPTY" else option for option in options]
    assert command("evaluate_encoder.py", run, "--store", video_store, *options) == 2
    printed = capsys.readouterr().err.strip()
    assert printed.startswith("error: ")
    assert said in printed
    assert "\n" not in printed
    assert not (run / "evaluation.json").exists()


def test_a_folder_without_an_encoder_is_one_line(
    command: Command, video_store: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    assert command("evaluate_encoder.py", tmp_path / "NOWHERE", "--store", video_store) == 2
    assert re.fullmatch(r"error: .*NOWHERE/encoder\.json: .*\n", capsys.readouterr().err)


def test_an_encoder_that_generates_nothing_is_looked_at_and_told_what_would_say_more(
    command: Command, another_encoder: None, video_store: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    store = FrameStore(video_store)
    reference = StoreReference(str(video_store), store.fingerprint, 20.0, "squash")
    prepare(make_encoder("another"), sample_frames(store, "train", 8, 0), tmp_path / "run", store=reference)
    assert command("evaluate_encoder.py", tmp_path / "run", "--store", video_store, "--threads", 1) == 0
    printed = capsys.readouterr()
    assert "reconstruction (it does not reconstruct frames)" in printed.err
    assert "No judge of these gives a verdict: look at the pictures" in printed.out
    assert {path.name for path in (tmp_path / "run" / "pictures").iterdir()} == {"neighbours.png", "clusters.png"}


def test_help_names_every_option_without_importing_torch() -> None:
    code = "import sys; from evaluation.command import evaluate\n"
    code += "try: evaluate(['--help'])\n"
    code += "except SystemExit: print(sorted({'torch', 'cv2', 'lmdb', 'numpy', 'matplotlib'} & set(sys.modules)))"
    shown = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert shown.strip().endswith("[]")
    for option in ("--judges", "--open-loop.context", "--fid.weights", "--likelihood.importance-samples", "--hierarchy.temperatures"):
        assert option in shown


def test_the_guide_s_judge_is_installed_asked_and_shown(
    command: Command, run: Path, video_store: Path, install: Callable, capsys: pytest.CaptureFixture
) -> None:
    guide = (ROOT / "docs" / "encoders.md").read_text()
    source = next(block for block in re.findall(r"```python\n(.*?)```", guide, re.DOTALL) if "(Judge)" in block)
    group, entry = re.search(r'entry-points\."(minerl_perception\.judges)"\]\n(\w+ = "\S+")', guide).groups()  # type: ignore[union-attr]
    name, target = entry.replace('"', "").split(" = ")
    install(target.partition(":")[0], source, group, {name: target})
    assert command("evaluate_encoder.py", run, "--store", video_store, "--threads", 1, f"--{name}.clips", 3, "--judges", name) == 0
    found, printed = judged(run)[name], capsys.readouterr().out
    assert 0 < found["kept"] < 1
    assert found["kept"] == pytest.approx(found["reconstructions"] / found["frames"])
    assert f"{found['kept']:.0%} of the edges" in printed
    # by another way: the edges of the first, the middle and the last held-out frame
    store = FrameStore(video_store)
    indices = store.indices("val")[[0, 20, 39]]
    assert found["frames"] == pytest.approx(np.abs(np.diff(store.frames(indices) / 255.0, axis=2)).mean(), rel=1e-5)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("import nothing_like_it", "the package that adds the judge 'mine' cannot be imported: No module named 'nothing_like_it'"),
        ("class Mine: pass", "the entry point 'mine' of minerl_perception.judges is no subclass of evaluation.Judge with that name"),
    ],
)
def test_a_broken_package_is_named(command: Command, install: Callable, capsys: pytest.CaptureFixture, source: str, said: str) -> None:
    module = f"broken_{abs(hash(source))}"
    install(module, source, "minerl_perception.judges", {"mine": f"{module}:Mine"})
    assert command("evaluate_encoder.py", "RUN", "--store", "STORE") == 2
    assert said in capsys.readouterr().err
