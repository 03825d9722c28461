"""Whether each number of a slot tells one thing of its object: disentanglement, completeness, informativeness."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import encoders
from evaluation.judge import Judge, Numbers, at_least

if TYPE_CHECKING:
    import numpy as np

    from evaluation.dci import Target
    from evaluation.evaluation import Evaluation
    from frames import FrameStore
    from frames.scenes.factors import Factor

_FEWEST_OBJECTS = 20
_FACTORS_OPTION = "--dci.factors"
_WHAT_THE_REFERENCE_IS = "every factor by a regressor, classes too; informativeness is how often its output is exactly the factor's value"


@dataclass(frozen=True)
class DCIOptions:
    images: int = 320
    """Frames whose objects are judged, spread over the split."""
    trees: int = 100
    """Boosting steps for each factor."""
    factors: tuple[str, ...] = ()
    """What each column of observation.factors is: NAME:class, NAME:number, NAME:360 (an angle), or - (left out); default: as stored."""
    least_pixels: int = 50
    """Objects of which fewer pixels are seen are left out."""
    least_overlap: float = 0.1
    """And those that no slot covers with at least this intersection over union."""
    refinements: int | None = None
    """Refinement steps; by default as many as the model was tested with."""

    def __post_init__(self) -> None:
        at_least("dci", self, images=2, trees=1, least_pixels=1, least_overlap=0)
        if self.refinements is not None:
            at_least("dci", self, refinements=0)


class DCI(Judge):
    """D, C and I of slots' means: classes by a classifier, numbers by a regressor; beside what the published figures compute."""

    name = "dci"
    Options = DCIOptions

    def applies(self, model: encoders.Encoder, store: FrameStore) -> str | None:
        from frames.scenes.factors import has_factors
        from frames.scenes.masks import mask_array
        from frames.storage.format import MASKS

        if not isinstance(model, encoders.HasSlots):
            return "its latents are no slots"
        whole = mask_array(store) == MASKS and has_factors(store)
        return None if whole else "the store has no masks and factors of objects"

    def check(self, artifact: encoders.EncoderArtifact, store: FrameStore, options: DCIOptions, out: Evaluation) -> None:
        from frames.scenes.factors import FACTORS, told_factors

        if options.factors:
            told_factors(options.factors, store.episodes[0].arrays[FACTORS].shape[-1], _FACTORS_OPTION)

    def judge(self, artifact: encoders.EncoderArtifact, store: FrameStore, options: DCIOptions, out: Evaluation) -> Numbers:
        from evaluation.dci import judged

        assert isinstance(artifact.model, encoders.HasSlots)
        codes, values, images = _objects(artifact.model, store, options, out)
        if len(codes) < _FEWEST_OBJECTS:
            out.say(f"dci: {len(codes)} objects have a slot, {_FEWEST_OBJECTS} are needed; train longer, or give more --dci.images")
            return {"objects": len(codes)}
        targets = _targets(_factors(store, options, values, out), values)
        with out.progress("fitting trees", 2 * len(targets), "factors") as advance:
            numbers = {"objects": len(codes), **judged(codes, targets, images, options.trees, advance)}
        if "reference" not in numbers:
            out.say(f"dci: no factor varies among the objects; say what the factors are with {_FACTORS_OPTION}")
            return numbers
        numbers["reference"]["what"] = _WHAT_THE_REFERENCE_IS
        _show(numbers, out)
        return numbers


def _objects(model: Any, store: FrameStore, options: DCIOptions, out: Evaluation) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return for every object that a slot covers the slot's mean (N, D), the object's factors (N, F) and its frame's number (N,)."""
    import numpy as np

    from evaluation.segments import best_pairs, overlaps
    from evaluation.slots import slots_of
    from frames.scenes.factors import factors_at
    from frames.scenes.masks import masks_at

    codes, values, images = [], [], []
    indices = out.spread_indices(options.images)
    with out.progress("finding slots", len(indices), "frames") as advance:
        for part in slots_of(model, store, indices, out.device, options.refinements):
            # the background is no object
            masks, factors = masks_at(store, part.indices).objects, factors_at(store, part.indices)[:, 1:]
            means, labels = part.found.means.numpy(), part.labels(-1)
            for row, index in enumerate(part.indices.tolist()):
                seen = np.flatnonzero(masks[row].sum((1, 2)) >= options.least_pixels)
                iou = overlaps(masks[row, seen], labels[row], means.shape[1])
                for place, slot in best_pairs(iou):
                    if iou[place, slot] >= options.least_overlap:
                        codes.append(means[row, slot])
                        values.append(factors[row, seen[place]])
                        images.append(index)
            advance(len(part.indices))
    return np.array(codes), np.array(values), np.array(images)


def _factors(store: FrameStore, options: DCIOptions, values: np.ndarray, out: Evaluation) -> list[Factor]:
    from frames.scenes.factors import guessed_factors, known_factors, told_factors

    if options.factors:
        return told_factors(options.factors, values.shape[1], _FACTORS_OPTION)
    known = known_factors(store)
    if known is not None:
        return known
    guessed = guessed_factors(values)
    words = ", ".join(f"{factor.name} a {'class' if factor.is_class else 'number'}" for factor in guessed)
    out.say(f"dci: the store does not say what its factors are; by their values: {words}; say it with {_FACTORS_OPTION}")
    return guessed


def _targets(factors: list[Factor], values: np.ndarray) -> list[Target]:
    """Return what each factor is of the objects."""
    import numpy as np

    from evaluation.dci import Target

    targets = []
    for factor in factors:
        columns = values[:, factor.columns].astype(np.float64)
        if factor.is_class:
            targets.append(Target(factor.name, np.unique(columns, axis=0, return_inverse=True)[1].reshape(-1).astype(np.int64)))
        elif factor.period:
            turn = 2 * np.pi * columns[:, 0] / factor.period
            targets.append(Target(factor.name, np.stack([np.cos(turn), np.sin(turn)], 1)))
        else:
            targets.append(Target(factor.name, columns[:, 0]))
    return targets


def _show(numbers: Numbers, out: Evaluation) -> None:
    names = ("disentanglement", "completeness", "informativeness")
    rows = [(label, *(f"{row[name]:.3f}" for name in names)) for label, row in (("slots", numbers), ("reference", numbers["reference"]))]
    out.table(f"DCI of {numbers['objects']:,} objects", ("", *names), rows)
    factors = [(name, one["kind"], f"{one['informativeness']:.3f}", f"{one['chance']:.3f}") for name, one in numbers["factors"].items()]
    out.table("What slots tell of an object: accuracy of classes, R² of numbers", ("factor", "kind", "told", "chance"), factors)
    left_out = f"; the same for all objects and left out: {', '.join(numbers['left_out'])}" if numbers["left_out"] else ""
    out.say(f"reference: {_WHAT_THE_REFERENCE_IS}{left_out}")
