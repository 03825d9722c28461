"""A layout of a user's package, added as that package would: through its entry points, with no file of ours touched."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from foundation.errors import UserError
from frames import FrameStore, build_store
from frames.readers import Found, Layout, Recording, find_layout, find_recordings, layout_names
from frames.readers.registry import BUILT_IN

ROOT = Path(__file__).resolve().parents[3]

PACKAGE = '''
"""Films: a line "frames height width", the frames' bytes, and a byte for each action."""

import numpy as np

from frames.readers import BadRecording, Layout, Recording


class Film(Recording):
    def frames_per_second(self):
        return 12.0

    def expected_frames(self):
        return self._parts()[0].shape[0]

    def frames(self):
        yield from self._parts()[0]

    def arrays(self):
        return {"action.turn": self._parts()[1]}

    def _parts(self):
        head, _, content = self.path.read_bytes().partition(b"\\n")
        count, height, width = map(int, head.split())
        size = count * height * width * 3
        if len(content) != size + count - 1:
            raise BadRecording("the film is torn")
        values = np.frombuffer(content, np.uint8)
        return values[:size].reshape(count, height, width, 3), values[size:]


def find(folder):
    return [Film(folder.name(path.name), path, [path], task="Films-v0") for path in folder.with_suffix(".film")]


