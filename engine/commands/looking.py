"""What commands that look at pictures share: which were named, the backbone, and what is told at the end."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from engine.commands import Outcome
from engine.errors import EXIT_PARTIAL, BadInput, BadRecipe
from engine.images import find_pictures
from engine.machine import find_device
from engine.models.weights import Backbone, load_backbone
from engine.protocol import Noticed, Tell
from engine.seeing.files import Looked
from engine.shards import is_there


def named_pictures(named: Sequence[Path]) -> list[Path]:
    """Return the files named and those of the folders named.

    Raises:
        BadInput: one is not there, or there is none at all.
    """
    paths: list[Path] = []
    for path in named:
        if path.is_dir():
            paths += [path / found.path for found in find_pictures(path).pictures]
        elif is_there(path):
            paths.append(path)
        else:
            raise BadInput(f"There is no picture '{path}'.", "Check the path.")
    if not paths:
        raise BadInput("There are no pictures there.", "Name pictures, or a folder of them.")
    return paths


def loaded(arguments: argparse.Namespace, tell: Tell) -> Backbone:
    """Return the backbone of ``--model`` and ``--role`` on ``--device``, and tell what is to be known about it.

    Raises:
        BadInput: there is no such model, or no such device.
        BadWeights: it cannot be used.
    """
    backbone = load_backbone(arguments.model, role=arguments.role)
    backbone.model.to(find_device(arguments.device).device)
    for notice in backbone.notices:
        tell(Noticed(level="info", text=notice))
    return backbone


def looked_outcome(rows: Sequence[Looked], out: Path) -> Outcome:
    """Return what was written, and what was left out and why."""
    data = {
        "out": str(out),
        "pictures": [
            {
                "picture": str(row.path),
                "size": list(row.size),
                "files": [str(file) for file in row.files],
                "areas": {name: area._asdict() for name, area in row.areas.items()},
                "problem": row.problem,
            }
            for row in rows
        ],
    }
    broken = [row for row in rows if row.problem]
    n_files = sum(len(row.files) for row in rows)
    lines = [f"{out}: {n_files:,} files for {len(rows) - len(broken):,} pictures"]
    lines += [f"  left out: {row.path}: {row.problem}" for row in broken]
    return Outcome(data, "\n".join(lines), EXIT_PARTIAL if broken else 0)


def whole_numbers(flag: str, text: str) -> tuple[int, ...]:
    """Return the whole numbers of a list with commas.

    Raises:
        BadRecipe: it is none.
    """
    try:
        return tuple(int(word) for word in text.split(","))
    except ValueError as problem:
        raise BadRecipe(f"{flag} '{text}' is no list of whole numbers.", "Separate them by commas: 0,2,5.") from problem
