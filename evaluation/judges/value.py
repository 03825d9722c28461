"""Whether a model's value of a frame tells what is earned after it: squared error, AUC of a reward soon, calibration."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import encoders
from evaluation.judge import Judge, Numbers, at_least
from foundation.errors import UserError

if TYPE_CHECKING:
    import numpy as np

    from evaluation.evaluation import Evaluation
    from frames import FrameStore

_COLUMNS = 10
_SCALE = 2


@dataclass(frozen=True)
class ValueOptions:
    frames: int = 10_000
    """Frames to judge, evenly spread over the split."""
    seconds: float = 2.0
    """A reward within so many seconds is to be told."""

    def __post_init__(self) -> None:
        at_least("value", self, frames=1)
        if self.seconds <= 0:
            raise UserError(f"--value.seconds {self.seconds}: must be greater than 0")


class Value(Judge):
    """Squared error against the label it was trained on, AUC of a reward within some seconds, calibration; frames by their value."""

    name = "value"
    Options = ValueOptions

    def applies(self, model: encoders.Encoder, store: FrameStore) -> str | None:
        from encoders.heads import value_giver
        from evaluation.values import says_value

        if value_giver(model) is None:
            return "it gives no value"
        return None if says_value(model, store) else "the store holds no rewards, or nothing else"

    def judge(self, artifact: encoders.EncoderArtifact, store: FrameStore, options: ValueOptions, out: Evaluation) -> Numbers:
        import numpy as np

        from encoders.heads import value_giver
        from evaluation.sampled import sampled
        from evaluation.scores import auc, calibration
        from evaluation.values import label_options, trained_label, values_of
        from frames.labels import Labels

        model = artifact.model
        giver = value_giver(model)
        assert giver is not None
        seen = sampled(store, store.of_split(out.split), model, out.stride(store), options.frames)
        value = values_of(giver, seen, out)
        truth, meaning = trained_label(model, giver, store, seen.indices)
        soon = Labels(store, {"rewarded_within": {"seconds": options.seconds}}).at(seen.indices)["rewarded_within"][:, 0]
        known, told = ~np.isnan(truth), ~np.isnan(soon)
        if not known.any():
            out.verdict(f"No frame of split '{out.split}' has a reward to come: its values are not judged.")
            return {}
        calibrated = calibration(truth[known], value[known])
        score = auc(soon[told], value[told])
        out.picture("values", _picture(seen.store.frames(seen.indices), value, truth))
        numbers = {
            "frames": int(known.sum()),
            "label": {"reward_to_come": label_options(model), "meaning": meaning},
            "mean_squared_error": float(np.square(value - truth)[known].mean()),
            "constant": {"value": float(truth[known].mean()), "mean_squared_error": float(truth[known].var())},
            "seconds": options.seconds,
            "auc_of_reward_within": score if np.isfinite(score) else None,
            "share_rewarded_within": float(soon[told].mean()) if told.any() else None,
            "calibration": {**asdict(calibrated), "expected_error": calibrated.expected_error},
        }
        _show(numbers, out)
        return numbers


def _picture(frames: np.ndarray, value: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Return a picture of frames in five rows of rising value, from the lowest fifth to the highest."""
    import numpy as np

    from foundation.pictures import picture_grid

    rows, labels = [], []
    for part in np.array_split(np.argsort(value, kind="stable"), 5):
        shown = part[np.linspace(0, len(part) - 1, min(_COLUMNS, len(part))).round().astype(int)]
        rows.append(frames[shown])
        mean = f"{np.nanmean(truth[part]):.2f}" if (~np.isnan(truth[part])).any() else "unknown"
        labels.append(f"value {value[part].min():.2f} to {value[part].max():.2f}; what came, on average: {mean}")
    return picture_grid(rows, labels, _SCALE)


def _show(numbers: dict[str, Any], out: Evaluation) -> None:
    error, constant, score = numbers["mean_squared_error"], numbers["constant"], numbers["auc_of_reward_within"]
    told = "unknown: all or none" if score is None else f"{score:.3f}"
    out.table(
        f"The value of {numbers['frames']:,} frames of split '{out.split}', as {numbers['label']['meaning']}",
        ("", "the model", "a constant"),
        [
            ("mean squared error", f"{error:.4f}", f"{constant['mean_squared_error']:.4f}"),
            (f"AUC of a reward within {numbers['seconds']:g} s", told, "0.500"),
        ],
    )
    parts = numbers["calibration"]
    rows = [
        (f"{predicted:.2f}", f"{observed:.2f}", f"{frames:,}")
        for frames, predicted, observed in zip(parts["frames"], parts["predicted"], parts["observed"], strict=True)
    ]
    out.table(f"Calibration: on average {parts['expected_error']:.3f} off", ("value", "what came", "frames"), rows)
    explained = 1 - error / constant["mean_squared_error"] if constant["mean_squared_error"] else 0.0
    said = f"Its value explains {max(0.0, explained):.0%} of the variance of {numbers['label']['meaning']}"
    out.verdict(f"{said}; AUC of a reward within {numbers['seconds']:g} s: {told}.")
