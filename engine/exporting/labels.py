"""The labels of a project as a table: what a person corrected, and what the folders said before."""

import csv
import io
from dataclasses import dataclass
from typing import BinaryIO

from engine.exporting.table import harmless, readable
from engine.project import Project

COLUMNS = ("path", "label", "was")


@dataclass(frozen=True, slots=True)
class Label:
    """The label of a picture. ``was`` is the one of its folder where it was corrected, else empty, as that is for none.

    ``path`` is relative to the project's folder of pictures.
    """

    path: str
    label: str
    was: str
    is_corrected: bool


def labels_of(project: Project, *, corrected_only: bool = False) -> list[Label]:
    """Return the labels of the pictures that have one and were not left out, by path."""
    before = project.labels_before()
    rows = [
        Label(picture.path, picture.label, before.get(picture.id) or "", picture.id in before)
        for picture in project.pictures(readable=True)
        if picture.label is not None and (picture.id in before or not corrected_only)
    ]
    return sorted(rows, key=lambda row: row.path)


def write_csv(labels: list[Label], file: BinaryIO) -> None:
    """Write a table of text in UTF-8 that no spreadsheet takes for formulas."""
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(COLUMNS)
    writer.writerows([[harmless(readable(cell)) for cell in (row.path, row.label, row.was)] for row in labels])
    file.write(text.getvalue().encode())


FILES = {"csv": write_csv}
"""By the names of ``catalogue.EXPORTS``."""
