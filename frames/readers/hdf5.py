"""HDF5 files of the Multi-Object Datasets: pictures with masks and factors, in groups by split, as unordered episodes."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from frames.readers.decoding import MOST_PIXELS
from frames.readers.recording import SPLIT_FOLDERS, BadRecording, ExcludedRecording, Folder, Layout, Recording
from frames.readers.reported import Reported

SUFFIXES = (".h5", ".hdf5")
IMAGES, MASKS, FACTORS = "imgs", "masks", "factors"
EPISODE_IMAGES = 1000
# the masks of an episode are held in memory, and read back as one
EPISODE_BYTES = 64 << 20
_SLICE_BYTES = 8 << 20
_CACHE_BYTES = 64 << 20
_LARGEST_CHUNK = 256 << 20
# no deflated stream holds more than 1,032 times its size; what holds more was never written
_MOST_COMPRESSED = 1032
# those that come with HDF5 and h5py: deflate, shuffle, Fletcher's checksum, szip, n-bit, scale-offset, LZF
_FILTERS = {1, 2, 3, 4, 5, 6, 32000}


@dataclass
class MultiObjectImages(Recording):
    """`count` pictures from `first` on of a group ("" without groups); masks keep the size that they have in the file."""

    group: str = ""
    first: int = 0
    count: int = 0
    ordered = False

    def expected_frames(self) -> int:
        return self.count

    def frames_per_second(self) -> float:
        return 1.0

    def frames(self) -> Iterator[np.ndarray]:
        with _opened(self.path) as file:
            images = _of_group(file, self.group)[IMAGES]
            step, end = max(1, _SLICE_BYTES // _bytes_each(images)), self.first + self.count
            for at in range(self.first, end, step):
                yield from images[at : min(at + step, end)]

    def arrays(self) -> dict[str, np.ndarray]:
        """Return "observation.masks" uint8 (F, objects, H, W, 1) and "observation.factors" (F, objects, factors), where they are."""
        with _opened(self.path) as file:
            found = _of_group(file, self.group)
            span = slice(self.first, self.first + self.count)
            return {f"observation.{name}": found[name][span] for name in (MASKS, FACTORS) if name in found}


def find(folder: Folder) -> list[Recording]:
    return [recording for file in folder.with_suffix(*SUFFIXES) for recording in _recordings(folder, file)]


HDF5 = Layout("hdf5", f"HDF5 files with '{IMAGES}' (Multi-Object Datasets: {', '.join(SUFFIXES)})", find)


def _recordings(folder: Folder, file: Path) -> list[Recording]:
    name, found = folder.name(file.name), list[Recording]()
    try:
        with _opened(file) as content:
            for group in _groups(content):
                datasets = _of_group(content, group)
                count, step = len(datasets[IMAGES]), _images_an_episode(datasets)
                for at in range(0, count, step):
                    episode = "/".join(part for part in (name, group, f"{at:06d}") if part)
                    part = MultiObjectImages(episode, file, [file], split=SPLIT_FOLDERS.get(group), group=group, first=at)
                    part.count = min(step, count - at)
                    found.append(part)
    except BadRecording as error:
        return [Reported(name, file, [file], reason=str(error), fault=error.fault)]
    return found


def _images_an_episode(datasets: dict[str, Any]) -> int:
    heaviest = max((_bytes_each(datasets[name]) for name in (MASKS, FACTORS) if name in datasets), default=1)
    return max(1, min(EPISODE_IMAGES, EPISODE_BYTES // heaviest))


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    try:
        import h5py
    except ImportError:
        raise BadRecording("needs the package h5py: pip install h5py") from None
    if not os.path.isfile(path) or os.path.getsize(path) == 0:
        raise BadRecording("an empty file" if os.path.isfile(path) else "is no file")
    try:
        with h5py.File(path, "r", locking=False, rdcc_nbytes=_CACHE_BYTES) as file:
            yield file
    except BadRecording:
        raise
    # h5py raises a dozen types for a damaged file
    except Exception as error:
        raise BadRecording(f"cannot be read as HDF5 ({' '.join(str(error).split())[:200] or type(error).__name__})") from error


def _groups(file: Any) -> list[str]:
    """Return the groups that hold pictures, "" for the file itself."""
    found = [name for name in ("", *SPLIT_FOLDERS) if IMAGES in _members(file, name)]
    if not found:
        raise ExcludedRecording(f"an HDF5 file of another program: it has no '{IMAGES}', nor groups train, val or test that have")
    return found


def _members(file: Any, group: str) -> dict[str, Any]:
    """Return the datasets of a group that the file itself holds, by name; nothing where there is no such group."""
    import h5py

    place = _linked(file, group) if group else file
    if not isinstance(place, h5py.Group):
        return {}
    found = {name: _linked(place, name) for name in (IMAGES, MASKS, FACTORS)}
    return {name: member for name, member in found.items() if isinstance(member, h5py.Dataset)}


def _linked(place: Any, name: str) -> Any:
    """Return what is under a name, None for nothing; a link to elsewhere may lead to any file."""
    import h5py

    link = place.get(name, getlink=True)
    if link is None:
        return None
    if not isinstance(link, h5py.HardLink):
        raise BadRecording(f"'{name}' is a link to another place, which is not followed")
    return place[name]


def _of_group(file: Any, group: str) -> dict[str, Any]:
    """Return the datasets of a group when they fit together and hold what they announce."""
    found = _members(file, group)
    if IMAGES not in found:
        raise BadRecording(f"has no '{IMAGES}' in '{group}'")
    for name, dataset in found.items():
        _check_storage(name, dataset)
    _check_images(found[IMAGES])
    _check_beside(found)
    return found


def _check_storage(name: str, dataset: Any) -> None:
    """Refuse what other files hold, filters that would be loaded as libraries, and announcements that nothing stands behind."""
    if dataset.is_virtual or dataset.external:
        raise BadRecording(f"'{name}' is stored in other files, which are not read")
    properties = dataset.id.get_create_plist()
    filters = {int(properties.get_filter(index)[0]) for index in range(properties.get_nfilters())}
    if filters - _FILTERS:
        raise BadRecording(f"'{name}' is compressed by filter {min(filters - _FILTERS)}, which HDF5 lacks; store it with gzip")
    if dataset.shape is None or dataset.dtype.kind not in "uif":
        raise BadRecording(f"'{name}' holds {dataset.dtype}, not numbers")
    if dataset.nbytes > _MOST_COMPRESSED * dataset.id.get_storage_size():
        raise BadRecording(f"'{name}' announces {dataset.nbytes:,} bytes, and {dataset.id.get_storage_size():,} are stored")
    if dataset.chunks is not None and int(np.prod(dataset.chunks, dtype=object)) * dataset.dtype.itemsize > _LARGEST_CHUNK:
        raise BadRecording(f"'{name}' has chunks {dataset.chunks} of more than {_LARGEST_CHUNK:,} bytes; store it in smaller ones")


def _check_images(images: Any) -> None:
    shape = images.shape
    if images.dtype != np.uint8 or len(shape) != 4 or shape[3] != 3 or min(shape) == 0:
        raise BadRecording(f"'{IMAGES}' holds {images.dtype} {shape}, not pictures, uint8 (N, H, W, 3)")
    if shape[1] * shape[2] > MOST_PIXELS:
        raise BadRecording(f"'{IMAGES}' holds pictures of {shape[2]} x {shape[1]}, larger than 8K")


def _check_beside(found: dict[str, Any]) -> None:
    """Check that masks are uint8 (N, objects, H, W, 1) and factors (N, objects, F) for the N pictures."""
    count, height, width, _ = found[IMAGES].shape
    for name, dimensions in ((MASKS, 5), (FACTORS, 3)):
        if name not in found:
            continue
        shape = found[name].shape
        fits = len(shape) == dimensions and shape[0] == count and min(shape) > 0 and _bytes_each(found[name]) <= EPISODE_BYTES
        if name == MASKS:
            fits = fits and found[name].dtype == np.uint8 and shape[2:] == (height, width, 1)
        if not fits:
            raise BadRecording(f"'{name}' of {found[name].dtype} {shape} does not go with {count:,} pictures of {width} x {height}")


def _bytes_each(dataset: Any) -> int:
    """Return the bytes of one entry."""
    return int(np.prod(dataset.shape[1:], dtype=object)) * int(dataset.dtype.itemsize)
