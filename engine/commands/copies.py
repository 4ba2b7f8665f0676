"""The copies of pictures in a set: found, kept with it, and what is said about how they were found."""

from collections.abc import Mapping

from engine.commands import StopSignal
from engine.commands.listing import neighbours_of
from engine.finding.duplicates import Duplicates, find_duplicates, keep_duplicates
from engine.project import Picture
from engine.protocol import Noticed, Tell
from engine.sets import FeatureSet

SOFTENED = {
    "shrunk": "The pictures are few for whitening; it was softened, and likeness is judged less sharply.",
    "none": "The pictures are too few to learn how they vary; they are compared by plain cosine.",
}


def copies_in(
    features: FeatureSet, pictures: Mapping[int, Picture], tell: Tell, *, threshold: float | None = None
) -> Duplicates:
    """Find the copies in a set, and keep them with it; its neighbours first where they are not there.

    Raises:
        Stopped: by Ctrl-C or the system; only finished blocks of the neighbours are kept.
    """
    with StopSignal() as stop:
        table = neighbours_of(features, tell, stop)
    pixels = {number: (picture.rows or 0) * (picture.cols or 0) for number, picture in pictures.items()}
    found = find_duplicates(features, table, pixels, tell, threshold=threshold)
    keep_duplicates(features, found)
    if found.whitening in SOFTENED:
        tell(Noticed(level="info", text=SOFTENED[found.whitening]))
    seen = set(features.ids_N.tolist())
    n_new = sum(picture.problem is None and number not in seen for number, picture in pictures.items())
    if n_new:
        text = f"{n_new:,} pictures of the project are not in this set and were left out."
        tell(Noticed(level="warning", text=text, hint="Bring it up to date: engine embed PROJECT."))
    return found
