"""The reference's numbers, where they are."""

import pytest

from tests.encoders.efficientmorl.golden import FOLDER, Golden


@pytest.fixture(scope="session")
def golden() -> Golden:
    if not FOLDER.is_dir():
        pytest.skip("needs the reference's numbers in ../shared/golden/efficientmorl")
    return Golden(FOLDER)
