"""``engine VERB …``: argv to a command, its last word to an exit code."""

import sys

from engine.terminal import run


def main() -> None:
    """Run the command of the command line and leave with its exit code."""
    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
