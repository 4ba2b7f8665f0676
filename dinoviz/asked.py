"""What was asked of Find, step by step, and what was found: values, without Qt.

What is asked is part of what the window remembers (``choices.FindChoices``): whoever wants pictures like some others
puts a question at the end of the trail, and Find shows its answer.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from dinoviz.choices import FindChoices
from dinoviz.table import Ids, PictureTable, no_ids
from engine.questions import MOST_HITS, MOST_PICTURES, Hit, Hits, PartHit, PartHits

Picture = int | str
"""A picture of the project by its id, any other by the path of its file."""
Box = tuple[float, float, float, float]
"""Top, left, bottom and right in pixels of the upright picture."""
How = Literal["mean", "any"]

MOST_STEPS = 30
"""Steps of the trail that are kept."""
COUNTS = (20, 50, 100, 200, 500, 1000)
"""Numbers of results to choose from."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One question.

    Args:
        pictures: that others should be like.
        box: part of the first picture that is looked for; None for like the whole.
        how: near to the mean of several pictures, or to any of them.
    """

    pictures: tuple[Picture, ...] = ()
    box: Box | None = None
    how: How = "mean"

    @property
    def is_part(self) -> bool:
        """A part is looked for."""
        return self.box is not None and bool(self.pictures)

    @property
    def ids(self) -> tuple[int, ...]:
        """Those of the project."""
        return tuple(one for one in self.pictures if isinstance(one, int))

    @property
    def files(self) -> tuple[str, ...]:
        """Those from elsewhere."""
        return tuple(one for one in self.pictures if isinstance(one, str))

    def with_pictures(self, pictures: Iterable[Picture]) -> "Asked":
        """Return the question with some more pictures; a box is of one picture only."""
        joined = tuple(dict.fromkeys((*self.pictures, *pictures)))[:MOST_PICTURES]
        return replace(self, pictures=joined, box=self.box if joined == self.pictures else None)

    def without(self, picture: Picture) -> "Asked":
        """Return the question with a picture fewer; its box goes with the first one."""
        rest = tuple(one for one in self.pictures if one != picture)
        return replace(self, pictures=rest, box=self.box if rest[:1] == self.pictures[:1] else None)

    def known(self, table: PictureTable) -> "Asked":
        """Return the question without pictures that are not in the project any more."""
        there = tuple(one for one in self.pictures if isinstance(one, str) or table.contains(one))
        return self if there == self.pictures else Asked(pictures=there, how=self.how)


def step_of(kept: object) -> Asked:
    """Return a question from what is remembered of it; an empty one where that makes no sense."""
    match kept:
        case (tuple(pictures), tuple(box), str(how)):
            there = tuple(one for one in pictures if isinstance(one, int | str) and not isinstance(one, bool))
            is_box = len(box) == 4 and all(isinstance(edge, int | float) for edge in box)
            return Asked(
                pictures=there[:MOST_PICTURES],
                box=tuple(map(float, box)) if is_box and there else None,  # type: ignore[arg-type]
                how="any" if how == "any" else "mean",
            )
    return Asked()


def asked_of(choices: FindChoices) -> Asked:
    """Return the question that is shown."""
    return step_of(choices.trail[choices.step]) if 0 <= choices.step < len(choices.trail) else Asked()


def asking(choices: FindChoices, asked: Asked) -> FindChoices:
    """Return the choices after a question: a new step, or another wording of the one that is shown.

    What begins with the same picture is another wording: a box drawn on it, a second picture added to it.
    """
    now = asked_of(choices)
    is_wording = bool(now.pictures) and asked.pictures[:1] == now.pictures[:1]
    if not asked.pictures:
        return replace(choices, trail=choices.trail[: choices.step], step=max(0, choices.step - 1))
    before = choices.trail[: choices.step + (0 if is_wording or not choices.trail else 1)]
    trail = (*before, _kept(asked))[-MOST_STEPS:]
    return replace(choices, trail=trail, step=len(trail) - 1, part="search")


def _kept(asked: Asked) -> tuple[object, ...]:
    return (asked.pictures, asked.box or (), asked.how)


def stepping(choices: FindChoices, by: int) -> FindChoices:
    """Return the choices some steps back or further on the trail."""
    return replace(choices, step=min(max(0, choices.step + by), max(0, len(choices.trail) - 1)))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Found:
    """What was found for a question.

    Args:
        asked: the question.
        ids: pictures, likest first.
        likeness: cosine by id.
        boxes: where the part is, by id, as shares of the picture: top, left, bottom, right; none where the file
            changed since it was embedded.
        mirrored: pictures in which the part is mirrored.
        changed: pictures whose file is another one by now.
        took_s: from the question to the answer.
    """

    asked: Asked = field(default_factory=Asked)
    ids: Ids = field(default_factory=no_ids)
    likeness: Mapping[int, float] = field(default_factory=dict)
    boxes: Mapping[int, Box] = field(default_factory=dict)
    mirrored: frozenset[int] = frozenset()
    changed: frozenset[int] = frozenset()
    took_s: float = 0.0


def wanted(most: int, n_hidden: int, *, is_filtered: bool) -> int:
    """Return how many pictures to ask for, so that ``most`` are left without those that are not to be shown."""
    return MOST_HITS if is_filtered else min(MOST_HITS, most + n_hidden + 1)  # a part is found in its own picture, too


def found_of(
    answer: Hits | PartHits, asked: Asked, table: PictureTable, most: int, *, hidden: frozenset[int], among: Ids | None
) -> Found:
    """Return the pictures of an answer that are to be shown.

    Args:
        answer: of the search service.
        asked: the question; its own pictures are left out.
        table: of the project.
        most: pictures wanted.
        hidden: pictures that were left out of the project.
        among: only these; None for all.
    """
    hits: Sequence[Hit | PartHit] = answer.hits
    if among is not None:  # by a table of ids: both may be long
        is_among = np.isin(np.array([hit.id for hit in hits], np.int64), among, kind="table")
        hits = tuple(hit for hit, is_shown in zip(hits, is_among, strict=True) if is_shown)
    left_out = hidden | set(asked.ids)
    hits = tuple(islice((hit for hit in hits if hit.id not in left_out and table.contains(hit.id)), most))
    parts = [hit for hit in hits if isinstance(hit, PartHit)]
    return Found(
        asked=asked,
        ids=np.array([hit.id for hit in hits], np.int64),
        likeness={hit.id: hit.likeness for hit in hits},
        boxes={hit.id: share_of(hit.box, hit.id, table) for hit in parts if not hit.is_changed},
        mirrored=frozenset(hit.id for hit in parts if hit.is_mirrored),
        changed=frozenset(hit.id for hit in hits if hit.is_changed),
    )


def share_of(box: Box, picture: int, table: PictureTable) -> Box:
    """Return a box in pixels as shares of the height and width of a picture."""
    row = table.row_of(picture)
    height, width = max(1, int(table.heights_N[row])), max(1, int(table.widths_N[row]))
    top, left, bottom, right = box
    return top / height, left / width, bottom / height, right / width


def name_of(picture: Picture, table: PictureTable) -> str:
    """Return the file name of a picture."""
    if isinstance(picture, str):
        return picture.replace("\\", "/").rpartition("/")[2]
    return table.name(picture) if table.contains(picture) else ""


def of_files(paths: Iterable[Path], table: PictureTable) -> tuple[Picture, ...]:
    """Return pictures by their files, those of the project by their ids."""
    return tuple(_id_at(path, table) or str(path) for path in paths)


def _id_at(path: Path, table: PictureTable) -> int | None:
    try:
        inside = path.relative_to(table.folder).as_posix()
    except ValueError:
        return None
    rows = np.flatnonzero(table.is_named(inside))
    return next((int(table.ids_N[row]) for row in rows if table.path(int(table.ids_N[row])) == inside), None)


def patches_bytes(sizes: ArrayLike, side: int, patch: int, width: int) -> int:
    """Return about what the patches of pictures take on the disk: two bytes a number.

    Args:
        sizes: height and width of pictures, (N, 2).
        side: shorter side they are seen at, px.
        patch: side of a patch, px.
        width: numbers of a patch.
    """
    heights_widths = np.asarray(sizes, np.float64).reshape(-1, 2)
    if not len(heights_widths):
        return 0
    resized = heights_widths * (side / heights_widths.min(axis=1, keepdims=True).clip(1))
    return int((resized // patch).prod(axis=1).sum()) * width * 2
