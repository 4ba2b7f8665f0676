"""Arguments that several commands take, each with its one help text.

Loads nothing heavy: `engine --help` and the services read it.
"""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from engine.catalogue import formats_of
from engine.settings import AUTO, Device

if TYPE_CHECKING:
    from engine.seeing.attention import Query


def add_set(parser: argparse.ArgumentParser) -> None:
    """Add ``--set``, as ``Project.features`` takes it."""
    parser.add_argument("--set", help="number or model of a set of features (default: the one embedded into last)")


def add_model(parser: argparse.ArgumentParser, *, has_role: bool = True) -> None:
    """Add ``--model`` and, but for commands that read no checkpoints, ``--role``."""
    parser.add_argument(
        "--model", required=True, help="a run's folder, a file of weights, or a name of engine models list"
    )
    if has_role:
        add_role(parser)


def add_role(parser: argparse.ArgumentParser) -> None:
    """Add ``--role``."""
    parser.add_argument(
        "--role", choices=("teacher", "student"), default="teacher", help="which network of a checkpoint"
    )


def add_device(parser: argparse.ArgumentParser) -> None:
    """Add ``--device``, as ``machine.find_device`` takes it."""
    parser.add_argument("--device", default=AUTO, choices=(AUTO, *get_args(Device)), help="where to compute")


def add_target(parser: argparse.ArgumentParser, what: str) -> None:
    """Add ``--format``, ``--out`` and ``--overwrite`` of something that ``catalogue.EXPORTS`` lists."""
    formats = formats_of(what)
    parser.add_argument("--format", required=True, choices=tuple(formats), metavar="F", help=", ".join(formats))
    has_files = any(row.ending for row in formats.values())
    help_ = "file or folder to write, as the format is" if has_files else "folder to make"
    parser.add_argument("--out", required=True, type=Path, help=help_)
    parser.add_argument("--overwrite", action="store_true", help="replace an export that is there")


def formats_in_words(first: str, what: str) -> str:
    """Return the description of a verb of ``engine export``: a sentence, and below it what each format is."""
    rows = formats_of(what).values()
    width = max(len(row.format) for row in rows)
    return "\n".join([first, "", "formats:", *(f"  {row.format:<{width}}  {row.about}" for row in rows)])


def query_of(text: str) -> "Query":
    """Return who looks, for argparse: cls, or a patch.

    Raises:
        ArgumentTypeError: it is neither.
    """
    if text == "cls":
        return "cls"
    words = text.split(",")
    if len(words) != 2 or not all(word.isdecimal() for word in words):
        raise argparse.ArgumentTypeError(f"'{text}' is no patch: write cls, or row and column of a patch: 10,12")
    return int(words[0]), int(words[1])
