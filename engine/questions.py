"""What can be asked of a resident service, and what it answers: values, one class each.

A question crosses the pipe as one JSON object with a ``kind``; ``question_from`` makes it the class of that kind or
refuses it in a sentence, so that a service meets values of the right types only. An answer holds small values; arrays
are files that it names. To add a question: a class here, in the union of its service, and so for its answer.

    attention, mask, colours, likeness, matches, where     about pictures
    crops                                         what training would see of a picture
    describe, showpart, explain                   about pictures, seen as those of a set
    load, forget                                  which backbones are kept
    release, reclaim                              the GPU, while something else needs it
    similar, part                                 what is like something in a project
    status, ping                                  about the service

Knows no torch, so that the window can read and write all of it. Lengths are pixels of the upright picture, height
before width; rows and columns count patches from 0.
"""

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, get_args

from pydantic import Field, PlainValidator, TypeAdapter, ValidationError

from engine.errors import BadRecipe

MOST_PICTURES = 64
"""Pictures of one question: their tokens are all held at once, some 30 MB each for a ViT-S/16 at 480 px."""
MOST_HITS = 10_000
"""Pictures that one question can find."""
MOST_PATCHES = 10_000
"""Patches of one part."""
MOST_MATCHES = 300
"""Matches between two pictures that one question can ask for: more lines than can be followed by eye."""
LARGEST_SIDE = 8192
"""Longest of sides that can be asked for; memory refuses most networks long before."""


def _as_path(value: object) -> Path:
    if not isinstance(value, str | Path) or not str(value) or "\0" in str(value):
        raise ValueError("should be the path of a file")
    return Path(value)


Text = Annotated[str, Field(strict=True)]
Whole = Annotated[int, Field(strict=True)]
Count = Annotated[int, Field(strict=True, ge=0)]
Wanted = Annotated[int, Field(strict=True, ge=1, le=MOST_HITS)]
Share = Annotated[float, Field(strict=True, gt=0, le=1)]
Number = Annotated[float, Field(strict=True)]
YesNo = Annotated[bool, Field(strict=True)]
File = Annotated[Path, PlainValidator(_as_path)]
Layer = Whole | Literal["rollout"]
Token = Literal["cls"] | tuple[Count, Count]


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What every question is: nothing unknown is taken, and no number that is none.

    ``changes_service``: it is never superseded by a newer one, see ``channel``.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid", "allow_inf_nan": False}
    changes_service: ClassVar[bool] = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Change(Asked):
    """A question that asks to change what is kept."""

    changes_service: ClassVar[bool] = True


