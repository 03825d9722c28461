"""`evaluate_encoder.py`: an encoder and a frame store in, numbers, pictures and a verdict out."""

from collections.abc import Sequence

from evaluation.options import refuse_old_names, spelled_out, with_judges
from evaluation.registry import chosen_judges, registered_judges
from foundation.presets import parse


def evaluate(argv: Sequence[str]) -> None:
    """Judge an encoder as the options say; `evaluation.json`, pictures and tables are what is left."""
    refuse_old_names(argv)
    judges = registered_judges()
    description = f"Judge an encoder on recordings it has not seen. Judges: {', '.join(judges)}."
    options = parse(with_judges(judges), description, spelled_out(argv))
    chosen = chosen_judges(options.judges, judges)
    # torch takes seconds to import: not before the options are right
    from evaluation.judging import judge_encoder

    judge_encoder(options, chosen, {name: getattr(options, name, None) or judge.Options() for name, judge in chosen.items()})
