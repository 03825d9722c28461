"""An option that takes a folder or an address tells them apart, and no file names an address."""

import copy
import pickle
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from foundation.errors import UserError
from foundation.places import (
    Address,
    Place,
    View,
    Views,
    as_place,
    missing_folder,
    place_name,
    recorded_place,
    said_latents,
    take_addresses,
    views_of,
)
from foundation.presets import build, parse, to_dict
from foundation.shared_folder import absolute


@dataclass(kw_only=True)
class Options:
    encoder: Place | None = None
    encoders: tuple[Place, ...] = ()


def test_an_option_is_a_folder_or_an_address() -> None:
    words = ["--encoder", "http://gpu:8000/RUN", "--encoders", "runs/a", "https://gpu/b", "http:/odd/folder"]
    options = parse(Options, "", words)
    assert (options.encoder, options.encoders) == (
        Address("http://gpu:8000/RUN"),
        (Path("runs/a"), Address("https://gpu/b"), Path("http:/odd/folder")),
    )
    assert [type(one) for one in options.encoders] == [type(Path()), Address, type(Path())]
    over_a_preset = parse(Options, "", ["--encoder", "http://gpu:8000/RUN"], default=build(Options, {"encoder": "runs/a"}))
    assert isinstance(over_a_preset.encoder, Address)
    with pytest.raises(UserError, match=r"'http://gpu': an encoder's address is http://HOST:PORT/NAME"):
        parse(Options, "", ["--encoder", "http://gpu"])


def test_an_address_knows_its_parts_and_stays_one() -> None:
    for text, parts in {
        "http://gpu:8000/RUN": ("gpu", 8000, "RUN", False),
        "https://gpu/RUN-2.b/": ("gpu", 443, "RUN-2.b", True),
        "http://[::1]/RUN": ("::1", 80, "RUN", False),
    }.items():
        address = Address(text)
        for one in (address, pickle.loads(pickle.dumps(address)), copy.deepcopy(address), absolute(address), as_place(text)):
            assert isinstance(one, Address)
            assert (one, one.host, one.port, one.name, one.secure) == (text.rstrip("/"), *parts)
    assert place_name(address) == "RUN"
    assert place_name(Path("some/folder/")) == "folder"


@pytest.mark.parametrize(
    "text",
    [
        "http://gpu/a b",
        "http://gpu/a\n",
        "http://gpu/\x1b[2J",
        "http://gpu/..",
        "http://gpu/a#b",
        "http://gpu/é",
        "http://gpu:1" + "0" * 99 + "/a",
        "http://gpu/" + "a" * 2000,
    ],
    ids=ascii,
)
def test_what_is_no_address_is_an_error_of_one_line(text) -> None:
    with pytest.raises(UserError) as refused:
        Address(text)
    assert str(refused.value).isprintable()
    assert len(str(refused.value)) < 400


def test_a_file_holds_texts_that_no_address_is_made_of() -> None:
    options = build(Options, {"encoder": "http://gpu:8000/RUN", "encoders": ["http://gpu:8000/RUN"]})
    assert not isinstance(options.encoder, Address)
    assert not isinstance(options.encoders[0], Address)
    written = yaml.safe_dump(to_dict(parse(Options, "", ["--encoder", "http://gpu:8000/RUN"])))
    assert yaml.safe_load(written)["encoder"] == "http://gpu:8000/RUN"


def test_an_address_in_a_preset_is_taken_from_the_command_line_or_refused() -> None:
    for values in ({"encoder": "http://gpu/RUN"}, {"encoders": ["runs/a", "HTTP://gpu/RUN"]}):
        (key,) = values
        with pytest.raises(UserError, match=rf"mine\.yaml: says {key} = .*add --{key} yourself"):
            take_addresses(dict(values), ["mine.yaml", "--encoder2", "x"], "mine.yaml")
        for words in ([f"--{key}", "runs/b"], [f"--{key}=runs/b"]):
            left = dict(values)
            take_addresses(left, words, "mine.yaml")
            assert left == {}
    for values in ({"encoder": "runs/a"}, {"encoders": 7}, {"encoder": {"http://gpu/RUN": 1}}, {}):
        left = dict(values)
        take_addresses(left, [], "mine.yaml")
        assert left == values


def test_views_name_several_encoders_and_what_of_each_is_seen(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["--encoders", "a+http://gpu/b", "c,scale=global", "d,latents=x,scale=whiten+a", "e,f"]
    pair, scaled, both, plain = parse(Options, "", words).encoders
    assert pair == Views((View(Path("a")), View(Address("http://gpu/b"))))
    assert scaled == Views((View(Path("c"), None, "global"),))
    assert both == Views((View(Path("d"), "x", "whiten"), View(Path("a"))))
    assert plain == Path("e,f")
    assert [str(one) for one in (pair, scaled, both)] == words[1:4]
    assert to_dict(Options(encoder=both))["encoder"] == words[3]
    assert pickle.loads(pickle.dumps(both)) == both == as_place(str(both))
    assert absolute(both) == Views((View(tmp_path / "d", "x", "whiten"), View(tmp_path / "a")))
    assert place_name(pair) == "a+b"
    assert place_name(scaled) == "c,scale=global"
    assert views_of(both, "y", "unit") == (View(Path("d"), "x", "whiten"), View(Path("a"), "y", "unit"))
    assert [said_latents(views_of(one)) for one in (pair, both)] == [None, "x+"]
    (tmp_path / "a+b,scale=global").mkdir()
    assert as_place("a+b,scale=global") == Path("a+b,scale=global")
    assert missing_folder(Views((View(Path("a+b,scale=global")), View(Address("http://gpu/b")), View(Path("gone"))))) == Path("gone")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a+", r"encoders side by side are FOLDER\+FOLDER"),
        ("a,scale=unit,scale=global", "one with its choices FOLDER,latents=NAME,scale=NAME"),
        ("a,latents=", "one with its choices FOLDER,latents=NAME,scale=NAME"),
        ("a,scale=odd", "a scale is unit, global, whiten, not 'odd'"),
        ("a+http://gpu", "an encoder's address is http://HOST:PORT/NAME"),
    ],
)
def test_views_that_are_none_say_how_they_are_written(text, said) -> None:
    with pytest.raises(UserError, match=said):
        parse(Options, "", ["--encoder", text])


def test_no_file_names_an_address_in_views_and_folders_in_one_are_views() -> None:
    values = {"encoder": "a+b,scale=unit", "encoders": ["a", "a+c"]}
    take_addresses(values, [], "mine.yaml")
    options = build(Options, values)
    assert options.encoder == Views((View(Path("a")), View(Path("b"), None, "unit")))
    assert options.encoders == (Path("a"), Views((View(Path("a")), View(Path("c")))))
    with pytest.raises(UserError, match="no file says whom to connect to: add --encoder yourself"):
        take_addresses({"encoder": "a+http://gpu/b"}, [], "mine.yaml")
    assert recorded_place("http://gpu/b+a") == Path("http://gpu/b+a")
    assert recorded_place("a+b") == as_place("a+b")
