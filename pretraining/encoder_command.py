"""The command `train_encoder.py`, behind its door."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from foundation.presets import command_line
from foundation.progress import say
from pretraining.options import TrainOptions, options_of

if TYPE_CHECKING:
    from encoders.training.devices import AskedToStop
    from encoders.training.parallel import Ranks

TRAIN = """Train an encoder on the frames of a store. Running the same command again resumes."""


def train(argv: Sequence[str]) -> int:
    """Train the encoder that the command line asks for, in this process or in several workers; return the exit status."""
    options: TrainOptions = command_line("encoder", options_of, TRAIN, argv)
    if options.geco == "suggest":
        from pretraining.geco_target import suggestion

        for line in suggestion(options.run, options.encoder, options.model).splitlines():
            say(line)
        return 0
    # here, for torch takes seconds to import
    from encoders.training.workers import check_workers, run_workers
    from pretraining.training import check_trained_together, make_encoder_of, placement_of

    if options.workers == 1:
        make_encoder_of(options, placement_of(options))
    else:
        check_workers(options.workers, options.device)
        check_trained_together(options)
        run_workers(work, list(argv), options.workers, options.device)
    say(f"wrote {options.run}; next: python evaluate_encoder.py {options.run} --store {options.store}")
    return 0


def work(argv: Sequence[str], device: str, ranks: "Ranks", asked_to_stop: "AskedToStop") -> None:
    """Do one worker's part of what the command line asks for."""
    from dataclasses import replace

    from pretraining.training import make_encoder_of, placement_of

    options: TrainOptions = command_line("encoder", options_of, TRAIN, argv)
    make_encoder_of(options, replace(placement_of(options), device=device, ranks=ranks, asked_to_stop=asked_to_stop))
