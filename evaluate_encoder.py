"""An encoder + a frame store -> numbers, pictures, a verdict: python evaluate_encoder.py RUN --store STORE"""

import itertools
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
import tyro

import frames
from encoders import EncoderArtifact, load_encoder
from encoders.artifact import check_source, drawn_rows
from encoders.encoder import to_float
from encoders.nvae import NVAE
from encoders.training.devices import available_threads, check_threads, choose_device
from encoders.training.pictures import REESTIMATION_BATCHES, spread_clips, tempered_samples, to_uint8, write_pictures
from evaluation.histogram import Histogram
from evaluation.inception import RECOMMENDED_IMAGES, frechet_inception_distances, warn_of_few
from evaluation.judges.hierarchy import judge_groups, judge_likelihood
from evaluation.judges.memorisation import memorisation_report, nearest_frames, neighbours_picture
from evaluation.judges.open_loop import judge_predictions
from evaluation.judges.reconstruction import evaluate, mean_frame
from evaluation.open_loop import Clips, Settings, check_settings
from evaluation.perceptual import has_weights
from evaluation.tables import show
from foundation.command import run
from foundation.errors import UserError
from foundation.files import write_atomically
from foundation.pictures import write_png
from foundation.presets import parse
from foundation.progress import Advance, progress_bar, say

_BATCH_FRAMES = 400
_CHUNK = 2048
_PICTURED = 120
_PREDICTED_TOGETHER = 4
_SEARCHED = 65_536
_COMPARED = 64


@dataclass(frozen=True)
class Options:
    run: Annotated[Path, tyro.conf.Positional]
    """The encoder's folder."""
    store: Path
    """The frame store to judge it on."""
    split: Literal["auto", "train", "val", "test"] = "auto"
    """Recordings to judge it on; auto: `test`, or `val` where there is no `test`."""
    limit: int | None = None
    """Judge on this many frames, spread over the split, rather than all."""
    context: int = 36
    """Models that predict: frames that they see of a clip before they go on alone."""
    predict: int = 464
    """Models that predict: frames that they predict; fewer where no recording is that long."""
    clips: int = 100
    """Models that predict: clips to judge, at most, spread over the split."""
    samples: int = 1
    """Models that predict: futures drawn of each clip; with several, the best of them is reported too."""
    use_obs: str | None = None
    """Models that predict: which levels see the context, the bottom one first: TTF leaves out the top of three."""
    perceptual: Path | None = None
    """A folder with weights; models that predict: for LPIPS (alexnet.pth, lpips.pth) or FVD (i3d.pth); others: for FID (inception.pth)."""
    fid_images: int = RECOMMENDED_IMAGES
    """Images of each kind that FID is computed from; fewer where a store has fewer frames."""
    importance_samples: int = 10
    """NVAE: draws a frame of the importance-weighted bound on the likelihood."""
    importance_frames: int = 64
    """NVAE: frames of that bound, spread over the split; each costs as many passes as there are draws."""
    temperatures: tuple[float, ...] = (0.6, 0.7, 0.8, 0.9, 1.0)
    """NVAE: temperatures at which samples are drawn for the picture."""
    device: str = "auto"
    threads: int | None = None

    def __post_init__(self) -> None:
        least = {"context": 1, "predict": 1, "clips": 1, "samples": 1, "importance_samples": 1, "importance_frames": 1, "fid_images": 2}
        for name, minimum in least.items():
            if getattr(self, name) < minimum:
                raise UserError(f"--{name.replace('_', '-')} {getattr(self, name)}: must be {minimum} or more")
        if not self.temperatures or not all(0 < temperature < float("inf") for temperature in self.temperatures):
            given = " ".join(f"{temperature:g}" for temperature in self.temperatures)
            raise UserError(f"--temperatures {given}: give numbers greater than 0".replace("  ", " "))


@dataclass(frozen=True)
class Planned:
    """What is to be predicted: `count` clips of a split, read anew at each call, and the training clips that baselines are fitted on."""

    settings: Settings
    count: int
    held_out: Callable[[Advance], Iterator[Clips]]
    training: Callable[[], Iterator[Clips]]


