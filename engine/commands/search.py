"""``engine search``: the pictures of a project that are like others, or that hold a part of one."""

import argparse
import dataclasses
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from engine.commands import Outcome, new_parser
from engine.commands.arguments import add_device, add_set
from engine.commands.listing import made_folder
from engine.commands.looking import whole_numbers
from engine.errors import EXIT_PARTIAL, BadInput, BadRecipe, UnreadablePicture
from engine.finding.explain import explain
from engine.images import open_rgb
from engine.machine import find_device, make_cpu_fast
from engine.models.weights import Backbone
from engine.project import Project
from engine.protocol import Made, Noticed, Tell
from engine.provenance import of_set
from engine.questions import MOST_HITS, Hit, Hits, Part, PartHit, PartHits, Similar
from engine.seeing.drawing import Picture, Tile, boxed, heatmap, overlay, sheet, within, write_png
from engine.seeing.files import file_stems
from engine.seeing.grid import Box
from engine.seeing.seers import Seer, backbone_of
from engine.serve.client import ServiceProcess
from engine.sets import FeatureSet, SetPlan

WANTED = 20
WHY_PX = 640
"""Longest side of a picture in an explanation."""
SHOWN_PX = 260
"""Longest side of a picture on the sheet of all results."""
NOTHING_YX3 = np.full((SHOWN_PX, SHOWN_PX, 3), 235, np.uint8)
"""Stands for a picture that is not there any more."""


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command."""
    command = new_parser(
        "search",
        "Find the pictures of a project that are like others, or, with a box, that hold a part of one and where.",
        [
            "engine search photos.dinoviz --image q.jpg",
            "engine search photos.dinoviz --image a.jpg --image b.jpg --any -k 50 --json",
            "engine search photos.dinoviz --image q.jpg --box 120,80,60,90 --why why/",
            "engine search photos.dinoviz --image q.jpg --patch 10,12 --patch 10,13 --patch 11,13",
        ],
    )
    command.add_argument("project", type=Path, help="a project whose pictures are embedded")
    command.add_argument(
        "--image", type=Path, action="append", required=True, help="picture to look for, in the project or not; again"
    )
    command.add_argument("--any", action="store_true", help="near to any of several pictures, not to their mean")
    command.add_argument("--box", help="part of the picture to look for: left,top,width,height in pixels")
    command.add_argument(
        "--patch", action="append", help="or these patches of it, ROW,COLUMN as the set sees the picture; again"
    )
    command.add_argument("-k", type=int, default=WANTED, help=f"pictures wanted (default {WANTED})")
    command.add_argument("--out", type=Path, help="write one picture with all results to this .png")
    command.add_argument("--why", type=Path, help="folder for one picture a result that shows what they share")
    add_set(command)
    add_device(command)
    command.set_defaults(run=run)
    return command


def _seer(features: FeatureSet, device: str, tell: Tell) -> Seer:
    """Return who sees as the set was seen; what is to be said of its backbone is told when it is loaded."""

    def load(plan: SetPlan) -> Backbone:
        backbone = backbone_of(plan)
        for notice in backbone.notices:
            tell(Noticed(level="info", text=notice))
        return backbone

    def chosen() -> torch.device:
        machine = find_device(device)
        if machine.device == "cpu":
            make_cpu_fast()
        return torch.device(machine.device)

    return Seer(features, load, chosen)


def run(arguments: argparse.Namespace, tell: Tell) -> Outcome:
    """Search, and draw what was found where that is asked for."""
    if not 1 <= arguments.k <= MOST_HITS:
        raise BadRecipe(f"{arguments.k} pictures cannot be wanted.", f"Ask for 1 to {MOST_HITS:,}.")
    with Project.at(arguments.project) as project:
        features = project.features(arguments.set)
        seer = _seer(features, arguments.device, tell)
        known = {path: _row_of(project, seer, path) for path in arguments.image}
        with tempfile.TemporaryDirectory() as folder:
            if arguments.box or arguments.patch:
                question: Part | Similar = _part(arguments, seer, Path(folder))
            else:
                question = _similar(arguments, seer, known, Path(folder))
            service = ["search", "--project", str(arguments.project), "--set", str(int(features.folder.name))]
            with ServiceProcess([*service, "--cache", folder]) as search:
                answer = search.ask(question)
        assert isinstance(answer, Hits | PartHits)
        made, lost = _draw(arguments, project, seer, known, answer.hits)
        for path in made:
            tell(Made(what="picture", path=str(path)))
        return _outcome(project, answer.hits, made, lost)


def _row_of(project: Project, seer: Seer, path: Path) -> int | None:
    """Return the row of a picture that is in the set as it is on the disk now; None for any other."""
    try:
        inside = path.resolve().relative_to(project.pictures_folder.resolve()).as_posix()
    except ValueError:
        return None
    number = project.id_of(inside)
    return None if number is None else seer.row_of(number, path)


def _similar(arguments: argparse.Namespace, seer: Seer, known: dict[Path, int | None], folder: Path) -> Similar:
    """Ask for what is like pictures: by their rows where they are in the set, by their features where not."""
    strangers = [path for path, row in known.items() if row is None]
    vectors = None
    if strangers:
        vectors = folder / "asked.npy"
        np.save(vectors, seer.vectors(strangers), allow_pickle=False)
    ids = tuple(int(seer.features.ids_N[row]) for row in known.values() if row is not None)
    return Similar(pictures=ids, vectors=vectors, how="any" if arguments.any else "mean", most=arguments.k)


def _part(arguments: argparse.Namespace, seer: Seer, folder: Path) -> Part:
    """Ask where a part of a picture is found.

    Raises:
        BadRecipe: more than one picture, or no such part.
        BadInput: the picture cannot be read, or the set cannot be searched by parts.
    """
    if len(arguments.image) > 1:
        raise BadRecipe("A part is looked for of one picture.", "Name one picture with --image.")
    seer.check_parts()
    seer.part(_read(arguments.image[0]), *_asked_part(arguments)).write(folder / "part.npz")
    return Part(templates=folder / "part.npz", most=arguments.k)


def _asked_part(arguments: argparse.Namespace) -> tuple[Box | None, list[tuple[int, int]]]:
    """Return the box or the patches that are looked for.

    Raises:
        BadRecipe: they are none.
    """
    if not arguments.patch:
        return _box(arguments.box), []
    if arguments.box:
        raise BadRecipe("A part is a box or some patches, not both.", "Leave out --box or --patch.")
    places = [whole_numbers("--patch", text) for text in arguments.patch]
    if any(len(place) != 2 for place in places):
        raise BadRecipe("A patch has a row and a column.", "Write --patch 10,12.")
    return None, [(row, col) for row, col in places]


def _box(text: str) -> Box:
    """Return left,top,width,height as top, left, bottom, right."""
    try:
        left, top, width, height = (float(word) for word in text.split(","))
    except ValueError as problem:
        raise BadRecipe(f"'{text}' is no box.", "Write left,top,width,height in pixels: 120,80,60,90.") from problem
    return top, left, top + height, left + width


def _read(path: Path) -> Picture:
    try:
        return open_rgb(path)
    except UnreadablePicture as problem:
        raise BadInput(f"'{path}' cannot be read: {problem.message}.", "Check the path.") from problem


def _draw(
    arguments: argparse.Namespace,
    project: Project,
    seer: Seer,
    known: dict[Path, int | None],
    hits: Sequence[Hit | PartHit],
) -> tuple[list[Path], dict[str, str]]:
    """Write the pictures that were asked for; return their paths, and why found ones could not be drawn."""
    made: list[Path] = []
    lost: dict[str, str] = {}
    asked = arguments.image[0]
    if not (arguments.out or arguments.why):
        return made, lost
    asked_YX3 = _read(asked)
    box = None
    if arguments.box or arguments.patch:
        box, _ = seer.area((asked_YX3.shape[0], asked_YX3.shape[1]), *_asked_part(arguments))
    found = [project.pictures_folder / hit.picture for hit in hits]
    pictures = [_found(path, hit, lost) for path, hit in zip(found, hits, strict=True)]
    if arguments.out:
        tiles = [Tile(_boxed(within(asked_YX3, SHOWN_PX), asked_YX3.shape, box), "looked for")]
        for hit, one in zip(hits, pictures, strict=True):
            drawn_YX3 = (
                NOTHING_YX3 if one is None else _boxed(within(one.picture_YX3, SHOWN_PX), one.size, _box_of(hit))
            )
            tiles.append(Tile(drawn_YX3, f"{hit.likeness:.3f}  {hit.picture}"))
        drawing = sheet(tiles, title=f"Like {asked.name}", subtitle=_subtitle(seer.features), side_px=SHOWN_PX)
        made_folder(arguments.out.parent)
        write_png(arguments.out, drawing, of_set(seer.features))
        made.append(arguments.out)
    if arguments.why:
        made_folder(arguments.why)
        asked_RCW = seer.patches(known[asked], lambda: asked_YX3)
        for rank, (hit, one, stem) in enumerate(zip(hits, pictures, file_stems(found), strict=True), start=1):
            if one is None:
                continue
            target = arguments.why / f"{rank:03d}-{stem}.png"
            write_png(target, _why(seer, asked_YX3, asked_RCW, box, hit, one), of_set(seer.features))
            made.append(target)
    return made, lost


@dataclass(frozen=True, slots=True, eq=False)
class _Found:
    """A picture that was found, small enough to hold many, and its own height and width."""

    picture_YX3: Picture
    size: tuple[int, ...]


def _found(path: Path, hit: Hit | PartHit, lost: dict[str, str]) -> _Found | None:
    """Return a picture that was found, or say why there is none."""
    try:
        picture_YX3 = open_rgb(path)
    except UnreadablePicture as problem:
        lost[hit.picture] = problem.message
        return None
    return _Found(within(picture_YX3, WHY_PX), picture_YX3.shape[:2])


def _why(
    seer: Seer,
    asked_YX3: Picture,
    asked_RCW: NDArray[np.floating],
    box: Box | None,
    hit: Hit | PartHit,
    found: _Found,
) -> Picture:
    """Draw what a picture that was looked for and one that was found have in each other."""
    row = None if hit.is_changed else seer.features.row_of(hit.id)
    found_RCW = seer.patches(row, lambda: found.picture_YX3)
    shared = explain(asked_RCW, found_RCW)
    tiles = [
        Tile(_boxed(within(asked_YX3, WHY_PX), asked_YX3.shape, box), "looked for"),
        Tile(_boxed(_heated(seer, asked_YX3, shared.one_RC), asked_YX3.shape, box), "what of it is in the other"),
        Tile(_boxed(found.picture_YX3, found.size, _box_of(hit)), hit.picture),
        Tile(
            _boxed(_heated(seer, found.picture_YX3, shared.other_RC), found.size, _box_of(hit)),
            "what of it is in the one looked for",
        ),
    ]
    subtitle = f"cosine {hit.likeness:.3f} · bright: a patch's best cosine in the other picture, 0 to 1"
    return sheet(tiles, title="Why is this found", subtitle=subtitle, columns=2, side_px=WHY_PX)


def _heated(seer: Seer, picture_YX3: Picture, map_RC: NDArray[np.float32]) -> Picture:
    grid = seer.grid((picture_YX3.shape[0], picture_YX3.shape[1]))
    canvas_YX3 = within(picture_YX3, WHY_PX)
    return overlay(canvas_YX3, heatmap(map_RC, grid, canvas_YX3.shape[:2], span=(0.0, 1.0), is_smooth=True))


def _boxed(canvas_YX3: Picture, size: tuple[int, ...], box: Box | None) -> Picture:
    """Outline a box of a picture of some size on a smaller copy of it."""
    if box is None:
        return canvas_YX3
    shares = [edge / length for edge, length in zip(box, (*size[:2], *size[:2]), strict=True)]
    height, width = canvas_YX3.shape[:2]
    return boxed(canvas_YX3, (shares[0] * height, shares[1] * width, shares[2] * height, shares[3] * width))


def _box_of(hit: Hit | PartHit) -> Box | None:
    """Return where a part was found; nowhere in a file that is another one by now."""
    return hit.box if isinstance(hit, PartHit) and not hit.is_changed else None


def _subtitle(features: FeatureSet) -> str:
    return f"set {features.folder.name} · {features.plan.in_words()} · cosine"


def _outcome(project: Project, hits: Sequence[Hit | PartHit], made: Sequence[Path], lost: Mapping[str, str]) -> Outcome:
    rows = []
    for hit in hits:
        row = {**dataclasses.asdict(hit), "picture": str(project.pictures_folder / hit.picture)}
        if isinstance(hit, PartHit):
            top, left, bottom, right = hit.box
            row["box"] = [round(left, 1), round(top, 1), round(right - left, 1), round(bottom - top, 1)]
        rows.append(row)
    lines = [
        f"{rank:4}  {hit.likeness:6.3f}  {hit.picture}"
        + (f"  at {','.join(f'{edge:.0f}' for edge in row['box'])}" if isinstance(hit, PartHit) else "")
        + ("  mirrored" if isinstance(hit, PartHit) and hit.is_mirrored else "")
        + ("  (changed since it was embedded)" if hit.is_changed else "")
        for rank, (hit, row) in enumerate(zip(hits, rows, strict=True), start=1)
    ]
    lines += [f"  not drawn: {path}: {problem}" for path, problem in lost.items()]
    data = {"hits": rows, "made": [str(path) for path in made], "not_drawn": dict(lost)}
    return Outcome(data, "\n".join(lines) or "Nothing was found.", EXIT_PARTIAL if lost else 0)
