"""Encoders: the contract, the models, the training loop and the artifact."""

from typing import TYPE_CHECKING

from foundation.lazy import imports_on_demand

if TYPE_CHECKING:
    from encoders.artifact import EncoderArtifact as EncoderArtifact
    from encoders.artifact import StoreReference as StoreReference
    from encoders.artifact import load_encoder as load_encoder
    from encoders.artifact import prepare as prepare
    from encoders.artifact import save_encoder as save_encoder
    from encoders.contract import check_encoder as check_encoder
    from encoders.encoder import Batch as Batch
    from encoders.encoder import BoundsLikelihood as BoundsLikelihood
    from encoders.encoder import Decodes as Decodes
    from encoders.encoder import Encoder as Encoder
    from encoders.encoder import Generates as Generates
    from encoders.encoder import GivesMasks as GivesMasks
    from encoders.encoder import GivesValue as GivesValue
    from encoders.encoder import HasFeatureMaps as HasFeatureMaps
    from encoders.encoder import HasGroups as HasGroups
    from encoders.encoder import HasSlots as HasSlots
    from encoders.encoder import Predicts as Predicts
    from encoders.encoder import SlotsFound as SlotsFound
    from encoders.encoder import TracksSlots as TracksSlots
    from encoders.parts import make_on_top as make_on_top
    from encoders.registry import encoder_names as encoder_names
    from encoders.registry import make_encoder as make_encoder
    from encoders.training.data import TrainingData as TrainingData
    from encoders.training.devices import Placement as Placement
    from encoders.training.loop import train as train

_HOME = {
    "Batch": "encoder",
    "BoundsLikelihood": "encoder",
    "Decodes": "encoder",
    "Encoder": "encoder",
    "EncoderArtifact": "artifact",
    "Generates": "encoder",
    "GivesMasks": "encoder",
    "GivesValue": "encoder",
    "HasFeatureMaps": "encoder",
    "HasGroups": "encoder",
    "HasSlots": "encoder",
    "Predicts": "encoder",
    "Placement": "training.devices",
    "SlotsFound": "encoder",
    "StoreReference": "artifact",
    "TracksSlots": "encoder",
    "TrainingData": "training.data",
    "check_encoder": "contract",
    "encoder_names": "registry",
    "load_encoder": "artifact",
    "make_encoder": "registry",
    "make_on_top": "parts",
    "prepare": "artifact",
    "save_encoder": "artifact",
    "train": "training.loop",
}
__all__ = list(_HOME)
__getattr__ = imports_on_demand("encoders", _HOME)
