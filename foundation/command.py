"""How every command ends: a user's mistake is one line and status 2."""

import signal
import sys
from collections.abc import Callable

from foundation.errors import UserError


def run(main: Callable[[], int | None]) -> None:
    """Call `main` and exit with its status; print a `UserError` as one line and exit 2; Ctrl-C exits 130."""
    try:
        status = main() or 0
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        status = 2
    except KeyboardInterrupt:
        status = 128 + signal.SIGINT
    except BrokenPipeError:
        sys.stderr.close()
        status = 0
    sys.exit(status)
