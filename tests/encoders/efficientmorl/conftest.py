"""The reference's numbers, where they are, and one thread."""

from collections.abc import Iterator

import pytest
import torch

from tests.encoders.efficientmorl.golden import FOLDER, Golden


@pytest.fixture(scope="session")
def golden() -> Golden:
    if not FOLDER.is_dir():
        pytest.skip("needs the reference's numbers in ../shared/golden/efficientmorl")
    return Golden(FOLDER)


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
