"""Finding recordings in a folder: on a walk through it, every layout is asked what it knows."""

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from foundation.errors import UserError
from frames.readers.image_lmdb import DATA
from frames.readers.pictures import PictureFolder
from frames.readers.recording import Folder, Layout, Recording
from frames.readers.registry import find_layout, layout_names
from frames.readers.reported import Reported


class Found(NamedTuple):
    """The recordings of a source, sorted by name, and its `strays`: folders of pictures that lie beside or above others.

    Those are thumbnails and contact sheets, not data.
    """

    recordings: list[Recording]
    strays: list[Recording]


def find_recordings(source: Path, layout: str | None = None) -> list[Recording]:
    """Return the recordings of a source without its strays: see `find_all`."""
    return find_all(source, layout).recordings


def find_all(source: Path, layout: str | None = None) -> Found:
    """Find the recordings in and below a folder, or in a single file; folders that cannot be read are among them.

    `layout` names the only one to look for. Raises `UserError` when there is no such folder, or nothing in it that we know, and where
    a package's layout cannot be imported or fails.
    """
    layouts = [find_layout(name) for name in (layout_names() if layout is None else [layout])]
    if not os.path.exists(source):
        raise UserError(f"{source}: no such folder; give the folder of your recordings")
    unread: list[OSError] = []
    found = [recording for folder in _folders(source, unread.append) for recording in _in_folder(folder, layouts)]
    found += [_unread(source, error) for error in unread]
    if not found:
        known = "; ".join(layout.described for layout in layouts)
        raise UserError(f"{source}: no recordings found; looked for {known}")
    found.sort(key=lambda recording: recording.name)
    thumbnailed = _thumbnailed(found)

    def is_stray(one: Recording) -> bool:
        return isinstance(one, PictureFolder) and one.path in thumbnailed

    return Found([one for one in found if not is_stray(one)], list(filter(is_stray, found)))


def _unread(source: Path, error: OSError) -> Recording:
    """What stands for a folder that cannot be listed: it is left out and named."""
    path = Path(error.filename)
    return Reported(Folder(source, path, []).name(), path, [], reason=f"the folder cannot be read ({error.strerror})")


def _folders(source: Path, on_error: Callable[[OSError], None]) -> Iterator[Folder]:
    """Walk through a source folder; a source that is a file is a folder with that file alone."""
    if source.is_file():
        yield Folder(source.parent, source.parent, [source.name])
        return
    seen = set()
    for path, folders, files in os.walk(source, onerror=on_error, followlinks=True):
        status = os.stat(path)
        if (status.st_dev, status.st_ino) in seen:
            # a link back up, or a second way into the same folder
            folders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        # what inspect draws beside a store that lies among the pictures
        sheets = {f"{name}.png" for name in folders if os.path.exists(Path(path, name, DATA))}
        folders[:] = sorted(name for name in folders if not name.startswith(".") and not _is_working(Path(path, name)))
        yield Folder(source, Path(path), sorted(name for name in files if not name.startswith(".") and name not in sheets), list(folders))


def _is_working(path: Path) -> bool:
    """Say whether a folder is where a store is being built, or was."""
    return path.name.endswith(".building") and os.path.exists(path / ".lock")


def _in_folder(folder: Folder, layouts: Sequence[Layout]) -> Iterator[Recording]:
    left = folder
    for layout in layouts:
        found = _asked(layout, left)
        taken = {file.name for recording in found for file in [*recording.files, recording.path]}
        left = Folder(left.source, left.path, [name for name in left.files if name not in taken], left.folders)
        yield from found


def _asked(layout: Layout, folder: Folder) -> Sequence[Recording]:
    try:
        found = list(layout.find(folder))
    except UserError:
        raise
    # whatever the code of another package raises
    except Exception as error:
        what = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise UserError(f"{folder.path}: the layout '{layout.name}' fails there ({what}); name another one with --layout") from error
    stranger = next((one for one in found if not isinstance(one, Recording)), None)
    if stranger is not None:
        raise UserError(f"{folder.path}: the layout '{layout.name}' finds a {type(stranger).__name__}, no frames.readers.Recording")
    return found


def _thumbnailed(found: Sequence[Recording]) -> set[Path]:
    """Return the folders whose pictures are no data: those of other recordings, all above them, and folders that are one themselves."""
    others = [one for one in found if not isinstance(one, (PictureFolder, Reported))]
    return {place for one in others for place in (one.path, *one.path.parents)}
