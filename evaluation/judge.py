"""The contract of every judge: something that is measured of a finished encoder on recordings it has not seen.

A judge is a file like those in `evaluation/judges/`: options, whether it applies, and what it measures. It imports torch and what else is
heavy inside its methods, so that `evaluate_encoder.py --help` answers at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from foundation.errors import UserError

if TYPE_CHECKING:
    from encoders import Encoder, EncoderArtifact
    from evaluation.evaluation import Evaluation
    from frames import FrameStore

Numbers = dict[str, Any]
"""What JSON can hold: numbers, words, lists and mappings of them."""


RESERVED = ("split", "store", "fingerprint", "identity", "baseline_store", "encoder", "limit", "run", "judges", "device", "threads")
"""Names that `evaluation.json` or the command line has for something else."""


@dataclass(frozen=True)
class NoOptions:
    """Of a judge that has nothing to choose."""


def untrained_decoder(model: Encoder) -> str | None:
    """Return None, or in words that what a model draws was no part of its training: it learned from its heads alone."""
    from encoders.heads.attached import own_is_trained

    return None if own_is_trained(model) or not model.has_own_loss else "its decoder had no part in its training"


class Judge:
    """Measures one thing of an encoder. It never changes the model, and gives the same numbers whatever else was judged before it."""

    name: ClassVar[str]
    """Its place in `evaluation.json`, and the group of its options on the command line: `open_loop` has `--open-loop.context`."""
    Options: ClassVar[type[Any]] = NoOptions
    """A frozen dataclass, every field with a default; the fields' docstrings become the command's help."""
    needs: ClassVar[tuple[str, ...]] = ()
    """Options without which it cannot judge, None by default, such as a folder of weights; without them it is left out."""

    def applies(self, model: Encoder, store: FrameStore) -> str | None:
        """Return None, or in words why it does not apply to this model and store: "it does not predict frames".

        Ask for what a model offers (`isinstance(model, encoders.Predicts)`), never for its class.
        """
        return None

    def check(self, artifact: EncoderArtifact, store: FrameStore, options: Any, out: Evaluation) -> None:
        """Raise `UserError` for options that do not fit the model or the store. Called of all judges before any of them computes."""

    def judge(self, artifact: EncoderArtifact, store: FrameStore, options: Any, out: Evaluation) -> Numbers:
        """Measure, and return what `evaluation.json` holds under the judge's name; {} where there are only pictures.

        The model is on `out.device`, in evaluation mode. Whatever is drawn is drawn with a seed that is set here. `out` has what judges
        share, and takes pictures, tables and the verdict in words.
        """
        raise NotImplementedError


def at_least(judge: str, options: Any, **least: int) -> None:
    """Raise `UserError`, with the option as it is on the command line, for the first of `options` that is below its minimum."""
    for name, minimum in least.items():
        if getattr(options, name) < minimum:
            raise UserError(f"{option_name(judge, name)} {getattr(options, name)}: must be {minimum} or more")


def option_name(judge: str, field: str) -> str:
    """Return how a field of a judge's options is written on the command line."""
    return f"--{judge}.{field}".replace("_", "-")
