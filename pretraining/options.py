"""What train_encoder.py can be told: the options of every model, and those of the model that a preset names."""

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from encoders.heads.config import HeadsConfig
from encoders.registry import hyperparameters_class, preset_architecture
from encoders.training.config import Precision, TrainingConfig


@dataclass(kw_only=True)
class TrainOptions:
    """How an encoder is trained on the frames of a store."""

    store: Path
    """The frame store to train on."""
    run: Path
    """The folder to write; running the same command again resumes there."""
    steps: int
    """Optimizer steps to do in all; a finished run goes on with more."""
    encoder: str
    """The model's architecture."""
    model: Any
    """The model's hyperparameters."""
    training: TrainingConfig = field(default_factory=TrainingConfig)
    heads: HeadsConfig = field(default_factory=HeadsConfig)
    """What else to predict from the latents while it trains; no head without a weight."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""
    threads: int | None = None
    """CPU threads; all cores if not given. A resumed run must use the same number: another one changes the last bits."""
    stride: int = 1
    """Recorded frames from one frame of a clip to the next."""
    frames_in: Literal["file", "memory", "device"] = "file"
    """Where training frames are kept: read from the store's file, or held in memory or on the device."""
    compile: bool = False
    """Have torch.compile fuse a recurrent model's scan."""
    precision: Precision = "auto"
    """auto: bfloat16 on CUDA, float32 on the CPU; bfloat16-anyway: on a CPU that is slower in it too."""
    weights: Path | None = None
    """Start a new run from the weights in another run's folder, or in the file of a checkpoint that the model's authors have published."""
    geco: Literal["suggest"] | None = None
    """suggest: train nothing, but say which model.geco-target the run so far suggests."""
    workers: int = 1
    """Processes that train together, each with a GPU of its own or on the CPU."""


def options_of(preset: dict[str, Any]) -> type[TrainOptions]:
    """Return the options for a preset, with its model's hyperparameters under `model`."""
    architecture = preset_architecture(preset, "the preset")
    hyperparameters = hyperparameters_class(architecture)
    own: list[Any] = [
        ("encoder", str, field(default=architecture)),
        ("model", hyperparameters, field(default_factory=hyperparameters)),
    ]
    return dataclasses.make_dataclass("TrainOptions", own, bases=(TrainOptions,), kw_only=True, namespace={"__doc__": TrainOptions.__doc__})
