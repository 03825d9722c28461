import pytest

from foundation.env_options import take_env_options
from foundation.errors import UserError


def test_options_of_the_environment_are_parted_from_the_rest():
    argv = ["minerl_treechop", "--env.server", "voxel", "--steps", "10", "--env.start-timeout=60", "--env.headless", "yes"]
    rest, options = take_env_options(argv)
    assert rest == ["minerl_treechop", "--steps", "10"]
    assert options == {"server": "voxel", "start_timeout": 60, "headless": True}


@pytest.mark.parametrize("text", ["/usr/bin/python3.9", "3.9/bin/python", "{", "[1]", "null", "2020-01-01", ""])
def test_what_is_no_number_and_no_yes_or_no_stays_the_text_it_is(text):
    assert take_env_options([f"--env.python={text}"]) == ([], {"python": text})


def test_a_number_below_zero_is_a_value():
    assert take_env_options(["--env.low", "-3"])[1] == {"low": -3}


@pytest.mark.parametrize("argv", [["--env.server"], ["--env.server", "--steps", "3"]])
def test_a_name_without_a_value_is_refused(argv):
    with pytest.raises(UserError, match=r"--env\.server needs a value"):
        take_env_options(argv)
