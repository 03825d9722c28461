"""How well masks mark the blocks that pay: IoU with recorded segmentation beside masks that know less, and pictures of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import encoders
from evaluation.judge import Judge, Numbers, at_least
from foundation.errors import UserError

if TYPE_CHECKING:
    import numpy as np

    from evaluation.evaluation import Evaluation
    from evaluation.masked import Masked
    from frames import FrameStore
    from frames.labels import Labels

_SHOWN = 40
_UNSCORED_THRESHOLD = 0.5
_ROWS = {
    "mask": "mask",
    "saliency": "saliency |dV/dx|",
    "full": "everything",
    "disc": "a centred disc",
}


@dataclass(frozen=True)
class MasksOptions:
    blocks: tuple[str, ...] = ("log",)
    """What masks are to mark: kinds of block by name, or by number in recordings of other worlds."""
    frames: int = 2000
    """Frames to choose thresholds on, and as many to score, spread over the recordings of each half."""
    film: int = 120
    """Frames of the film; 0 for none."""
    grabcut: int = 0
    """Refine the masks of so many frames by GrabCut, and score both on these; 0 for none."""

    def __post_init__(self) -> None:
        at_least("masks", self, frames=10, film=0, grabcut=0)
        # the default needs no look at the blocks: that would import numpy for --help
        if self.blocks != type(self).blocks:
            from evaluation.blocks import numbers_of

            numbers_of(self.blocks, "--masks.blocks")


class Masks(Judge):
    """IoU of masks with recorded blocks at every threshold, beside saliency, everything and a centred disc; pictures, swaps, a film."""

    name = "masks"
    Options = MasksOptions

    def applies(self, model: encoders.Encoder, store: FrameStore) -> str | None:
        from evaluation.sampled import lacks_recordings

        if not isinstance(model, encoders.GivesMasks):
            return "it gives no masks"
        return None if _recorded(store) is None else lacks_recordings(store)

    def judge(self, artifact: encoders.EncoderArtifact, store: FrameStore, options: MasksOptions, out: Evaluation) -> Numbers:
        from evaluation.masked import masked
        from evaluation.sampled import halves, sampled

        labels = _recorded(store)
        if labels is None:
            out.verdict(f"{store.path} holds no segmentation: look at {out.pictures / 'masks.png'}, no number says what the masks mark.")
            seen = sampled(store, store.of_split(out.split), artifact.model, out.stride(store), options.frames)
            return _pictures(artifact.model, store, masked(artifact.model, seen, out), None, {}, options, out)
        shared = halves(store, out.split)
        parts = [sampled(store, half, artifact.model, out.stride(store), options.frames) for half in (shared.first, shared.second)]
        found = [masked(artifact.model, part, out) for part in parts]
        truth = [_truth(labels, part.indices, options.blocks) for part in parts]
        numbers = _scores(found, truth, [store.frames(part.indices) for part in parts], options)
        _show(numbers, out)
        if shared.note:
            out.say(f"masks: {shared.note}")
        return numbers | _pictures(artifact.model, store, found[1], labels, numbers, options, out)


def _recorded(store: FrameStore) -> Labels | None:
    """Return what tells the blocks of a store's frames, or None where nothing does."""
    from frames.labels import Labels

    try:
        return Labels(store, {"segmentation": {}})
    except UserError:
        return None


def _truth(labels: Any, indices: np.ndarray, blocks: tuple[str, ...]) -> np.ndarray:
    """Return where the frames show these blocks, bool (M, H, W)."""
    import numpy as np

    from evaluation.blocks import numbers_of

    return np.isin(labels.at(indices)["segmentation"][:, 0], [number for one in numbers_of(blocks, "--masks.blocks") for number in one])


