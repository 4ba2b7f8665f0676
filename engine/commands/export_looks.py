"""The verbs of ``engine export`` that look at pictures: masks and attention."""

import argparse
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from engine.commands import Outcome, StopSignal, add_verb
from engine.commands.arguments import add_device, add_model, add_target, formats_in_words, query_of
from engine.commands.listing import named_in_words
from engine.commands.looking import loaded
from engine.errors import EXIT_PARTIAL, BadInput, BadRecipe
from engine.exporting.attention import AttentionPlan, Heads, export_attention
from engine.exporting.edited import Edits, path_of
from engine.exporting.mask_formats import Options
from engine.exporting.masks import Choice, Head, MaskPlan, export_masks
from engine.exporting.pictures import Account, Source
from engine.exporting.polygons import HOLES
from engine.images import find_pictures
from engine.models.weights import Backbone
from engine.project import GONE, SUFFIX, Project
from engine.protocol import Noticed, Tell
from engine.seeing.grid import SIDE
from engine.seeing.look import Gaze
from engine.seeing.masks import KEEP
from engine.shards import is_there
from engine.timing import Pace

SMOOTH_TOLERANCE_PX = 0.75
"""Default for smooth masks: exact outlines of curves have a vertex every other pixel, which nobody can edit. On 160
photos this takes a fifth of the vertices at a median intersection over union of 0.989; at 1 px it would be 0.984."""
TURNED = """
Masks have the size of the picture turned upright by its EXIF, as labelme, CVAT, FiftyOne, OpenCV, Ultralytics and
browsers show it. Readers that ignore EXIF (torchvision's CocoDetection, plain Pillow) have to turn it first, with
ImageOps.exif_transpose. pictures.jsonl has the exif_orientation of each; --with-pictures writes upright copies."""
LIKE_OURS = """
Polygons follow the edges of the pixels, a quarter of a pixel inside: pycocotools, OpenCV and Pillow fill them to the
same mask, pixel by pixel. Readers disagree about holes: --holes cut joins each to the outer ring by a line of no width,
which keeps the mask exact but is no simple polygon; --holes fill gives them up. How like polygons and masks are is
measured and told, as intersection over union."""


