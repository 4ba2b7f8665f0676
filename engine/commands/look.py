"""``engine look``: what a backbone sees in pictures, as pictures and arrays.

Attention and masks are here; ``look_patches`` has the verbs that are about features of patches.
"""

import argparse
from pathlib import Path

from engine.commands import Outcome, add_verb, new_parser
from engine.commands.arguments import add_device, add_model
from engine.commands.look_patches import add_likeness, add_matches, add_patches
from engine.commands.looking import loaded, looked_outcome, named_pictures, whole_numbers
from engine.errors import BadRecipe
from engine.models.weights import Backbone
from engine.protocol import Tell
from engine.seeing.attention import Query
from engine.seeing.drawing import COLOUR_MAPS
from engine.seeing.grid import SIDE
from engine.seeing.look import Gaze, Style, look_attention, look_masks
from engine.seeing.masks import KEEP
from engine.timing import Pace


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command and of what can be looked at."""
    command = new_parser(
        "look",
        "Write what a backbone sees in pictures: what it attends to, which patches are alike.",
        [
            "engine look attention horse.jpg --model photos.dinoviz/runs/0001 --out seen/",
            "engine look masks photos/ --model photos.dinoviz/runs/0001 --keep 0.6 --out masks/",
        ],
    )
    looks = command.add_subparsers(metavar="attention|masks|patches|likeness|matches", required=True)
    attention = add_verb(
        looks,
        "attention",
        brief="every head, their mean, rollout and the coloured composite",
        about="Write the attention of every head of a layer, from the [CLS] token or any patch: PNG, NPZ, sheet.",
        examples=[
            "engine look attention horse.jpg --model dino_vits8 --out seen/",
            "engine look attention horse.jpg --model photos.dinoviz/runs/0001 --layer 5 --query 10,12 --out seen/",
        ],
    )
    _add_common(attention)
    attention.add_argument("--colours", choices=COLOUR_MAPS, default="viridis", help="colour map (default viridis)")
    attention.add_argument("--smooth", action="store_true", help="interpolate between patches instead of showing them")
    attention.add_argument("--heads", help="heads of the composite, in the order of its colours: 0,2,5")
    attention.add_argument("--all-layers", action="store_true", help="also a sheet with every head of every layer")
    attention.set_defaults(run=run_attention)
    masks = add_verb(
        looks,
        "masks",
        brief="masks of the patches that hold most of the attention",
        about="Write, per head, for their union and for their mean, the smallest mask that holds a share of the "
        "attention: 8-bit PNG in the picture's size, contours, areas in masks.json.",
        examples=[
            "engine look masks horse.jpg --model dino_vits8 --keep 0.6 --out masks/",
            "engine look masks photos/ --model photos.dinoviz/runs/0001 --smallest 3 --out masks/ --json",
        ],
    )
    _add_common(masks)
    masks.add_argument("--keep", type=float, default=KEEP, help=f"share of the attention in a mask (default {KEEP})")
    masks.add_argument("--smallest", type=int, default=1, help="leave out connected parts of fewer patches (default 1)")
    masks.set_defaults(run=run_masks)
    add_patches(looks)
    add_likeness(looks)
    add_matches(looks)
    return command


def _add_common(look: argparse.ArgumentParser) -> None:
    look.add_argument("pictures", nargs="+", type=Path, help="pictures, or folders of them")
    add_model(look)
    look.add_argument("--out", required=True, type=Path, help="folder for what is written")
    look.add_argument(
        "--side", type=int, default=SIDE, help=f"shorter side it is seen at, px (default {SIDE}; 1024 is fine)"
    )
    look.add_argument("--square", action="store_true", help="squeeze to a square, as the reference does")
    look.add_argument("--layer", type=int, default=-1, help="transformer block, from 0; -1 is the last (default)")
    look.add_argument("--query", default="cls", help="who looks: cls, or a patch as ROW,COLUMN counted from 0")
    add_device(look)


def run_attention(arguments: argparse.Namespace, tell: Tell) -> Outcome:
    """Write attention; exit 4 when a picture could not be read."""
    backbone, paths, gaze, pace = _begin(arguments, tell)
    style = Style(
        colours=arguments.colours,
        is_smooth=arguments.smooth,
        heads=whole_numbers("--heads", arguments.heads) if arguments.heads else None,
        has_layers=arguments.all_layers,
    )
    rows = look_attention(
        backbone, paths, arguments.out, gaze, style, after_each=lambda _row: pace.reached(pace.done + 1)
    )
    return looked_outcome(rows, arguments.out)


def run_masks(arguments: argparse.Namespace, tell: Tell) -> Outcome:
    """Write masks; exit 4 when a picture could not be read."""
    backbone, paths, gaze, pace = _begin(arguments, tell)
    rows = look_masks(
        backbone,
        paths,
        arguments.out,
        gaze,
        keep=arguments.keep,
        smallest=arguments.smallest,
        after_each=lambda _row: pace.reached(pace.done + 1),
    )
    return looked_outcome(rows, arguments.out)


def _begin(arguments: argparse.Namespace, tell: Tell) -> tuple[Backbone, list[Path], Gaze, Pace]:
    paths = named_pictures(arguments.pictures)
    backbone = loaded(arguments, tell)
    gaze = Gaze(side=arguments.side, layer=arguments.layer, query=_query(arguments.query), is_square=arguments.square)
    return backbone, paths, gaze, Pace("looking", len(paths), "pictures", tell)


def _query(text: str) -> Query:
    if text == "cls":
        return "cls"
    place = whole_numbers("--query", text)
    if len(place) != 2:
        raise BadRecipe(f"'{text}' is no patch.", "Write cls, or row and column of a patch: 10,12.")
    return place[0], place[1]
