"""evaluate_encoder.py with a model of clips: prediction, actions, frame rates, and every mistake before anything is computed."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

import frames
from encoders import StoreReference, make_encoder, prepare

Command = Callable[..., int]


def make_judged(store: Path, folder: Path, **hyperparameters: object) -> Path:
    """Make an encoder with fresh weights, to be judged."""
    torch.manual_seed(0)
    model = make_encoder("cwvae_debug", frame_shape=[16, 16, 3], encoder_kernels=[4, 4], decoder_kernels=[6, 6], **hyperparameters)
    opened = frames.FrameStore(store)
    seen = frames.sample_sequences(opened, "train", 100, 0)
    prepare(model, seen.frames, folder, store=StoreReference(str(store), opened.fingerprint, 20.0, "squash"), actions=seen.actions)
    return folder


@pytest.fixture(scope="module")
def trained(clip_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_judged(clip_store, tmp_path_factory.mktemp("trained"))


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    """A copy of the encoder that a test may write to."""
    (tmp_path / "run").mkdir()
    for name in ("encoder.json", "encoder.safetensors"):
        (tmp_path / "run" / name).write_bytes((trained / name).read_bytes())
    return tmp_path / "run"


def judging(run: Path, store: Path, *more: object) -> list[object]:
    """Return the words of a command; of `more`, those that are keywords of open_loop's begin with a colon."""
    words = [f"--open-loop.{word[1:]}" if isinstance(word, str) and word.startswith(":") else word for word in more]
    return ["evaluate_encoder.py", run, "--store", store, "--threads", 1, "--device", "cpu", *words]


def test_predictions_are_judged_in_numbers_tables_pictures_and_films(
    command: Command, clip_store: Path, run: Path, capsys: pytest.CaptureFixture
) -> None:
    options = [":context", 8, ":predict", 12, ":samples", 2, ":use-obs", "TTF", ":clips", 3]
    assert command(*judging(run, clip_store, *options)) == 0
    printed = capsys.readouterr()
    report = json.loads((run / "evaluation.json").read_text())
    reconstruction, open_loop = report["reconstruction"], report["open_loop"]
    # 5 whole clips of each of the two recordings
    assert reconstruction["frames"] == 80
    named = [f"{term}_{level}" for term in ("kl", "entropy_prior", "entropy_posterior") for level in range(3)]
    assert all(np.isfinite(reconstruction["terms"][name]) for name in named)
    assert reconstruction["terms"]["kl"] == pytest.approx(sum(reconstruction["terms"][f"kl_{level}"] for level in range(3)))
    assert [open_loop[key] for key in ("context", "horizon", "samples", "use_obs", "data_range")] == [8, 12, 2, "TTF", 1.0]
    assert set(open_loop["groups"]) == {"moving clips, 20 frames/s", "frozen clips, 20 frames/s"}
    assert sum(group["clips"] for group in open_loop["groups"].values()) == 3
    rows = open_loop["groups"]["moving clips, 20 frames/s"]["rows"]
    assert {"model", "best sample by PSNR", "best sample by SSIM", "repeat the last frame", "mean frame", "best blend of both"} <= set(rows)
    assert all(len(curve) == 12 for row in rows.values() for curve in row["curves"].values())
    assert "Open loop after 8 frames" in printed.out
    assert "left out: hierarchy (its latents have no groups), " in printed.err
    pictures = {path.name for path in (run / "pictures").iterdir()}
    assert {"open_loop_curves.png", "open_loop_0.png", "open_loop_0.gif", "open_loop_2.gif", "reconstructions.png"} <= pictures


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ([":context", 6], r"a context of 6 frames (open_loop_ctx) must be divisible by factor^(levels-1) = 4"),
        ([":context", 8, ":use-obs", "TT"], "use_obs names 2 levels, the model has 3"),
        ([":context", 8, ":use-obs", "TXF"], "a T or an F for every level"),
        ([":context", 48], "no recording in 'test' is longer than the context of 48 frames; lower --open-loop.context"),
        ([":context", 8, ":samples", 0], "--open-loop.samples 0: must be 1 or more"),
        ([":context", 8, ":weights", "nowhere"], "--open-loop.weights nowhere: is no folder"),
        (["--judges", "hierarchy"], "--judges hierarchy: its latents have no groups"),
        (["--judges", "memorisation"], "--judges memorisation: its samples are clips, not frames"),
        (
            ["--context", 8, "--use_obs", "TTF", "--perceptual=x"],
            "--context is now --open-loop.context; --use-obs is now --open-loop.use-obs; "
            "--perceptual is now --open-loop.weights (LPIPS, FVD) and --fid.weights",
        ),
    ],
)
def test_a_mistake_is_one_line_before_anything_is_computed(
    command: Command, clip_store: Path, run: Path, capsys: pytest.CaptureFixture, options: list[object], said: str
) -> None:
    assert command(*judging(run, clip_store, *options)) == 2
    printed = capsys.readouterr().err.strip()
    assert printed.startswith("error: ")
    assert "\n" not in printed
    assert said in printed
    assert not (run / "evaluation.json").exists()
    assert not (run / "pictures").exists()


def test_frames_of_another_rate_are_told(command: Command, clip_store: Path, run: Path, capsys: pytest.CaptureFixture) -> None:
    info = json.loads((run / "encoder.json").read_text())
    info["store"]["frames_per_second"] = 30.0
    (run / "encoder.json").write_text(json.dumps(info))
    assert command(*judging(run, clip_store, "--judges", "open_loop", ":context", 8, ":predict", 4)) == 0
    assert "gives 20 frames/s, the encoder was trained at 30; judged at 20" in capsys.readouterr().err


def test_actions_reach_everything_a_model_is_judged_by(
    command: Command, action_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_judged(action_store, tmp_path / "run", action_size=2)
    recorded, reports = frames.FrameStore.action_windows, []
    for share in (1, 0):
        monkeypatch.setattr(frames.FrameStore, "action_windows", lambda *chosen, share=share: recorded(*chosen) * np.float32(share))
        assert command(*judging(run, action_store, ":context", 8, ":predict", 12)) == 0
        reports.append(json.loads((run / "evaluation.json").read_text()))
    heard, deaf = (report["reconstruction"] for report in reports)
    for part in ("terms", "psnr_db", "kl_per_unit"):
        assert heard[part] != deaf[part]
    rows, without = (report["open_loop"]["groups"]["moving clips, 20 frames/s"]["rows"] for report in reports)
    assert rows["mean frame"] == without["mean frame"]
    assert rows["model"] != without["model"]