def add_masks(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the verb ``masks`` to the command."""
    verb = add_verb(
        verbs,
        "masks",
        brief="masks of what a backbone attends to, for labelling and training programs",
        about=formats_in_words("Write masks that hold a share of the attention, of any number of pictures.", "masks")
        + f"\n{TURNED}\n{LIKE_OURS}",
        examples=[
            "engine export masks photos.dinoviz --model photos.dinoviz/runs/0001 --format coco --out masks/",
            "engine export masks photos/ --model dino_vits8 --head best --format labelme --out labels/",
            "engine export masks photos.dinoviz --model bundled --format yolo --with-pictures --out dataset/",
        ],
    )
    _add_common(verb, "masks")
    verb.add_argument("--keep", type=float, default=KEEP, help=f"share of the attention in a mask (default {KEEP})")
    verb.add_argument(
        "--head",
        type=_head,
        default="mean",
        metavar="N|best|union|mean|each",
        help="a head's number, the head that agrees best with the others, the union of their masks, the mask of their "
        "mean (default), or a mask for each",
    )
    verb.add_argument("--smallest", type=int, default=1, help="leave out connected parts of fewer patches (default 1)")
    verb.add_argument("--parts", action="store_true", help="each connected part is an object of its own")
    verb.add_argument("--name", default="object", help="what the objects are called (default object)")
    verb.add_argument("--holes", choices=HOLES, default="cut", help="holes in polygons (default cut)")
    verb.add_argument(
        "--tolerance",
        type=float,
        metavar="PX",
        help=f"how far polygons may be from the edges of pixels (default 0, exact; {SMOOTH_TOLERANCE_PX:g} for smooth)",
    )
    verb.add_argument(
        "--with-pictures", action="store_true", help="also write the pictures, upright and without EXIF, into images/"
    )
    verb.add_argument(
        "--edited", action="store_true", help="of a project: with what was brushed on masks in the window"
    )
    verb.set_defaults(run=run_masks)


def add_attention(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the verb ``attention`` to the command."""
    verb = add_verb(
        verbs,
        "attention",
        brief="what a backbone attends to, as arrays or drawn over the pictures",
        about=formats_in_words("Write the attention of a layer, of any number of pictures.", "attention"),
        examples=[
            "engine export attention photos.dinoviz --model photos.dinoviz/runs/0001 --format npz --out attention/",
            "engine export attention photos/ --model dino_vits8 --format overlay --heads 0,2 --out seen/",
        ],
    )
    _add_common(verb, "attention")
    verb.add_argument("--heads", type=_heads, help="all (default of npz), mean (default of overlay), or some: 0,2,5")
    verb.set_defaults(run=run_attention)


def _add_common(verb: argparse.ArgumentParser, what: str) -> None:
    verb.add_argument("pictures", nargs="+", type=Path, help="a project, pictures, or folders of them")
    add_model(verb)
    add_target(verb, what)
    verb.add_argument(
        "--list",
        type=Path,
        metavar="FILE",
        help="only pictures whose paths, as the project has them, stand in it, one a line",
    )
    verb.add_argument("--smooth", action="store_true", help="interpolate between patches instead of showing them")
    verb.add_argument("--side", type=int, default=SIDE, help=f"shorter side it is seen at, px (default {SIDE})")
    verb.add_argument("--square", action="store_true", help="squeeze to a square, as the reference does")
    verb.add_argument("--layer", type=int, default=-1, help="transformer block, from 0; -1 is the last (default)")
    verb.add_argument("--query", type=query_of, default="cls", help="who looks: cls, or a patch as ROW,COLUMN from 0")
    add_device(verb)


def _head(text: str) -> Head:
    choices: dict[str, Choice] = {"mean": "mean", "union": "union", "best": "best", "each": "each"}
    if text in choices:
        return choices[text]
    if text.isdecimal():
        return int(text)
    raise argparse.ArgumentTypeError(f"'{text}' is no head: write a number, best, union, mean or each")


def _heads(text: str) -> Heads:
    if text == "all" or text == "mean":
        return "all" if text == "all" else "mean"
    words = text.split(",")
    if not all(word.isdecimal() for word in words) or len(set(words)) < len(words):
        raise argparse.ArgumentTypeError(f"'{text}' are no heads: write all, mean, or different numbers: 0,2,5")
    return tuple(int(word) for word in words)


def run_masks(arguments: argparse.Namespace, tell: Tell) -> Outcome:
    """Write masks; exit 4 when pictures are left out."""
    plan = MaskPlan(
        keep=arguments.keep,
        head=arguments.head,
        is_smooth=arguments.smooth,
        smallest=arguments.smallest,
        has_parts=arguments.parts,
        label=arguments.name,
    )
    options = Options(holes=arguments.holes, tolerance=_tolerance(arguments), has_pictures=arguments.with_pictures)
    edits = _edits(arguments)
    sources, backbone, gaze, pace = _begin(arguments, tell)
    with StopSignal() as stop:
        account, about = export_masks(
            backbone,
            sources,
            arguments.out,
            arguments.format,
            plan,
            options,
            gaze,
            edits=edits,
            overwrite=arguments.overwrite,
            after_each=lambda: pace.reached(pace.done + 1),
            is_stopped=stop.is_set,
        )
    _raise_if_stopped(account, arguments.out, stop, tell)
    return _outcome(arguments, account, about, _mask_lines(about))


def run_attention(arguments: argparse.Namespace, tell: Tell) -> Outcome:
    """Write attention; exit 4 when pictures are left out."""
    heads: Heads = arguments.heads or ("all" if arguments.format == "npz" else "mean")
    sources, backbone, gaze, pace = _begin(arguments, tell)
    with StopSignal() as stop:
        account, about = export_attention(
            backbone,
            sources,
            arguments.out,
            arguments.format,
            AttentionPlan(heads=heads, is_smooth=arguments.smooth),
            gaze,
            overwrite=arguments.overwrite,
            after_each=lambda: pace.reached(pace.done + 1),
            is_stopped=stop.is_set,
        )
    _raise_if_stopped(account, arguments.out, stop, tell)
    return _outcome(arguments, account, about, [])


def _tolerance(arguments: argparse.Namespace) -> float:
    """Return the tolerance of polygons.

    Raises:
        BadRecipe: it is negative.
    """
    if arguments.tolerance is None:
        return SMOOTH_TOLERANCE_PX if arguments.smooth else 0.0
    if not 0 <= arguments.tolerance < float("inf"):
        raise BadRecipe(f"A tolerance of {arguments.tolerance:g} px cannot be.", "Choose 0 or more.")
    return float(arguments.tolerance)


def _begin(arguments: argparse.Namespace, tell: Tell) -> tuple[list[Source], Backbone, Gaze, Pace]:
    sources = sources_of(arguments.pictures)
    if arguments.list:
        sources = _listed(sources, arguments.list, tell)
    backbone = loaded(arguments, tell)
    gaze = Gaze(side=arguments.side, layer=arguments.layer, query=arguments.query, is_square=arguments.square)
    return sources, backbone, gaze, Pace("exporting", len(sources), "pictures", tell)


def _edits(arguments: argparse.Namespace) -> Callable[[Source], Edits | None] | None:
    """Return what gives the edits of a picture, where they are wanted.

    Raises:
        BadRecipe: no project was named, or more than that.
    """
    if not arguments.edited:
        return None
    named = arguments.pictures
    if len(named) != 1 or not _is_project(named[0]):
        raise BadRecipe("--edited goes with one project.", "Only a project keeps what was brushed on masks.")
    return lambda source: Edits.read(path_of(named[0], source.id))


def _listed(sources: Sequence[Source], file: Path, tell: Tell) -> list[Source]:
    """Return the pictures that a file names, in the order they have anyhow; say how many it names that are not there.

    Raises:
        BadInput: the file cannot be read, or names none of them.
    """
    try:
        lines = file.read_bytes().decode("utf-8", "surrogateescape").split("\n")
    except OSError as problem:
        raise BadInput(f"The list '{file}' cannot be read: {problem.strerror}.", "Check the path.") from problem
    wanted = {line for line in lines if line.strip()}
    chosen = [source for source in sources if source.name in wanted]
    if not chosen:
        raise BadInput(f"None of the pictures in '{file}' is there.", "Write paths as the project has them.")
    if missing := len(wanted) - len(chosen):
        tell(Noticed(level="warning", text=f"{missing:,} pictures of the list are not there."))
    return chosen


def sources_of(named: Sequence[Path]) -> list[Source]:
    """Return the pictures of what was named: projects, folders, files.

    Names are relative to the one project's or folder's pictures; where several things are named, to the folder that
    all have in common. Ids are those of the one project, else they count from 1.

    Raises:
        BadInput: one is not there, or there is none at all.
    """
    found = [source for path in named for source in _sources_in(path)]
    if not found:
        raise BadInput("There are no pictures there.", "Name pictures, folders of them, or a project.")
    if len(named) == 1:
        return found
    absolute = [source.path.absolute() for source in found]
    common = (
        os.path.commonpath([path.parent for path in absolute]) if len({path.drive for path in absolute}) == 1 else ""
    )
    return [
        Source(
            path=source.path,
            name=path.relative_to(common).as_posix() if common else path.as_posix(),
            id=number,
            split=source.split,
            problem=source.problem,
        )
        for number, (source, path) in enumerate(zip(found, absolute, strict=True), start=1)
    ]


def _is_project(path: Path) -> bool:
    return path.is_dir() and (path.suffix == SUFFIX or (path / "project.sqlite").is_file())


def _sources_in(path: Path) -> list[Source]:
    if _is_project(path):
        with Project.at(path) as project:
            folder = project.pictures_folder
            rows = [row for row in project.pictures() if row.problem != GONE]
        return [
            Source(path=folder / row.path, name=row.path, id=row.id, split=row.split, problem=row.problem)
            for row in rows
        ]
    if path.is_dir():
        pictures = find_pictures(path).pictures
        return [
            Source(path=path / row.path, name=row.path, id=number, split=row.split)
            for number, row in enumerate(pictures, start=1)
        ]
    if is_there(path):
        return [Source(path=path, name=path.name, id=1)]
    raise BadInput(f"There is no picture '{path}'.", "Check the path.")


def _raise_if_stopped(account: Account, out: Path, stop: StopSignal, tell: Tell) -> None:
    """End as stopped where the export was cut short.

    Raises:
        Stopped: it was; what was done is whole.
    """
    if account.is_stopped:
        tell(Noticed(level="info", text=f"Stopped: '{out}' holds {account.n_pictures:,} pictures and is whole."))
        raise stop.stopped()


def _mask_lines(about: Mapping[str, Any]) -> list[str]:
    """Say in words what was counted while masks were written."""
    lines = []
    if about.get("empty"):
        lines.append(f"  {about['empty']:,} masks are empty")
    if about.get("objects_left_out"):
        lines.append(f"  {about['objects_left_out']:,} objects left out: a picture has more than the format can number")
    if about.get("overlapping_pixels"):
        lines.append(f"  {about['overlapping_pixels']:,} pixels belong to several objects: the smaller is above")
    if "iou_median" in about:
        filled, cut = about.get("holes_filled", 0), about.get("holes_cut", 0)
        holes = f"{filled:,} holes filled" if filled else f"{cut:,} holes cut"
        lines.append(
            f"  polygons: {about['vertices']:,} vertices, {holes}; intersection over union with the masks "
            f"{about['iou_median']:.4f} median, {about['iou_least']:.4f} least"
        )
    if about["format"] == "yolo" and not about["has_pictures"]:
        lines.append("  the pictures belong beside them, in images/: --with-pictures writes them there")
    return lines


def _outcome(arguments: argparse.Namespace, account: Account, about: Mapping[str, Any], more: Sequence[str]) -> Outcome:
    left_out = [{"picture": row.source.name, "problem": row.problem} for row in account.left_out]
    data = {"out": str(arguments.out), "about": dict(about), "left_out": left_out}
    lines = [f"{arguments.out}: {account.n_files:,} files for {account.n_pictures:,} pictures", *more]
    if account.n_turned:
        lines.append(f"  {account.n_turned:,} pictures are stored turned: see 'upright' in about.json")
    if left_out:
        lines.append(f"  {len(left_out):,} pictures left out:")
        lines += named_in_words([f"{row['picture']}: {row['problem']}" for row in left_out])
    return Outcome(data, "\n".join(lines), EXIT_PARTIAL if left_out else 0)
