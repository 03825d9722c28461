"""An option that takes a folder or an address tells them apart, and no file names an address."""

import copy
import pickle
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from foundation.errors import UserError
from foundation.places import Address, Place, as_place, place_name, take_addresses
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
