"""What a run was started with: `config.yaml`, and what may differ when it is resumed."""

from pathlib import Path
from typing import Any

import yaml

from encoders.artifact import INFO_FILE, StoreReference, read_info
from foundation.errors import UserError
from foundation.files import write_atomically
from foundation.presets import build, read_yaml

CONFIG_FILE = "config.yaml"
MAY_DIFFER = frozenset({"steps", "device", "workers", "training.log_every", "training.patience", "store.path", "store.tasks", "store.saw"})
_RECORDED_LATER = frozenset({"store.actions", "store.identity"})
"""What runs of before it was recorded do not have, and need not: they go on as they were."""


def agree(folder: Path, settings: dict[str, Any], defaults: dict[str, Any] | None = None) -> None:
    """Write `settings` as the run's `config.yaml`, or compare them with what is there; what is not there had its default.

    Raises `UserError` naming the first key that differs and may not; the store may have moved as long as its content is the same.
    """
    path = folder / CONFIG_FILE
    if path.exists():
        before, now = _flat(defaults or {}) | _flat(read_yaml(path)), _flat(settings)
        for key in sorted(before.keys() | now.keys()):
            if key in MAY_DIFFER or (key in _RECORDED_LATER and before.get(key) is None):
                continue
            if before.get(key) != now.get(key):
                raise UserError(
                    f"{folder}: this run was started with {key}={before.get(key)}, now it is {now.get(key)}; "
                    "give the same value to resume, or another folder to start a new run"
                )
    write_atomically(path, yaml.safe_dump(settings, sort_keys=False, default_flow_style=None))


def recorded(folder: Path, key: str) -> Any:
    """Return what the run in `folder` was started with under a top-level key, or None."""
    path = folder / CONFIG_FILE
    return read_yaml(path).get(key) if path.exists() else None


def recorded_store(folder: Path) -> StoreReference | None:
    """Return the store that the run, or the encoder, in `folder` learned from; None where nothing says so."""
    path = folder / CONFIG_FILE
    if path.exists():
        values = recorded(folder, "store")
        # an agent's run names its store by a path
        return build(StoreReference, values, f"{path}: store") if isinstance(values, dict) else None
    return read_info(folder).store if (folder / INFO_FILE).exists() else None


def _flat(values: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(values, dict):
        return {prefix: values}
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= _flat(value, f"{prefix}.{key}" if prefix else str(key))
    return flat