def _scores(found: list[Masked], truth: list[np.ndarray], frames: list[np.ndarray], options: MasksOptions) -> dict[str, Any]:
    """Choose every row's threshold on the first half, and score it on the second."""
    import numpy as np

    from evaluation.mask_scores import THRESHOLDS, Overlap, disc_radius, discs, grabcut, iou

    shape = truth[0].shape[1:]
    kinds = {"mask": [one.masks for one in found]}
    if found[0].saliency is not None and found[1].saliency is not None:
        kinds["saliency"] = [found[0].saliency, found[1].saliency]
    kinds["disc"] = [np.broadcast_to(discs(shape), one.shape) for one in truth]
    rows: dict[str, dict[str, float]] = {}
    curves = {}
    for name, masks in kinds.items():
        overlaps = [Overlap(), Overlap()]
        for overlap, one, true in zip(overlaps, masks, truth, strict=True):
            overlap.add(one, true)
        best = int(np.argmax(overlaps[0].iou))
        right, marked = int(overlaps[1].right[best]), max(1, int(overlaps[1].marked[best]))
        rows[name] = {
            "iou": float(overlaps[1].iou[best]),
            "threshold": float(THRESHOLDS[best]),
            "precision": right / marked,
            "recall": right / max(1, overlaps[1].true),
        }
        both = Overlap(overlaps[0].marked + overlaps[1].marked, overlaps[0].right + overlaps[1].right, sum(one.true for one in overlaps))
        curves[name] = both.iou.round(4).tolist()
    rows["disc"]["radius"] = disc_radius(shape, rows["disc"]["threshold"])
    rows["full"] = {"iou": float(truth[1].mean()), "precision": float(truth[1].mean()), "recall": float(truth[1].any())}
    numbers: dict[str, Any] = {
        "blocks": list(options.blocks),
        "frames": [len(one) for one in truth],
        "share": float(np.mean([one.mean() for one in truth])),
        "rows": rows,
        "thresholds": THRESHOLDS.tolist(),
        "iou": {name: curve for name, curve in curves.items() if name != "disc"},
    }
    if options.grabcut:
        chosen = np.unique(np.linspace(0, len(truth[1]) - 1, options.grabcut).round().astype(int))
        masks, threshold = found[1].masks[chosen], rows["mask"]["threshold"]
        refined = np.stack(list(grabcut(frames[1][chosen], masks, threshold)))
        plain = iou(masks >= threshold, truth[1][chosen])
        numbers["grabcut"] = {"frames": len(chosen), "iou": iou(refined, truth[1][chosen]), "iou_without": plain}
    return numbers


def _pictures(
    model: encoders.Encoder,
    store: FrameStore,
    found: Masked,
    labels: Any,
    numbers: dict[str, Any],
    options: MasksOptions,
    out: Evaluation,
) -> dict[str, Any]:
    """Write the contact sheet, the film and, for a model that values frames, swaps; return what values swapping gave."""
    import numpy as np

    from encoders.heads import value_giver
    from evaluation.mask_pictures import contact_sheet, film, swaps
    from evaluation.masked import masked, single_frames
    from foundation.videos import write_video

    frames = store.frames(found.indices)
    shown = np.unique(np.linspace(0, len(frames) - 1, _SHOWN).round().astype(int))
    out.picture("masks", contact_sheet(frames[shown], found.masks[shown], None if found.value is None else found.value[shown]))
    swapped = {}
    giver = value_giver(model)
    if giver is not None and found.value is not None:
        picture, values = swaps(model, giver, frames, found.value, out.device)
        out.picture("mask_swaps", picture)
        swapped = {"swaps": values}
    if options.film and not model.initial_state(1):
        truth = None if labels is None else _truth(labels, found.indices, options.blocks)
        most = np.argmax(found.masks.mean((1, 2)) if truth is None else truth.mean((1, 2)))
        filmed = single_frames(store, _around(store, int(found.indices[most]), options.film), out)
        threshold = numbers["rows"]["mask"]["threshold"] if numbers else _UNSCORED_THRESHOLD
        seen = masked(model, filmed, out)
        true = None if labels is None else _truth(labels, filmed.indices, options.blocks)
        out.pictures.mkdir(parents=True, exist_ok=True)
        rate = store.episode_at(int(filmed.indices[0])).frames_per_second
        write_video(out.pictures / "masks.mp4", film(store.frames(filmed.indices), seen, true, threshold), rate)
        out.wrote(out.pictures / "masks.mp4")
    return swapped


def _around(store: FrameStore, index: int, count: int) -> np.ndarray:
    """Return `count` frames of a recording, or all, with this one in the middle if it can be: int64 (M,)."""
    import numpy as np

    episode = store.episode_at(index)
    count = min(count, episode.length)
    first = min(max(index - count // 2, episode.first), episode.first + episode.length - count)
    return np.arange(first, first + count)


def _show(numbers: dict[str, Any], out: Evaluation) -> None:
    rows = []
    for name, row in numbers["rows"].items():
        chosen = f"{row['threshold']:g}" if "threshold" in row else ""
        chosen = f"radius {row['radius']:.0f}" if "radius" in row else chosen
        rows.append((_ROWS[name], f"{row['iou']:.3f}", chosen, f"{row['precision']:.2f}", f"{row['recall']:.2f}"))
    (chosen_on, scored), blocks = numbers["frames"], ", ".join(numbers["blocks"])
    title = f"Masks beside recorded blocks ({blocks}: {numbers['share']:.1%} of pixels): {scored:,} frames"
    out.table(f"{title}, thresholds chosen on {chosen_on:,} of other recordings", ("", "IoU", "from", "precision", "recall"), rows)
    if "grabcut" in numbers:
        refined = numbers["grabcut"]
        out.say(f"GrabCut on {refined['frames']:,} of them: IoU {refined['iou']:.3f}, without it {refined['iou_without']:.3f}")
    rivals = {name: row["iou"] for name, row in numbers["rows"].items() if name != "mask"}
    said = ", ".join(f"{_ROWS[name]} {value:.3f}" for name, value in rivals.items())
    out.verdict(f"Its masks overlap with {blocks} by an IoU of {numbers['rows']['mask']['iou']:.3f} ({said}).")
