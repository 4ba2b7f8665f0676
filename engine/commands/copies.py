"""The copies of pictures in a set: found, kept with it, and what is said about how they were found."""

from collections.abc import Mapping
from pathlib import Path

from engine.commands import StopSignal
from engine.commands.listing import neighbours_of
from engine.finding.duplicate_files import Duplicates, keep_duplicates
from engine.finding.duplicates import find_duplicates
from engine.project import Picture
from engine.protocol import Noticed, Tell
from engine.sets import FeatureSet
from engine.shards import is_there
from engine.store import sole_writer

SOFTENED = {
    "shrunk": "The pictures are few for whitening; it was softened, and likeness is judged less sharply.",
    "none": "The pictures are too few to learn how they vary; they are compared by plain cosine.",
}


def copies_in(
    features: FeatureSet,
    pictures: Mapping[int, Picture],
    root: Path,
    tell: Tell,
    *,
    threshold: float | None = None,
    is_kept: bool = True,
) -> Duplicates:
    """Find the copies in a set, and keep them with it; its neighbours first where they are not there.

    Args:
        features: the set.
        pictures: of the project, by id; those with a problem are left out, as are those whose file is gone.
        root: folder of the pictures.
        tell: is told of the progress.
        threshold: likeness from which pictures are copies; the suggested one where absent.
        is_kept: else they are only returned.

    Raises:
        Busy: another process writes the set.
        Stopped: by Ctrl-C or the system; only finished blocks of the neighbours are kept.
    """
    with StopSignal() as stop:
        table = neighbours_of(features, tell, stop)
    pixels = {number: (picture.rows or 0) * (picture.cols or 0) for number, picture in pictures.items()}
    left_out = {number for number in features.ids_N.tolist() if number not in pictures or pictures[number].problem}
    with sole_writer(features.folder, "writes the set"):
        found = find_duplicates(features, table, pixels, tell, threshold=threshold, left_out=left_out)
        if gone := _gone(found, pictures, root, tell):
            text = f"{len(gone):,} pictures with copies are not in their folder any more and were left out."
            tell(Noticed(level="warning", text=text, hint=f"Bring the table up to date: engine scan '{root}'."))
            left_out |= gone
            found = find_duplicates(features, table, pixels, tell, threshold=threshold, left_out=left_out)
        if is_kept:
            keep_duplicates(features, found)
    if found.whitening in SOFTENED:
        tell(Noticed(level="info", text=SOFTENED[found.whitening]))
    seen = set(features.ids_N.tolist())
    n_new = sum(picture.problem is None and number not in seen for number, picture in pictures.items())
    if n_new:
        text = f"{n_new:,} pictures of the project are not in this set and were left out."
        tell(Noticed(level="warning", text=text, hint="Bring it up to date: engine embed PROJECT."))
    return found


def _gone(found: Duplicates, pictures: Mapping[int, Picture], root: Path, tell: Tell) -> set[int]:
    """Return the ids of pictures in groups whose file is not there; the others are not looked for, as they are many."""
    if not root.is_dir():
        text = f"The pictures' folder '{root}' is not there; that the files to keep exist was not checked."
        tell(Noticed(level="warning", text=text))
        return set()
    members = {member.picture for group in found.groups for member in group.members}
    return {number for number in members if not _is_there(root / pictures[number].path)}


def _is_there(path: Path) -> bool:
    try:
        return is_there(path)
    except OSError:  # in a folder that may not be looked into
        return False
