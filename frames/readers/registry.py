"""Layouts by name: built-in ones, documented in docs/frame_formats.md, and those of other packages."""

import importlib
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from foundation.errors import UserError, nearest
from frames.readers.recording import Layout

GROUP = "minerl_perception.layouts"
# in the order in which they are asked: what knows more of its files comes first
BUILT_IN = {
    "minerl": "frames.readers.minerl:MINERL",
    "vpt": "frames.readers.vpt:VPT",
    "cwvae": "frames.readers.cwvae:CWVAE",
    "malmo": "frames.readers.malmo:MALMO",
    "lmdb": "frames.readers.image_lmdb:LMDB",
    "npy": "frames.readers.npy:NPY",
    "hdf5": "frames.readers.hdf5:HDF5",
    "videos": "frames.readers.videos:VIDEOS",
    "pictures": "frames.readers.pictures:PICTURES",
}


def layout_names() -> list[str]:
    """List the layouts in the order in which they are asked: those of other packages, by name, then the built-in ones."""
    return [*sorted(_added()), *BUILT_IN]


def find_layout(name: str) -> Layout:
    """Return a layout by name; raise `UserError` where there is none, or what a package adds is none."""
    if name in BUILT_IN:
        return _built_in(BUILT_IN[name])
    added = _added()
    if name not in added:
        raise UserError(f"no layout '{name}': {nearest(name, layout_names())}; if a package adds it, install that package")
    return _load(added[name])


def _added() -> dict[str, EntryPoint]:
    """Return the layouts of other packages; a built-in one cannot be replaced."""
    return {entry.name: entry for entry in entry_points(group=GROUP) if entry.name not in BUILT_IN}


def _load(entry: EntryPoint) -> Layout:
    try:
        loaded = entry.load()
    # whatever the code of another package raises
    except Exception as error:
        what = f"{type(error).__name__}: {' '.join(str(error).split())}"
        remedy = "mend or uninstall that package, or name another layout with --layout"
        raise UserError(f"the package that adds the layout '{entry.name}' cannot be imported ({what}); {remedy}") from error
    if not isinstance(loaded, Layout):
        raise UserError(f"the entry point '{entry.name}' of {GROUP} is no frames.readers.Layout: {entry.value}")
    if loaded.name != entry.name:
        raise UserError(f"the entry point '{entry.name}' of {GROUP} gives a layout called '{loaded.name}': give both the same name")
    return loaded


@cache
def _built_in(target: str) -> Any:
    module, _, attribute = target.partition(":")
    return getattr(importlib.import_module(module), attribute)
