"""``dinoviz``: the window."""

import sys


def main() -> None:
    """Say that this version has no window yet, and what there is."""
    sys.exit("This version of dinoviz has no window yet. Everything it does is in the engine: engine --help.")


if __name__ == "__main__":
    main()