@dataclass(frozen=True, slots=True, kw_only=True)
class OfPicture(Asked):
    """What every question about a picture says: which, through which backbone, and how large it is seen.

    Args:
        picture: a path; where the service has a project, relative to its folder of pictures.
        model: as it was loaded; empty is the one the service began with.
        side: shorter side at which it is seen, px.
        is_square: squeeze it to a square.
    """

    picture: File
    model: Text = ""
    side: Annotated[int, Field(strict=True, ge=1, le=LARGEST_SIDE)] = 480
    is_square: YesNo = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Attention(OfPicture):
    """What a token looks at: answered by ``Maps``. Of a rollout there is one head."""

    layer: Layer = -1
    query: Token = "cls"
    heads: tuple[Count, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Mask(OfPicture):
    """The patches that hold a share of the attention: answered by ``MaskMade``.

    Args:
        layer: as in ``Attention``.
        query: as in ``Attention``.
        of: a head, the mean over the heads, or the union of the masks of all heads.
        keep: share of the attention.
        smallest: connected parts of fewer patches are left out.
    """

    layer: Layer = -1
    query: Token = "cls"
    of: Count | Literal["mean", "union"] = "mean"
    keep: Share = 0.6
    smallest: Count = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Colours(OfPicture):
    """The first three principal components of patches as colours: answered by ``Coloured``.

    Args:
        together: further pictures; all are coloured by one palette, so that equal parts get equal colours.
        layer: whose output; -1 is the last.
        style: as in ``seeing.palette.STYLES``.
        foreground: found by itself, none, or where to cut, in standard deviations of the first component.
        is_flipped: subject and ground change places.
        is_opened: drop what is thinner than three patches from the foreground.
        palette: a file of a palette to use instead of one fitted on these pictures; it has a style of its own.
        save: file to write the palette to.
    """

    together: Annotated[tuple[File, ...], Field(max_length=MOST_PICTURES - 1)] = ()
    layer: Whole = -1
    style: Literal["dinov2", "notebook", "dinov3"] = "dinov2"
    foreground: Literal["auto", "off"] | Number = "auto"
    is_flipped: YesNo = False
    is_opened: YesNo = False
    palette: File | None = None
    save: File | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Likeness(OfPicture):
    """How alike every patch is to one patch, cosine: answered by ``Likenesses``, the picture itself first.

    Args:
        patch: row and column.
        others: further pictures.
        layer: whose output; -1 is the last.
    """

    patch: tuple[Count, Count]
    others: Annotated[tuple[File, ...], Field(max_length=MOST_PICTURES - 1)] = ()
    layer: Whole = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class Matches(OfPicture):
    """Which patches of two pictures are each other's best match: answered by ``Matched``.

    Args:
        other: the second picture.
        layer: whose output; -1 is the last.
        most: matches wanted, spread over the pictures.
        least: cosine that a match has at least.
        is_foreground: only between the subjects of both.
    """

    other: File
    layer: Whole = -1
    most: Annotated[int, Field(strict=True, ge=1, le=MOST_MATCHES)] = 30
    least: Annotated[float, Field(strict=True, ge=-1, le=1)] = -1.0
    is_foreground: YesNo = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Where(OfPicture):
    """The patch under a pixel of the upright picture: answered by ``Place``."""

    y: Count
    x: Count


@dataclass(frozen=True, slots=True, kw_only=True)
class AsInSet(Asked):
    """What every question says that is answered by seeing pictures as those of a set were seen.

    Args:
        features: folder of the set, absolute. It is refused where the set's backbone is another one by now.
    """

    features: File


@dataclass(frozen=True, slots=True, kw_only=True)
class Describe(AsInSet):
    """The vectors of pictures from anywhere, to be asked ``Similar`` with: answered by ``Vectors``."""

    pictures: Annotated[tuple[File, ...], Field(min_length=1, max_length=MOST_PICTURES)]


@dataclass(frozen=True, slots=True, kw_only=True)
class ShowPart(AsInSet):
    """A part of a picture, to be asked ``Part`` with: answered by ``PartShown``.

    Args:
        picture: a path, as in ``OfPicture``.
        box: of the part: top, left, bottom and right in pixels of the upright picture.
        patches: or rows and columns of patches that cover it, as the set sees the picture.
    """

    picture: File
    box: tuple[Number, Number, Number, Number] | None = None
    patches: Annotated[tuple[tuple[Count, Count], ...], Field(max_length=MOST_PATCHES)] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Explain(AsInSet):
    """Which parts of two pictures have a likeness in each other: answered by ``Explained``.

    Args:
        picture: a path, as in ``OfPicture``.
        other: another one.
        id: of the first picture in the project, where it is in it: what the set keeps of it is not made again.
        other_id: of the other one.
    """

    picture: File
    other: File
    id: Count | None = None
    other_id: Count | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Crops(Asked):
    """The crops that training would draw of a picture: answered by ``Cropped``. No backbone looks at them.

    Args:
        picture: a path; where the service has a project, relative to its folder of pictures.
        settings: every field of ``recipes.CropSettings``.
        seed: of the run.
        epoch: of the run; another one is another draw.
        sample: place of the picture among those of the run.
    """

    picture: File
    settings: Mapping[str, str | int | float | bool]
    seed: Count = 0
    epoch: Count = 0
    sample: Count = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Load(Change):
    """Keep a further backbone, or read one again that changed on the disk: answered by ``Model``."""

    model: Text


@dataclass(frozen=True, slots=True, kw_only=True)
class Forget(Change):
    """Drop a backbone and what it saw: answered by ``Done``."""

    model: Text


@dataclass(frozen=True, slots=True, kw_only=True)
class Release(Change):
    """Give the memory of the GPU back and answer from the CPU: answered by ``Done``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reclaim(Change):
    """Go back to the device that the service began with: answered by ``Done``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Status(Asked):
    """What the service keeps: answered by ``State``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ping(Asked):
    """Whether it is there: answered by ``Done``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lattice:
    """How patches lie on a picture: it was resized to ``resized`` and cut to whole patches at the top left.

    ``picture`` and ``resized`` are height and width in pixels; ``patch`` is the side of a patch in the resized one.
    """

    rows: int
    cols: int
    patch: int
    resized: tuple[int, int]
    picture: tuple[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Maps:
    """Attention: ``path`` is a .npy of float32 (heads, rows, cols); ``heads`` names them, ``layer`` counts from 0.

    A head sums to at most 1; the rest is the attention paid to CLS and registers.
    """

    path: str
    lattice: Lattice
    layer: Layer
    heads: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class MaskMade:
    """A mask: ``path`` is a .npy of bool (rows, cols); ``patches`` of it are True, ``share`` of all."""

    path: str
    lattice: Lattice
    patches: int
    share: float


@dataclass(frozen=True, slots=True, kw_only=True)
class OfOne:
    """An array about one of several pictures, in a .npy."""

    picture: str
    path: str
    lattice: Lattice


@dataclass(frozen=True, slots=True, kw_only=True)
class Coloured:
    """Colours in the order asked: uint8 (rows, cols, 3), RGB, black outside the foreground.

    ``rule`` is how the foreground was told and ``threshold`` where it was cut, in standard deviations; None where
    all patches are coloured.
    """

    pictures: tuple[OfOne, ...]
    rule: str
    threshold: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Likenesses:
    """Cosines in the order asked: float32 (rows, cols), -1 to 1."""

    pictures: tuple[OfOne, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Matched:
    """Matches, most alike first.

    ``path`` is a .npy of float32 (matches, 5): row and column in the first picture, row and column in the second,
    cosine. ``mutual`` is how many there are in all, ``fit`` how many fit what was asked.
    """

    path: str
    lattice: Lattice
    other: Lattice
    mutual: int
    fit: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A patch."""

    row: int
    col: int
    lattice: Lattice


@dataclass(frozen=True, slots=True, kw_only=True)
class Vectors:
    """Vectors in the order asked: ``path`` is a .npy of float32 (pictures, D)."""

    path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PartShown:
    """A part in its showings: ``path`` is a file of ``Templates``; ``box`` is around it, as in ``PartHit``."""

    path: str
    box: tuple[float, float, float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Explained:
    """What each patch finds in the other picture: its best cosine there, float32 (rows, cols), 0 to 1.

    A map lies over the share ``covers`` of the height and width of its picture, from the top left: what is less than a
    patch at the right and the bottom was not seen.
    """

    path: str
    covers: tuple[float, float]
    other_path: str
    other_covers: tuple[float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class CropDrawn:
    """What was drawn for one crop: its box, in pixels of the picture, and what was done to its pixels."""

    top: int
    left: int
    height: int
    width: int
    is_large: bool
    is_flipped: bool
    is_jittered: bool
    is_grey: bool
    is_blurred: bool
    is_solarized: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Cropped:
    """Crops as a network is given them: two .npy of uint8 (crops, side, side, 3), RGB; the large ones come first.

    ``size`` is height and width of the upright picture.
    """

    large: str
    small: str
    drawn: tuple[CropDrawn, ...]
    size: tuple[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A backbone that is kept. ``heads``, ``depth`` and ``patch`` are 0 where it has no attention."""

    model: str
    sha256: str
    width: int
    depth: int
    heads: int
    registers: int
    patch: int


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """What a vision service keeps: backbones, and pictures in ``kept_bytes`` of at most ``room_bytes``."""

    device: str
    models: tuple[Model, ...]
    pictures: int
    kept_bytes: int
    room_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """It was done, and there is nothing more to say."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Similar(Asked):
    """The pictures nearest to some: answered by ``Hits``, without the asked ones themselves.

    Args:
        pictures: ids of pictures of the project.
        vectors: a .npy of float (n, D) from the set's backbone, for others.
        how: near to the mean of what is asked, or to any of it.
        most: pictures wanted.
    """

    pictures: tuple[Count, ...] = ()
    vectors: File | None = None
    how: Literal["mean", "any"] = "mean"
    most: Wanted = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Part(Asked):
    """The pictures that hold a part of another one: answered by ``PartHits``.

    Args:
        templates: a file of ``templates.Templates`` from the set's backbone.
        most: pictures wanted.
    """

    templates: File
    most: Wanted = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Hit:
    """A picture that was found; ``picture`` is relative to the project's folder, ``likeness`` a cosine.

    ``is_changed`` where the file is another one by now than the one that was embedded.
    """

    id: int
    picture: str
    likeness: float
    is_changed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Hits:
    """Pictures, best first."""

    hits: tuple[Hit, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PartHit:
    """Where a part was found: ``box`` is top, left, bottom and right in pixels of the upright picture."""

    id: int
    picture: str
    likeness: float
    box: tuple[float, float, float, float]
    is_mirrored: bool
    is_changed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class PartHits:
    """Pictures and places in them, best first."""

    hits: tuple[PartHit, ...]


VisionQuestion = (
    Attention
    | Mask
    | Colours
    | Likeness
    | Matches
    | Where
    | Describe
    | ShowPart
    | Explain
    | Crops
    | Load
    | Forget
    | Release
    | Reclaim
    | Status
    | Ping
)
"""The questions of ``engine serve vision``."""
SearchQuestion = Similar | Part | Ping
"""The questions of ``engine serve search``."""
ServiceAnswer = (
    Maps
    | MaskMade
    | Coloured
    | Likenesses
    | Matched
    | Place
    | Vectors
    | PartShown
    | Explained
    | Cropped
    | Model
    | State
    | Done
    | Hits
    | PartHits
)


def _by_name(union: object) -> Mapping[str, type]:
    return {kind.__name__.lower(): kind for kind in get_args(union)}


VISION = _by_name(VisionQuestion)
SEARCH = _by_name(SearchQuestion)
ANSWERS = _by_name(ServiceAnswer)
"""Kinds as they stand in JSON, with their classes."""


def question_from(fields: object, kinds: Mapping[str, type]) -> object:
    """Return the question that decoded JSON stands for.

    Args:
        fields: an object with a ``kind`` of ``kinds`` and the fields of its class.
        kinds: the questions that are taken.

    Raises:
        BadRecipe: it is none of them, or a field is missing, unknown, of another type or out of its range.
    """
    return _made(fields, kinds, "question")


def answer_from(fields: object) -> object:
    """Return the answer that decoded JSON stands for; raises as ``question_from``."""
    return _made(fields, ANSWERS, "answer")


def _made(fields: object, kinds: Mapping[str, type], what: str) -> object:
    kind = fields.get("kind") if isinstance(fields, dict) else None
    if not isinstance(fields, dict) or not isinstance(kind, str) or kind not in kinds:
        name = f" '{kind[:40]}'" if isinstance(kind, str) else ""
        raise BadRecipe(f"There is no {what}{name} here.", f"There are: {', '.join(kinds)}.")
    try:
        return _adapter(kinds[kind]).validate_python({name: value for name, value in fields.items() if name != "kind"})
    except ValidationError as problem:
        wrong = problem.errors(include_url=False, include_context=False, include_input=False)
        said = "; ".join(f"{'.'.join(str(part)[:40] for part in one['loc'])}: {one['msg']}" for one in wrong[:3])
        raise BadRecipe(f"The {what} '{kind}' is not complete and right: {said}.") from problem


@functools.cache
def _adapter(kind: type) -> TypeAdapter[Any]:
    return TypeAdapter(kind)