def main() -> None:
    options = parse(Options, "Judge an encoder on recordings it has not seen, beside the mean training frame.")
    check_threads(options.threads)
    if options.limit is not None and options.limit < 1:
        raise UserError(f"--limit {options.limit}: must be 1 or more")
    torch.set_num_threads(options.threads or available_threads())
    device = choose_device(options.device)
    artifact = load_encoder(options.run)
    store = frames.FrameStore(options.store)
    remedy = "name a store built like the one it was trained on"
    check_source(artifact.model, options.store, store.frame_shape, store.action_size, remedy)
    split = options.split if options.split != "auto" else "test" if len(store.indices("test")) else "val"
    baseline_store = training_store(artifact, store)
    is_image_model = artifact.model.clip_length == 1
    if options.perceptual is not None and is_image_model and not has_weights(options.perceptual, "inception"):
        raise UserError(f"{options.perceptual}: holds no inception.pth or inception.safetensors (FID), see docs/encoders.md")
    planned = plan(artifact, store, split, baseline_store, options) if hasattr(artifact.model, "open_loop") else None
    report = {"split": split, "store": str(options.store), "fingerprint": store.fingerprint, "baseline_store": str(baseline_store.path)}
    bits = artifact.model.discrete_bits
    histogram = None if bits is None else Histogram(store.frame_shape[2], bits)
    training = chunks(baseline_store, baseline_store.indices("train"))
    baseline = mean_frame(training if histogram is None else histogram.counting(training))
    report |= evaluate(artifact, counted(store, split, artifact, options.limit), baseline, device, histogram)
    clip_length = artifact.model.clip_length
    pictured = frames.in_order(store, split, batch_size(clip_length), clip_length, _PICTURED, stride=stride_of(artifact, store))
    clips = spread_clips(pictured)
    pictures = write_pictures(options.run / "pictures", artifact.model, clips, artifact.statistics, device)
    if isinstance(artifact.model, NVAE):
        pictures += judge_hierarchy(artifact.model, store, split, options, device, report)
    if is_image_model:
        pictures += compare_with_training(artifact, store, split, baseline_store, options, device, report)
    if planned is not None:
        report["open_loop"], more = predict(artifact, planned, baseline, options)
        pictures += more
    write_atomically(options.run / "evaluation.json", json.dumps(report, indent=2) + "\n")
    show(report)
    say(f"wrote {options.run / 'evaluation.json'} and {', '.join(str(path) for path in pictures)}")
    say(f"next: python train_agent.py voxel_treechop --encoder {options.run} --run RUN2")


def training_store(artifact: EncoderArtifact, store: frames.FrameStore) -> frames.FrameStore:
    """Open the store that the encoder was trained on, if it is still there with the same content; else return `store`."""
    reference = artifact.info.store
    if store.fingerprint == reference.fingerprint:
        return store
    try:
        trained_on = frames.FrameStore(reference.path)
        if trained_on.fingerprint == reference.fingerprint:
            return trained_on
    except UserError:
        pass
    if not len(store.indices("train")):
        raise UserError(
            f"{reference.path}: the training store is not there any more, and {store.path} has no training frames to compare with; "
            "put the training store back, or name a store with a train split"
        )
    say(f"{reference.path}: the training store is not there any more; the mean training frame is taken from {store.path}")
    return store


def chunks(store: frames.FrameStore, indices: np.ndarray, size: int = _CHUNK) -> Iterator[np.ndarray]:
    return (store.frames(indices[start : start + size]) for start in range(0, len(indices), size))


def spread(store: frames.FrameStore, split: str, count: int) -> np.ndarray:
    """Return the indices of at most `count` frames of a split, evenly spread."""
    indices = store.indices(split)
    return indices[np.linspace(0, len(indices) - 1, min(count, len(indices))).round().astype(int)]


