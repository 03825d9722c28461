import pytest

from foundation.command import run
from foundation.errors import UserError, nearest


def test_a_users_mistake_is_one_line_and_status_2(capsys):
    def main():
        raise UserError("no such store: x")

    with pytest.raises(SystemExit) as stop:
        run(main)
    assert stop.value.code == 2
    assert capsys.readouterr().err == "error: no such store: x\n"


def test_a_bug_is_not_hidden_as_a_users_mistake():
    def main():
        raise ValueError("bug")

    with pytest.raises(ValueError, match="bug"):
        run(main)


def test_the_nearest_name_is_offered_and_all_of_them_otherwise():
    assert nearest("conv_va", ["conv_vae", "pca"]) == "did you mean 'conv_vae'?"
    assert nearest("zzz", ["b", "a"]) == "known: a, b"
