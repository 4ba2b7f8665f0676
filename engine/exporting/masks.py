"""Masks of attention of any number of pictures: one pass a picture, written in the formats of other programs.

Masks have the size of the upright picture. They go from here to ``mask_formats`` as COCO's run lengths, which take
about a thousandth of the pixels. Where they come from stands beside them in ``about.json``, and what became of every
picture in ``pictures.jsonl``.

Letters after a name are its axes:
    H heads · R C rows and columns of patches · Y X pixels
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from engine.errors import BadRecipe, UnreadablePicture
from engine.exporting.edited import Edits
from engine.exporting.mask_formats import MASK_FORMATS, MaskObject, Options
from engine.exporting.pictures import Account, Opened, Source, export_each
from engine.exporting.polygons import run_lengths
from engine.exporting.targets import whole_folder
from engine.models.weights import Backbone
from engine.provenance import Provenance
from engine.seeing.attention import AttentionMaps, attention_maps, check_head, layer_number, token_of, vit_of
from engine.seeing.files import check_apart
from engine.seeing.grid import Grid
from engine.seeing.look import Gaze
from engine.seeing.masks import KEEP, attention_mask, without_specks

Choice = Literal["mean", "union", "best", "each"]
Head = Choice | int
"""What a mask is made of: the mean of the heads, the union of their masks, the head that agrees best with the others,
every head by itself, or the head of a number."""

LEVEL_PX = 512
"""Longest side of the picture on which the level of a smooth outline is found; sorting all pixels would be slow."""
UPRIGHT = (
    "Sizes and masks are those of the picture turned upright by its EXIF, as labelme, CVAT, OpenCV and browsers show "
    "it. Programs that ignore EXIF, as torchvision and plain Pillow do, have to turn the picture first "
    "(ImageOps.exif_transpose); pictures.jsonl names the pictures this concerns by their exif_orientation."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class MaskPlan:
    """How masks are made.

    Args:
        keep: share of the attention that a mask holds, above 0 and up to 1.
        head: what of the heads is in a mask.
        is_smooth: interpolate the attention between patches first, so that outlines are no stairs of patches.
        smallest: connected parts of fewer patches are left out.
        has_parts: each connected part is an object of its own.
        label: what the objects are called.
    """

    keep: float = KEEP
    head: Head = "mean"
    is_smooth: bool = False
    smallest: int = 1
    has_parts: bool = False
    label: str = "object"

    def labels(self, n_heads: int) -> list[str]:
        """Return the names that objects can have: one, or one a head."""
        if self.head == "each":
            return [f"{self.label}-head{i}" for i in range(n_heads)]
        return [self.label]


def export_masks(
    backbone: Backbone,
    sources: Sequence[Source],
    out: Path,
    form: str,
    plan: MaskPlan | None = None,
    options: Options | None = None,
    gaze: Gaze | None = None,
    *,
    edits: Callable[[Source], Edits | None] | None = None,
    overwrite: bool = False,
    after_each: Callable[[], object] | None = None,
    is_stopped: Callable[[], bool] | None = None,
) -> tuple[Account, Provenance]:
    """Write the masks of pictures in one format, and return what was done and what stands in ``about.json``.

    Args:
        backbone: a Vision Transformer.
        sources: the pictures.
        out: the folder to make.
        form: one of ``MASK_FORMATS``.
        plan: how masks are made.
        options: how they are written.
        gaze: how pictures are looked at.
        edits: returns what a person brushed on the mask of a picture.
        overwrite: whether an export there may be replaced.
        after_each: is called after each picture.
        is_stopped: is asked before each picture; what is done by then is a whole export.

    Raises:
        BadInput: ``out`` is there already, or holds the pictures.
        BadRecipe: a value is out of range, no such layer or head, or a backbone without attention.
        DiskFull: there is no room; nothing is left of the export.
    """
    plan, options, gaze = plan or MaskPlan(), options or Options(), gaze or Gaze()
    n_heads = vit_of(backbone).shape.heads
    _check(plan, gaze, backbone)
    check_apart(out, (source.path for source in sources), is_replaced=True)
    if edits and plan.head == "each":
        raise BadRecipe(
            "Masks of each head have no edits.", "Edits belong to one mask a picture: choose another --head."
        )
    chosen = gaze.facts(backbone) | asdict(plan) | asdict(options) | {"has_edits": edits is not None}
    about = backbone.provenance(**chosen, format=form, upright=UPRIGHT)
    with whole_folder(out, about, overwrite=overwrite) as folder:
        labels = plan.labels(n_heads)
        with contextlib.closing(MASK_FORMATS[form](folder, out.resolve(), labels, about, options)) as writer:
            handle = _Handle(backbone, plan, gaze, writer.write, edits)
            account = export_each(sources, folder, handle, after_each=after_each, is_stopped=is_stopped)
            account.n_files += len(writer.finish())
        about.update(counted(account), **writer.figures.summary())
    return account, about


def _check(plan: MaskPlan, gaze: Gaze, backbone: Backbone) -> None:
    """Refuse what no picture can be exported with, before the first.

    Raises:
        BadRecipe: a value is out of range.
    """
    check_gaze(backbone, gaze)
    attention_mask(np.ones((1, 1)), plan.keep)
    if isinstance(plan.head, int):
        check_head(plan.head, vit_of(backbone).shape.heads)
    if plan.smallest < 1:
        raise BadRecipe(f"A part cannot have fewer than {plan.smallest} patches.", "Choose 1 or more.")
    if not plan.label or not plan.label.isprintable():
        raise BadRecipe(f"{plan.label!r} is no name.", "Choose letters that can be printed.")


def check_gaze(backbone: Backbone, gaze: Gaze) -> None:
    """Refuse a layer that a backbone has not, and a side without room for a patch.

    Raises:
        BadRecipe: either is so, or the backbone has no attention.
    """
    vit = vit_of(backbone)
    layer_number(vit, gaze.layer)
    Grid.of((gaze.side, gaze.side), patch=vit.shape.patch, side=gaze.side)


def counted(account: Account) -> dict[str, Any]:
    """Return the counts of an export, for ``about.json``."""
    return {
        "pictures": account.n_pictures,
        "files": account.n_files,
        "stored_turned": account.n_turned,
        "left_out": len(account.left_out),
        "is_stopped_early": account.is_stopped,
    }


def look_at(backbone: Backbone, gaze: Gaze, row: Opened) -> AttentionMaps:
    """Return the attention in a picture that is exported.

    Raises:
        UnreadablePicture: it has no such patch to look from, which is its own matter and no other picture's.
    """
    if gaze.query != "cls":
        shape = vit_of(backbone).shape
        grid = Grid.of(row.size, patch=shape.patch, side=gaze.side, is_square=gaze.is_square)
        try:
            token_of(gaze.query, grid, shape.registers)
        except BadRecipe as problem:
            raise UnreadablePicture(f"{problem.message} {problem.hint}") from problem
    return attention_maps(
        backbone, row.picture_YX3, side=gaze.side, layer=gaze.layer, query=gaze.query, is_square=gaze.is_square
    )


class _Handle:
    """Makes the masks of one picture and has them written."""

    def __init__(
        self,
        backbone: Backbone,
        plan: MaskPlan,
        gaze: Gaze,
        write: Callable[[Opened, list[MaskObject]], tuple[Sequence[Path], Mapping[str, Any]]],
        edits: Callable[[Source], Edits | None] | None,
    ) -> None:
        self._backbone, self._plan, self._gaze, self._write, self._edits = backbone, plan, gaze, write, edits

    def __call__(self, row: Opened) -> tuple[Sequence[Path], Mapping[str, Any]]:
        maps = look_at(self._backbone, self._gaze, row)
        edits = self._edits(row.source) if self._edits else None
        files, noted = self._write(row, mask_objects(maps, self._plan, row.size, edits))
        return files, {**noted, "is_edited": True} if edits else noted


def mask_objects(
    maps: AttentionMaps, plan: MaskPlan, size: tuple[int, int], edits: Edits | None = None
) -> list[MaskObject]:
    """Return the objects in a picture: its masks, or where asked the connected parts of each, the largest first.

    Args:
        maps: attention of all heads.
        plan: how masks are made.
        size: height and width of the upright picture.
        edits: what a person brushed on the mask.

    Raises:
        BadRecipe: there is no such head.
    """
    objects = []
    for name, head, attended_YX in _masks(maps, plan, size):
        mask_YX = edits.applied_to_pixels(attended_YX) if edits else attended_YX
        label = plan.label if head is None else f"{plan.label}-head{head}"
        if plan.has_parts:
            objects += [
                MaskObject(name, label, number, run_lengths(part_YX))
                for number, part_YX in enumerate(_parts(mask_YX), start=1)
            ]
        else:
            objects.append(MaskObject(name, label, None, run_lengths(mask_YX)))
    return objects


def _masks(
    maps: AttentionMaps, plan: MaskPlan, size: tuple[int, int]
) -> Iterator[tuple[str, int | None, NDArray[np.bool_]]]:
    """Yield the name of each mask, its head where heads have labels of their own, and its pixels."""
    match plan.head:
        case "mean":
            yield "mean", None, _mask(maps.mean, maps.grid, plan, size)
        case "union":
            union_YX = np.zeros(size, dtype=np.bool_)
            for map_RC in maps.maps_HRC:
                union_YX |= _mask(map_RC, maps.grid, plan, size)
            yield "union", None, union_YX
        case "each":
            for head, map_RC in enumerate(maps.maps_HRC):
                yield f"head{head}", head, _mask(map_RC, maps.grid, plan, size)
        case chosen:
            head = _most_agreed(attention_mask(maps.maps_HRC, plan.keep)) if chosen == "best" else int(chosen)
            yield f"head{head}", None, _mask(maps.maps_HRC[head], maps.grid, plan, size)


def _most_agreed(masks_HRC: NDArray[np.bool_]) -> int:
    """Return the head whose mask is most like those of the others, by the mean of intersection over union.

    Without a true mask nobody can tell the best head; DINO's fig. 4 chooses it by the true one. On 160 photos of
    horses this came closer to it than the least attention at the border, the least entropy or the most compact mask.
    """
    flat_HP = masks_HRC.reshape(len(masks_HRC), -1).astype(np.float64)
    both_HH = flat_HP @ flat_HP.T
    sizes_H = flat_HP.sum(axis=1)
    return int((both_HH / (sizes_H[:, None] + sizes_H - both_HH)).mean(axis=1).argmax())


def _mask(map_RC: NDArray[np.float32], grid: Grid, plan: MaskPlan, size: tuple[int, int]) -> NDArray[np.bool_]:
    """Return one mask in pixels."""
    if not plan.is_smooth:
        return grid.spread(without_specks(attention_mask(map_RC[None], plan.keep)[0], plan.smallest), size)
    mask_YX = grid.spread_smoothly(map_RC, size) >= _level(map_RC, grid, plan.keep, size)
    patch_pixels = mask_YX.size / map_RC.size
    return without_specks(mask_YX, round((plan.smallest - 1) * patch_pixels))


def _level(map_RC: NDArray[np.float32], grid: Grid, keep: float, size: tuple[int, int]) -> float:
    """Return the level above which a smooth map holds a share of itself."""
    scale = min(1.0, LEVEL_PX / max(size))
    small = max(1, round(size[0] * scale)), max(1, round(size[1] * scale))
    smooth_YX = grid.spread_smoothly(map_RC, small)
    return float(smooth_YX[attention_mask(smooth_YX[None], keep)[0]].min())


def _parts(mask_YX: NDArray[np.bool_]) -> Iterator[NDArray[np.bool_]]:
    """Yield the connected parts of a mask, corners connecting, the largest first."""
    _, labels_YX, statistics, _ = cv2.connectedComponentsWithStats(mask_YX.astype(np.uint8), connectivity=8)
    areas = statistics[1:, cv2.CC_STAT_AREA]
    for label in np.argsort(-areas, kind="stable") + 1:
        left, top, width, height = statistics[label, : cv2.CC_STAT_AREA]
        within = slice(top, top + height), slice(left, left + width)
        part_YX = np.zeros(mask_YX.shape, dtype=np.bool_)
        part_YX[within] = labels_YX[within] == label
        yield part_YX