def judge_hierarchy(
    model: NVAE, store: frames.FrameStore, split: str, options: Options, device: torch.device, report: dict[str, Any]
) -> list[Path]:
    """Add to the report what the groups of latents carry and a tighter bound; write samples at several temperatures."""
    report["latent_groups"] = judge_groups(model, np.array(report["kl_per_unit"]["pooled"]))
    chosen = store.frames(spread(store, split, options.importance_frames))
    with progress_bar("bounding the likelihood", len(chosen), "frames") as advance:
        report["importance_weighted"] = judge_likelihood(model, chosen, options.importance_samples, device, advance)
    path = options.run / "pictures" / "temperatures.png"
    with progress_bar("sampling", 2 * len(options.temperatures), "rows") as advance:
        write_png(path, tempered_samples(model, options.temperatures, advance))
    return [path]


def compare_with_training(
    artifact: EncoderArtifact,
    store: frames.FrameStore,
    split: str,
    training: frames.FrameStore,
    options: Options,
    device: torch.device,
    report: dict[str, Any],
) -> list[Path]:
    """Add to the report how near samples come to training frames, and FID where there are weights; write the nearest frames."""
    indices = training.indices("train")
    searched = indices[drawn_rows(len(indices), _SEARCHED, seed=0)]
    torch.manual_seed(0)
    drawn = to_uint8(next(samples_of(artifact.model, _COMPARED))[:, 0])
    held_out = store.frames(spread(store, split, _COMPARED))
    both = nearest_frames(np.concatenate([drawn, held_out]), chunks(training, searched))
    samples, others = both[:_COMPARED], both[_COMPARED:]
    report["memorisation"] = memorisation_report(samples, others, len(searched))
    path = options.run / "pictures" / "nearest_frames.png"
    write_png(path, neighbours_picture(samples, others))
    if options.perceptual is not None:
        report["fid"] = fid(artifact.model, store, split, training, options, device)
    return [path]


def fid(
    model: Any, store: frames.FrameStore, split: str, training: frames.FrameStore, options: Options, device: torch.device
) -> dict[str, Any]:
    """Return the FID of samples, and of held-out frames, to training frames."""
    assert options.perceptual is not None
    images = min(options.fid_images, len(training.indices("train")), len(store.indices(split)))
    warn_of_few(images)
    torch.manual_seed(0)
    sets = {
        "samples": (drawn[:, 0] for drawn in samples_of(model, images)),
        f"held-out frames ({split})": as_floats(store, spread(store, split, images)),
    }
    if isinstance(model, NVAE):
        sets["samples, batch statistics estimated anew"] = (drawn[:, 0] for drawn in samples_of(model, images, anew=True))
    with progress_bar("computing FID", (len(sets) + 1) * images, "images") as advance:
        reference = as_floats(training, spread(training, "train", images))
        return {"images": images, "distances": frechet_inception_distances(options.perceptual, reference, sets, device, advance)}


@torch.no_grad()
def samples_of(model: Any, count: int, anew: bool = False) -> Iterator[torch.Tensor]:
    """Draw `count` frames (N, 1, C, H, W) in [0, 1], a chunk at a time; `anew`: with batch statistics of generated frames."""
    before = model.reestimate_batch_norm(iterations=REESTIMATION_BATCHES) if anew else {}
    for start in range(0, count, _COMPARED):
        yield model.sample(min(_COMPARED, count - start))
    model.load_state_dict(before, strict=False)


def as_floats(store: frames.FrameStore, indices: np.ndarray) -> Iterator[torch.Tensor]:
    return (to_float(torch.from_numpy(chunk)) for chunk in chunks(store, indices, _COMPARED))


