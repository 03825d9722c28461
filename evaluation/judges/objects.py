"""Whether slots find the objects that are in pictures: adjusted Rand index, overlap, reconstruction and KL, beside k-means."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import encoders
from evaluation.judge import Judge, Numbers, at_least
from foundation.errors import UserError

if TYPE_CHECKING:
    from evaluation.evaluation import Evaluation
    from evaluation.slots import FrameSlots
    from frames import FrameStore

Metric = Literal["ari", "miou", "mse", "kl"]
_OF_MASKS = ("ari", "miou")
_SHOWN = {"ari": "foreground ARI", "miou": "mIoU", "mse": "MSE"}
_KMEANS = "k-means (colour, place)"


@dataclass(frozen=True)
class ObjectsOptions:
    images: int = 320
    """Frames to judge on, spread over the split."""
    metrics: tuple[Metric, ...] = ()
    """What to measure; by default all that the store allows: ari and miou need masks."""
    blocks: tuple[str, ...] = ("log", "leaves", "grass+dirt+stone+sand+bedrock", "cave", "sky")
    """Which kinds of block are one thing, by name or number, where the store says kinds of block; every other kind is one of its own."""
    refinements: int | None = None
    """Refinement steps; by default as many as the model was tested with."""

    def __post_init__(self) -> None:
        at_least("objects", self, images=1)
        # the default needs no look at the blocks: that would import numpy for --help
        if self.blocks != type(self).blocks:
            from evaluation.blocks import numbers_of

            numbers_of(self.blocks, "--objects.blocks")
        if self.refinements is not None:
            at_least("objects", self, refinements=0)


class Objects(Judge):
    """Foreground ARI, mIoU, MSE and KL of slots at every level, each with its deviation over images, beside k-means."""

    name = "objects"
    Options = ObjectsOptions

    def applies(self, model: encoders.Encoder, store: FrameStore) -> str | None:
        return None if isinstance(model, encoders.HasSlots) else "its latents are no slots"

    def check(self, artifact: encoders.EncoderArtifact, store: FrameStore, options: ObjectsOptions, out: Evaluation) -> None:
        from frames.scenes.masks import WITH_MASKS, mask_array

        asked = [metric for metric in options.metrics if metric in _OF_MASKS]
        if asked and mask_array(store, out.split) is None:
            raise UserError(f"--objects.metrics {asked[0]}: {store.path} has no masks of objects; {WITH_MASKS}")

    def judge(self, artifact: encoders.EncoderArtifact, store: FrameStore, options: ObjectsOptions, out: Evaluation) -> Numbers:
        from evaluation.blocks import numbers_of
        from evaluation.slots import slots_of
        from frames.scenes.masks import mask_array

        model = artifact.model
        assert isinstance(model, encoders.HasSlots)
        has_masks = mask_array(store, out.split) is not None
        metrics = options.metrics or (("ari", "miou", "mse", "kl") if has_masks else ("mse", "kl"))
        if not options.metrics and not has_masks:
            out.say(f"{store.path} has no masks of objects: no ARI and no mIoU")
        indices = out.spread_indices(options.images)
        measured = _Measured(metrics, store, numbers_of(options.blocks, "--objects.blocks"))
        with out.progress("finding slots", len(indices), "frames") as advance:
            for part in slots_of(model, store, indices, out.device, options.refinements):
                measured.add(part)
                advance(len(part.indices))
        numbers = measured.numbers()
        _show(numbers, out)
        if "ari" in metrics and (verdict := _verdict(numbers)):
            out.verdict(verdict)
            numbers["verdict"] = verdict
        return numbers


class _Measured:
    """What was measured of every frame, by row of the table."""

    def __init__(self, metrics: tuple[str, ...], store: FrameStore, things: list[list[int]]) -> None:
        self._metrics, self._store, self._things = metrics, store, things
        self._values: dict[str, dict[str, list[Any]]] = {}
        self._kl: list[Any] = []
        self._images = self._slots = 0

    def add(self, part: FrameSlots) -> None:
        """Measure some frames."""
        import numpy as np

        from evaluation.segments import clustered, painted
        from frames.scenes.masks import masks_at

        self._images += len(part.indices)
        self._slots = part.found.masks[-1].shape[1]
        masks = masks_at(self._store, part.indices, self._things) if set(self._metrics) & set(_OF_MASKS) else None
        for level, name in enumerate(part.levels):
            self._row(name, masks, part.labels(level), part.squared_error(level))
        clusters = clustered(part.frames, self._slots)
        self._row(_KMEANS, masks, clusters, np.square(painted(part.frames, clusters) - part.frames / 255).mean((1, 2, 3)))
        self._kl.append(part.found.kl.double().numpy())

    def _row(self, name: str, masks: Any, labels: Any, error: Any) -> None:
        from evaluation.segments import foreground_ari, mean_iou

        row = self._values.setdefault(name, {metric: [] for metric in _SHOWN if metric in self._metrics})
        if "ari" in row:
            row["ari"].append(foreground_ari(masks.labels, labels, masks.foreground))
        if "miou" in row:
            row["miou"].append(mean_iou(masks.objects, labels, self._slots))
        if "mse" in row:
            row["mse"].append(error)

    def numbers(self) -> Numbers:
        """Return means and deviations over frames, by level and for k-means."""
        rows = {name: {metric: one for metric, parts in row.items() if (one := _spread(parts))} for name, row in self._values.items()}
        control = rows.pop(_KMEANS)
        levels = [{"level": name, **row} for name, row in rows.items()]
        kl = {"kl_nats": _spread(self._kl)} if "kl" in self._metrics else {}
        return {"images": self._images, "slots": self._slots, "levels": levels, **kl, "kmeans": control}


def _spread(parts: list[Any]) -> dict[str, float]:
    """Return mean and deviation over frames, those left out of which nothing can be said; nothing where that is so of all."""
    import numpy as np

    values = np.concatenate(parts)
    values = values[np.isfinite(values)]
    return {"mean": float(values.mean()), "deviation": float(values.std())} if len(values) else {}


def _verdict(numbers: Numbers) -> str | None:
    final, control = numbers["levels"][-1], numbers["kmeans"]
    if "ari" not in final:
        return None
    found, clusters = final["ari"]["mean"], control["ari"]["mean"]
    beside = "above" if found > clusters else "not above"
    return f"Its slots find objects with a foreground ARI of {found:.3f}, {beside} the {clusters:.3f} of k-means on colour and position."


def _show(numbers: Numbers, out: Evaluation) -> None:
    named = [*((row["level"], row) for row in numbers["levels"]), (_KMEANS, numbers["kmeans"])]
    metrics = [metric for metric in _SHOWN if metric in numbers["kmeans"]]
    rows = [(name, *(_shown(row.get(metric)) for metric in metrics)) for name, row in named]
    out.table(
        f"{numbers['slots']} slots of {numbers['images']:,} frames of split '{out.split}', mean and deviation over frames",
        ("", *(_SHOWN[metric] for metric in metrics)),
        rows,
    )
    if "kl_nats" in numbers:
        out.say(f"KL of a frame's slots: {_shown(numbers['kl_nats'])} nats")


def _shown(one: dict[str, float] | None) -> str:
    return "" if one is None else f"{one['mean']:.4g} ± {one['deviation']:.2g}"
