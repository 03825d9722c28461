"""What the guides show runs as it stands there."""

import re
from contextlib import chdir
from pathlib import Path

import numpy as np
import pytest

DOCS = Path(__file__).resolve().parents[2] / "docs"


def examples(guide: str) -> str:
    """The Python of a guide, one block after the other."""
    return "\n".join(re.findall(r"```python\n(.*?)```", (DOCS / guide).read_text(encoding="utf-8"), re.DOTALL))


@pytest.fixture
def recorded(tmp_path, write_store, noise):
    """Return a folder with a store and an exported episode under the names that the guides use."""
    ticks = 79
    arrays = {"action.camera": np.zeros((ticks, 2), np.float32), "action.attack": np.ones(ticks, np.int64), "reward": np.eye(ticks)[40]}
    write_store({name: noise(ticks + 1, ord(name)) for name in "abc"}, dict.fromkeys("abc", arrays), path=tmp_path / "STORE", val=0.3)
    np.savez(tmp_path / "episode.npz", frames=noise(4), **arrays)
    return tmp_path


def test_the_examples_of_the_store_s_guide_run(recorded):
    seen: dict = {}
    with chdir(recorded):
        exec(examples("frame_store.md"), seen)
    assert (seen["state"]["passes"], seen["state"]["positions"]) == ([0], [32])
    assert seen["batch"].frames.shape[1:] == (1, 16, 16, 3)
    assert seen["values"].max() == 1
    assert seen["columns"][0].name == "action.attack"


def test_the_example_of_rollouts_runs(tmp_path):
    seen: dict = {}
    with chdir(tmp_path):
        exec(examples("frame_formats.md"), seen)
        store = seen["frames"].FrameStore("STORE")
    assert len(store) == 400
    assert store.array(0, "action.jump").all()