def counted(store: frames.FrameStore, split: str, artifact: EncoderArtifact, limit: int | None) -> Iterator[frames.FrameBatch]:
    """Return a split's frames, or clips for models with memory, with a progress bar."""
    length, stride = artifact.model.clip_length, stride_of(artifact, store)
    total = len(frames.side_by_side(store, split, length, stride))
    total = total if limit is None else min(total, max(1, limit // length))
    with progress_bar(f"evaluating on {split}", total * length, "frames") as advance:
        for batch in frames.in_order(store, split, batch_size(length), length, total, stride=stride):
            yield batch
            advance(len(batch.frames) * length)


def batch_size(clip_length: int) -> int:
    """Return how many clips fit into memory together."""
    return max(1, _BATCH_FRAMES // clip_length)


def stride_of(artifact: EncoderArtifact, store: frames.FrameStore) -> int:
    """Return how many recorded frames lie between two frames of a clip, at the rate the encoder was trained at."""
    return max(1, round(store.frames_per_second / artifact.info.frames_per_second))


def plan(artifact: EncoderArtifact, store: frames.FrameStore, split: str, training: frames.FrameStore, options: Options) -> Planned:
    """Choose the clips to predict, with baselines from the `training` store; raise `UserError` for what cannot be predicted."""
    settings = Settings(options.context, options.samples, options.use_obs)
    check_settings(artifact.model, settings, artifact.model.frame_shape)  # type: ignore[arg-type]
    if options.perceptual is not None and not options.perceptual.is_dir():
        raise UserError(f"--perceptual {options.perceptual}: is no folder")
    stride = stride_of(artifact, store)
    rate = store.frames_per_second / stride
    if abs(rate - artifact.info.frames_per_second) > 1e-6:
        say(f"{store.path}: gives {rate:g} frames/s, the encoder was trained at {artifact.info.frames_per_second:g}; judged at {rate:g}")
    length = predicted_length(store, split, stride, options)
    starts = frames.side_by_side(store, split, length, stride)
    chosen = starts[np.linspace(0, len(starts) - 1, min(options.clips, len(starts))).round().astype(int)]
    fitting = stride_of(artifact, training)
    fitted_on = frames.side_by_side(training, "train", length, fitting)
    if not len(fitted_on):
        raise UserError(f"{training.path}: no training recording has {length} frames to fit the baselines on; lower --predict")
    return Planned(
        settings,
        len(chosen),
        lambda advance: clips_of(store, chosen, length, stride, advance),
        lambda: clips_of(training, fitted_on, length, fitting),
    )


def predict(artifact: EncoderArtifact, planned: Planned, baseline: np.ndarray, options: Options) -> tuple[dict[str, Any], list[Path]]:
    """Judge what the model predicts."""
    # once for the scores, once for the pictures, and once more for the distances that need weights
    passes = 2 if options.perceptual is None else 3
    with progress_bar("predicting", planned.count * passes, "clips") as advance:
        return judge_predictions(
            options.run / "pictures",
            artifact.model,
            planned.training(),
            lambda: planned.held_out(advance),
            planned.settings,
            baseline,
            choose_device(options.device),
            options.perceptual,
        )


def predicted_length(store: frames.FrameStore, split: str, stride: int, options: Options) -> int:
    """Return how many frames a clip has, context included; say which recordings are too short for it.

    Where no recording is as long as was asked for, as many frames as half of the recordings have.
    """
    wanted = options.context + options.predict
    lengths = sorted(((episode.length - 1) // stride + 1 for episode in store.of_split(split) if episode.ordered), reverse=True)
    longer = [length for length in lengths if length > options.context]
    if not longer:
        raise UserError(f"{store.path}: no recording in '{split}' is longer than the context of {options.context} frames; lower --context")
    length = wanted
    if longer[0] < wanted:
        length = longer[len(longer) // 2]
        say(f"no recording in '{split}' has {wanted} frames, half of them have {length}: {length - options.context} are predicted")
    short = sum(one < length for one in lengths)
    if short:
        say(f"{short} of {len(lengths)} recordings in '{split}' are shorter than {length} frames: nothing is predicted of them")
    return length


def clips_of(
    store: frames.FrameStore, starts: np.ndarray, length: int, stride: int, advance: Advance | None = None
) -> Iterator[Clips]:
    """Read clips, a few of one recording at a time."""
    for _, group in itertools.groupby(starts.tolist(), lambda start: store.episode_at(start).first):
        of_one = list(group)
        for at in range(0, len(of_one), _PREDICTED_TOGETHER):
            some = of_one[at : at + _PREDICTED_TOGETHER]
            rate = store.episode_at(some[0]).frames_per_second / stride
            yield Clips(store.windows(some, length, stride), rate, store.action_windows(some, length, stride))
            if advance is not None:
                advance(len(some))


if __name__ == "__main__":
    run(main)
