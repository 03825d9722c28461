"""A hint for an unknown name is short, however many names are known."""

import pytest

from foundation.errors import nearest


@pytest.mark.parametrize(
    ("name", "known", "hint"),
    [
        ("conv", ["conv_vae", "pca"], "did you mean 'conv_vae'?"),
        ("xyz", ["b", "a", "b"], "known: a, b"),
        ("xyz", [], "none is known"),
    ],
)
def test_the_nearest_name_is_told_or_the_few_there_are(name, known, hint) -> None:
    assert nearest(name, known) == hint


def test_of_many_names_five_are_told_none_twice() -> None:
    known = [f"{letter}{number}" for letter in "abcdefgh" for number in range(3)]
    hint = nearest("zzzzz", [*known, *known])
    listed = hint.removeprefix("known: ").removesuffix(" and 19 more").split(", ")
    assert len(set(listed)) == len(listed) == 5
    assert set(listed) <= set(known)
