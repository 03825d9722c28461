"""The encoders that are served, by name, each with the newest weights that its folder holds."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from encoders import load_encoder
from encoders.artifact import INFO_FILE, WEIGHTS_FILE
from foundation.errors import UserError, nearest
from foundation.progress import say
from service.errors import ServiceError
from service.loaded_model import LoadedModel
from service.statistics import ModelStatistics

VERSION = "1"
"""Of every model: the weights that are loaded now."""

_TAKEN = "stats"

Signature = tuple[tuple[int, int, int], ...]


@dataclass
class Served:
    """A model: the folder it comes from, its weights as loaded, and what it has answered."""

    name: str
    folder: Path
    loaded: LoadedModel
    signature: Signature
    """Of the files that were looked at last, whether they could be loaded or not."""
    statistics: ModelStatistics = field(default_factory=ModelStatistics)


class Models:
    """Encoders by the names of their folders; raises `UserError` for two of one name and for what cannot be loaded."""

    def __init__(self, folders: Sequence[Path], device: str) -> None:
        self._device = device
        names = [model_name(folder) for folder in folders]
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise UserError(f"two encoders are called '{twice}', and clients tell them apart by name; rename a folder")
        if _TAKEN in names:
            raise UserError(f"an encoder cannot be called '{_TAKEN}', which is a route of the protocol; rename its folder")
        self.served = {name: self._load(name, folder) for name, folder in zip(names, folders, strict=True)}

    def find(self, name: str, version: str = "") -> Served:
        """Return a model; raise `ServiceError` for one that is not served, or a version other than the one there is."""
        if name not in self.served:
            raise ServiceError(404, f"no model '{name}' is served: {nearest(name, self.served)}")
        if version not in ("", VERSION):
            raise ServiceError(404, f"model '{name}' has no version '{version}'; its one version is {VERSION}, the weights loaded now")
        return self.served[name]

    def reload_changed(self) -> None:
        """Load what folders have that are not as they were when last looked at; what cannot be loaded leaves the old weights serving."""
        for served in self.served.values():
            signature = _signature(served.folder)
            if signature in (None, served.signature):
                continue
            try:
                loaded = _warm(LoadedModel(served.name, load_encoder(served.folder), self._device))
            # whatever a folder holds, its old weights go on, and the other folders are looked at
            except Exception as error:
                served.statistics.failed_reloads += 1
                say(f"{served.name}: the old weights go on serving, the new ones cannot be loaded: {error}")
            else:
                changed = loaded.states.digest != served.loaded.states.digest
                served.loaded = loaded
                # said and counted once it is so
                if changed:
                    served.statistics.reloads += 1
                    say(f"{served.name}: serving the weights {loaded.info.weights_sha256[:16]} from now on")
            # read before the files were: what was written meanwhile is looked at again
            served.signature = signature

    def _load(self, name: str, folder: Path) -> Served:
        signature = _signature(folder)
        return Served(name, folder, _warm(LoadedModel(name, load_encoder(folder), self._device)), signature or ())


def model_name(folder: Path) -> str:
    """Return the name that a folder's encoder is served under: its last part, of a link the link's own."""
    return os.path.basename(os.path.abspath(folder))


def _signature(folder: Path) -> Signature | None:
    """Return what tells a folder's files from those of before; None while one is missing."""
    try:
        found = [os.stat(folder / name) for name in (WEIGHTS_FILE, INFO_FILE)]
    except OSError:
        return None
    return tuple((one.st_mtime_ns, one.st_size, one.st_ino) for one in found)


def _warm(loaded: LoadedModel) -> LoadedModel:
    """Encode once: the first call of a model takes much longer than the others."""
    frames = np.zeros((8, *loaded.frozen.frame_shape), np.uint8)
    action = np.zeros((8, loaded.frozen.action_size), np.float32) if loaded.frozen.action_size else None
    loaded.encode(frames, loaded.states.fresh(8), action, list(loaded.resolve(None, False).values()))
    return loaded
