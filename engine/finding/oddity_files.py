"""What is odd and what is typical in a set, as it is kept beside the features.

    sets/0001/
      oddities.json        outliers, labels in doubt, and the typical pictures of each class

Light on purpose: whoever shows the lists needs nothing that makes them, see `engine.finding.oddities`.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from engine.errors import BadInput
from engine.finding.labels import key_with_labels
from engine.records import read_record, write_record
from engine.sets import FeatureSet

FILE = "oddities.json"
REMAKE = "engine oddities PROJECT"

STANDS_OUT = 3.5  # robust z-score; Iglewicz and Hoaglin 1993, How to detect and handle outliers


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlier:
    """A picture far from others.

    ``isolation`` is 1 less its likeness to the 20th neighbour, 0 to 2; ``score`` how many robust standard deviations
    that is above the median of the set; from ``STANDS_OUT`` on the picture stands out.
    """

    picture: int
    isolation: float
    score: float
    stands_out: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Suspect:
    """A picture whose label may be wrong.

    Args:
        picture: its id.
        label: that it has.
        likely: that its neighbours, or its copy, have.
        confidence: share of the neighbours' votes for ``likely``, 0 to 1.
        own: share of the votes for the label that it has.
        copy: id of a copy of it with the label ``likely``; None where there is none.
        copy_likeness: of that copy.
    """

    picture: int
    label: str
    likely: str
    confidence: float
    own: float
    copy: int | None = None
    copy_likeness: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Prototypes:
    """The pictures that stand for a class: the most central one, then those that cover the most of the rest.

    ``label`` is None for all pictures of a set without labels.
    """

    label: str | None
    n_pictures: int
    pictures: list[int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Oddities:
    """What is odd and what is typical in a set.

    Args:
        made_from: key of the set.
        n_pictures: that were seen.
        n_standing_out: pictures that stand out; all of them are listed, up to ``OUTLIERS_LISTED``.
        outliers: the most isolated pictures first.
        n_judged: pictures with a label and neighbours enough to judge it.
        suspects: those with a copy of another label first, then the most doubtful.
        prototypes: by label.
    """

    made_from: str
    n_pictures: int
    n_standing_out: int
    outliers: list[Outlier]
    n_judged: int
    suspects: list[Suspect]
    prototypes: list[Prototypes]


def keep_oddities(features: FeatureSet, found: Oddities) -> None:
    """Write the lists into the folder of the set, whose lock is held.

    Raises:
        DiskFull: there is no room.
    """
    write_record(features.folder / FILE, found)


def read_oddities(features: FeatureSet, labels: Mapping[int, str]) -> Oddities:
    """Return the lists that were made last: for the window.

    Raises:
        BadInput: there are none, or they are of other features or labels than now.
    """
    found = read_record(features.folder / FILE, Oddities)
    if found is None:
        raise features.lacking("list of oddities", REMAKE)
    if found.made_from != key_with_labels(features, labels):
        raise BadInput("The list of oddities is out of date: pictures or labels changed.", f"Make it again: {REMAKE}")
    return found
