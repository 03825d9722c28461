"""Recordings on disk: every layout has a module here or in another package, all are documented in docs/frame_formats.md."""

from frames.readers.finding import Found, find_all, find_recordings
from frames.readers.recording import BadRecording, ExcludedRecording, Folder, Layout, Recording
from frames.readers.registry import find_layout, layout_names

__all__ = [
    "BadRecording",
    "ExcludedRecording",
    "Folder",
    "Found",
    "Layout",
    "Recording",
    "find_all",
    "find_layout",
    "find_recordings",
    "layout_names",
]
