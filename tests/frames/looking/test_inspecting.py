import json
import shutil

import cv2
import lmdb
import numpy as np

from frames import FrameStore
from frames.looking.inspecting import contact_sheet, look, verify
from frames.storage import format


def test_verify_finds_every_damaged_episode(noise, write_store, tmp_path):
    names = ("a", "b", "c", "d")
    store = write_store({name: noise(40, seed=ord(name)) for name in names}, {"d": {"reward": np.ones(39)}})
    assert verify(store) == []
    shutil.copytree(store.path, tmp_path / "damaged")
    with lmdb.open(str(tmp_path / "damaged"), map_size=1 << 26) as environment, environment.begin(write=True) as transaction:
        keys = {name: [key for key, _ in transaction.cursor() if key[:1] == b"f" and name_of(key, names) == name] for name in names}
        content = bytearray(transaction.get(keys["a"][1]))
        content[100] ^= 1
        transaction.put(keys["a"][1], bytes(content))
        transaction.delete(keys["c"][0])
        reward = next(key for key, _ in transaction.cursor() if key[:1] == b"a")
        transaction.put(reward, np.zeros(39).tobytes())
    damaged = dict(verify(FrameStore(tmp_path / "damaged")))
    assert sorted(damaged) == ["a", "c", "d"]
    assert "missing" in damaged["c"]
    assert "'reward'" in damaged["d"]


def test_verify_finds_damaged_signatures_and_a_damaged_table(noise, write_store):
    path = write_store({"a": noise(40), "b": noise(40, 1)}).path
    with lmdb.open(str(path), map_size=1 << 26) as environment, environment.begin(write=True) as transaction:
        key = format.signatures_key("a")
        transaction.put(key, bytes(len(transaction.get(key))))
        meta = json.loads(transaction.get(format.META_KEY))
        content = format.encode_json({**meta, "fingerprint": "0" * 64})
        transaction.put(format.META_KEY, content)
        transaction.put(format.SEAL_KEY, format.seal(content))
    assert verify(FrameStore(path)) == [
        ("a", "its signatures, which tell duplicates, are not what was written"),
        ("the episode table", "does not fit the store's fingerprint"),
    ]


def name_of(key, names):
    from frames.storage.format import chunk_prefix

    return next(name for name in names if key.startswith(chunk_prefix(name)))


def test_dark_and_frozen_shares_are_what_they_say(noise, write_store):
    moving, still, dark = noise(50), np.repeat(noise(1), 50, axis=0), noise(50) // 16
    store = write_store({"dark": dark, "moving": moving, "still": still})
    seen = [look(store, [episode]) for episode in store.episodes]
    assert [one.dark for one in seen] == [1, 0, 0]
    assert [one.frozen for one in seen] == [0, 0, 1]
    assert abs(seen[1].brightness - 127.5) < 3
    # 49 frames of each episode have one before them
    assert abs(look(store, store.episodes).frozen - 1 / 3) < 0.01


def test_a_look_at_some_frames_is_spread_over_all_of_them(noise, write_store):
    dark, bright = np.zeros((300, 16, 16, 3), np.uint8), np.full((100, 16, 16, 3), 200, np.uint8)
    store = write_store({"bright": bright, "dark": dark})
    seen = look(store, store.episodes, sample=40)
    assert seen.frames == 40
    assert seen.dark == 0.75
    assert seen.frozen == 1


def test_pictures_without_order_are_not_called_frozen(noise, write_store):
    store = write_store({"stills": np.repeat(noise(1), 5, axis=0)}, unordered=["stills"])
    assert look(store, store.episodes).frozen == 0


def test_the_contact_sheet_is_a_picture_with_frames_of_every_split(noise, write_store, tmp_path):
    store = write_store({f"episode {n} café": noise(30, seed=n) for n in range(20)}, val=0.3)
    contact_sheet(store, tmp_path / "sheets" / "sheet.png")
    sheet = cv2.imread(str(tmp_path / "sheets" / "sheet.png"))
    assert sheet.shape[1] > 12 * 96
    assert sheet.shape[0] > 10 * 96
