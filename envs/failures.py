"""An error that the code of an environment raised, as the one line that the user gets and the traceback that a log keeps."""

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from foundation.errors import UserError
from foundation.files import write_atomically

LOG = "environment_error.log"


class EnvironmentFailed(UserError):
    """An environment raised something: one line with its name, the world's seed and the step; `details` is the traceback.

    `may_pass` says that another attempt may go well: a file or a connection failed.
    """

    def __init__(self, message: str, details: str, may_pass: bool) -> None:
        super().__init__(message)
        self.details, self.may_pass = details, may_pass

    def __reduce__(self) -> Any:
        return EnvironmentFailed, (str(self), self.details, self.may_pass)

    @classmethod
    def of(cls, error: Exception, environment: str, when: str) -> "EnvironmentFailed":
        """Return what to raise for an error that `environment` raised in a world, and at a step, that `when` names."""
        what = f"{type(error).__name__}: {' '.join(str(error).split())}".removesuffix(": ")
        last = traceback.extract_tb(error.__traceback__)[-1]
        message = f"{environment} failed in {when}: {what} ({last.filename}, line {last.lineno})"
        return cls(message, "".join(traceback.format_exception(error)), isinstance(error, OSError))


@contextmanager
def log_of_failures(folder: Path) -> Iterator[None]:
    """Write the traceback of an environment's failure in the block to a log in `folder`, and name the log in what is raised."""
    try:
        yield
    except EnvironmentFailed as error:
        write_atomically(folder / LOG, f"{error}\n\n{error.details}")
        raise EnvironmentFailed(f"{error}; the traceback is in {folder / LOG}", error.details, error.may_pass) from error