FILMS = Layout("films", "films (.film)", find)
PLAIN = {"name": "plain"}
RENAMED = Layout("another", "nothing", find)
FALSE_PICTURES = Layout("pictures", "nothing", lambda folder: 1 / 0)
FAILING = Layout("failing", "nothing", lambda folder: [1 / 0])
STRANGE = Layout("strange", "nothing", lambda folder: ["a name"])
'''


def add_package(folder: Path, entries: str) -> None:
    """Install a package with these entry points into a folder, as pip would lay it out."""
    folder.mkdir(exist_ok=True)
    (folder / "my_films.py").write_text(PACKAGE)
    (folder / "torn_films.py").write_text("import no_such_codec\n")
    info = folder / "my_films-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: my-films\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[minerl_perception.layouts]\n{entries}\n")


def write_film(path: Path, frames: np.ndarray, actions: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    head = " ".join(map(str, frames.shape[:3]))
    path.write_bytes(head.encode() + b"\n" + frames.tobytes() + actions.astype(np.uint8).tobytes())


@pytest.fixture
def added(tmp_path, monkeypatch):
    """Return a function that adds entry points to this process."""

    def add(entries: str) -> None:
        add_package(tmp_path / "site", entries)
        monkeypatch.syspath_prepend(tmp_path / "site")

    yield add
    for name in ("my_films", "torn_films"):
        sys.modules.pop(name, None)


@pytest.mark.parametrize("options", [["--layout", "films"], []])
def test_the_command_builds_a_store_from_it_in_several_workers(tmp_path, noise, write_video, options):
    add_package(tmp_path / "site", "films = my_films:FILMS")
    shown = {f"deep/{name}.film": noise(9, seed=ord(name)) for name in "abcd"}
    for number, (name, frames) in enumerate(shown.items()):
        write_film(tmp_path / "in" / name, frames, np.full(8, number))
    (tmp_path / "in" / "torn.film").write_bytes(b"3 4 4\n")
    write_video(tmp_path / "in" / "beside.avi", noise(5))
    size = shown["deep/a.film"].shape[1:3]
    command = [sys.executable, str(ROOT / "make_frames.py"), "build", "--source", tmp_path / "in", "--store", tmp_path / "store"]
    command += ["--workers", "3", "--frame-size", *size, *options]
    path = os.pathsep.join([str(tmp_path / "site"), str(ROOT)])
    built = subprocess.run(list(map(str, command)), capture_output=True, text=True, cwd=tmp_path, env={**os.environ, "PYTHONPATH": path})
    # one film is torn, and the status says so
    assert built.returncode == 1, built.stderr
    assert "the film is torn" in built.stdout
    store = FrameStore(tmp_path / "store")
    films = [episode for episode in store.episodes if episode.task == "Films-v0"]
    assert [episode.name for episode in films] == sorted(shown)
    assert len(store.episodes) == len(shown) + (not options)
    for number, episode in enumerate(films):
        frames = store.frames(np.arange(episode.first, episode.first + episode.length))
        np.testing.assert_array_equal(frames, shown[episode.name])
        np.testing.assert_array_equal(store.array(episode, "action.turn"), np.full(8, number))
        assert episode.frames_per_second == 12.0


def test_added_layouts_are_asked_before_the_built_in_ones_which_cannot_be_replaced(added, tmp_path, noise):
    added("films = my_films:FILMS\npictures = my_films:FALSE_PICTURES")
    assert layout_names() == ["films", *BUILT_IN]
    write_film(tmp_path / "in" / "a.film", noise(2), np.zeros(1))
    assert [recording.name for recording in find_recordings(tmp_path / "in")] == ["a.film"]
    assert find_layout("pictures").described.startswith("folders of pictures")


@pytest.mark.parametrize(
    ("entry", "layout", "said"),
    [
        ("films = my_films:FILMS", "film", "no layout 'film': did you mean 'films'"),
        (
            "films = torn_films:FILMS",
            "films",
            r"the layout 'films' cannot be imported \(ModuleNotFoundError: .*'no_such_codec'",
        ),
        ("films = torn_films:FILMS", None, "name another layout with --layout"),
        ("films = my_films:NOTHING", "films", "cannot be imported .AttributeError"),
        ("films = my_films:PLAIN", "films", "the entry point 'films' of minerl_perception.layouts is no frames.readers.Layout"),
        ("films = my_films:RENAMED", "films", "gives a layout called 'another': give both the same name"),
        ("failing = my_films:FAILING", None, "the layout 'failing' fails there .ZeroDivisionError"),
        ("strange = my_films:STRANGE", "strange", "finds a str, no frames.readers.Recording"),
    ],
)
def test_a_package_s_mistake_is_one_line(added, tmp_path, noise, entry, layout, said):
    added(entry)
    write_film(tmp_path / "in" / "a.film", noise(2), np.zeros(1))
    with pytest.raises(UserError, match=said) as caught:
        find_recordings(tmp_path / "in", layout)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", BUILT_IN)
def test_a_built_in_layout_is_registered_under_its_own_name(name):
    layout = find_layout(name)
    assert isinstance(layout, Layout)
    assert layout.name == name


@pytest.mark.parametrize(
    ("frames", "rate", "arrays", "said"),
    [
        (np.full((3, 8, 8, 3), 0.5), 20.0, {}, r"frames of float64 \(8, 8, 3\), not RGB frames uint8"),
        (np.zeros((3, 8, 8), np.uint8), 20.0, {}, r"frames of uint8 \(8, 8\)"),
        (np.zeros((3, 8, 8, 4), np.uint8), 20.0, {}, r"frames of uint8 \(8, 8, 4\)"),
        ([[1, 2], [3, 4]], 20.0, {}, "frames of list"),
        (np.zeros((3, 8, 8, 3), np.uint8), 0.0, {}, "frames per second are 0.0"),
        (np.zeros((3, 8, 8, 3), np.uint8), None, {}, "frames per second are None"),
        (np.zeros((3, 8, 8, 3), np.uint8), 20.0, {"reward": [1.0]}, "'reward' has 1 entries for 3 frames"),
    ],
)
def test_what_is_no_frame_no_rate_or_no_array_leaves_the_recording_out(
    tmp_path, monkeypatch, noise, write_video, frames, rate, arrays, said
):
    class Odd(Recording):
        def frames_per_second(self):
            return rate

        def frames(self):
            yield from frames

        def arrays(self):
            return arrays

    write_video(tmp_path / "sound.avi", noise(4))
    sound = find_recordings(tmp_path)
    monkeypatch.setattr("frames.building.build.find_all", lambda *_: Found([*sound, Odd("odd", tmp_path / "odd", [])], []))
    summary = build_store(tmp_path, tmp_path / "store", frame_size=(8, 8))
    (left_out,) = summary.left_out
    assert left_out.name == "odd"
    assert re.search(said, left_out.reason)
    assert (summary.episodes, summary.status) == (1, 1)
