"""Say what of this machine the product can use, and the one command that helps where something is missing: make check"""

import sys

from foundation.command import run


def main() -> int:
    from foundation.setup_command import check

    return check(sys.argv[1:])


if __name__ == "__main__":
    run(main)
