"""The verbs of ``engine look`` that are about patches: their colours, which are alike, which match."""

import argparse
import math
from pathlib import Path
from typing import Literal

from engine.commands import Outcome, add_verb
from engine.commands.arguments import add_device, add_model
from engine.commands.looking import loaded, looked_outcome, named_pictures, whole_numbers
from engine.errors import BadRecipe
from engine.models.weights import Backbone
from engine.protocol import Made, Noticed, Tell
from engine.seeing.attention import layer_number
from engine.seeing.grid import SIDE
from engine.seeing.look_matches import MOST, Choice, Place, look_likeness, look_matches
from engine.seeing.look_patches import Reports, Share, look_patches
from engine.seeing.palette import STYLES, Palette, PatchStyle
from engine.seeing.patch_features import PatchGaze
from engine.timing import Pace

BASIS_FIXES = ("style", "foreground", "flip_foreground", "opening", "together", "save_basis")
"""What cannot be asked for beside a basis, which has it."""


def add_patches(looks: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the verb ``patches``."""
    verb = add_verb(
        looks,
        "patches",
        brief="principal components of patch features as colours",
        about="Colour patches by the first three principal components of their features, foreground only: PNG, NPZ, "
        "sheet. Equal colours mean equal parts within one basis: --together makes one for all pictures, --save-basis "
        "keeps it for others, such as the frames of a film or another checkpoint.",
        examples=[
            "engine look patches horse.jpg --model dinov2_vits14 --out seen/",
            "engine look patches photos/ --model dinov2_vits14 --together --save-basis photos.basis --out seen/",
            "engine look patches film/*.jpg --model dinov2_vits14 --basis photos.basis --out seen/",
        ],
    )
    add_seeing(verb)
    verb.add_argument("--together", action="store_true", help="one basis for all pictures instead of one for each")
    verb.add_argument(
        "--foreground",
        default=None,
        help="auto (default): above Otsu's threshold of the first component; off: colour all patches; or a threshold "
        "in standard deviations of the first component: 0 is DINOv2's, higher leaves less",
    )
    verb.add_argument("--flip-foreground", action="store_true", help="take the side that the borders lie on")
    verb.add_argument("--opening", action="store_true", help="open and close the foreground: no specks, no pinholes")
    verb.add_argument(
        "--style",
        choices=tuple(STYLES),
        default=None,
        help="as published: dinov2 (default): each component from least to greatest; notebook: the same, seen at "
        "448 px; dinov3: whitened, through a sigmoid, smoothed foreground, seen at 768 px",
    )
    verb.add_argument("--smooth", action="store_true", help="interpolate between patches instead of showing them")
    verb.add_argument("--save-basis", type=Path, help="file to keep the basis in; of several pictures with --together")
    verb.add_argument("--basis", type=Path, help="file of --save-basis: colours, foreground, style as they were there")
    verb.add_argument("--seed", type=int, default=0, help="draws the pictures to fit on where all are too many")
    verb.set_defaults(run=run_patches)


def add_seeing(verb: argparse.ArgumentParser) -> None:
    """Add what all verbs about patches share."""
    verb.add_argument("pictures", nargs="+", type=Path, help="pictures, or folders of them")
    add_model(verb)
    verb.add_argument("--out", required=True, type=Path, help="folder for what is written")
    verb.add_argument("--side", type=int, default=None, help="shorter side they are seen at, px")
    verb.add_argument("--square", action="store_true", help="squeeze to a square")
    verb.add_argument("--layer", type=int, default=None, help="transformer block, from 0; the last where not given")
    add_device(verb)


def run_patches(arguments: argparse.Namespace, tell: Tell) -> Outcome:
    """Write patches in colours; exit 4 when a picture could not be read."""
    style, palette = _style(arguments), _palette(arguments)
    paths, backbone = named_pictures(arguments.pictures), loaded(arguments, tell)
    if arguments.save_basis and len(paths) > 1 and not arguments.together:
        raise BadRecipe("Each picture has a basis of its own; which is to be kept?", "Add --together for one of all.")
    side, layer = arguments.side, arguments.layer
    if palette:
        _notice_differences(palette, backbone, layer, arguments.basis, tell)
        side = side or _whole(palette, "side_px")
        layer = _whole(palette, "layer") if layer is None else layer
    gaze = PatchGaze(
        side=STYLES[style.name].side if side is None else side,
        layer=-1 if layer is None else layer,
        is_square=arguments.square,
    )
    pace = Pace("colouring", len(paths), "pictures", tell)
    rows = look_patches(
        backbone,
        paths,
        arguments.out,
        gaze,
        style,
        Share(palette=palette, is_together=arguments.together, seed=arguments.seed),
        is_smooth=arguments.smooth,
        reports=Reports(
            say=lambda sentence: tell(Noticed(level="info", text=sentence)),
            seen=Pace("fitting", len(paths), "pictures", tell).reached,
            fitted=lambda fitted: _keep(fitted, arguments.save_basis, tell),
            done=lambda _row: pace.reached(pace.done + 1),
        ),
    )
    return looked_outcome(rows, arguments.out)


def _keep(palette: Palette, path: Path | None, tell: Tell) -> None:
    if path:
        path.parent.mkdir(parents=True, exist_ok=True)
        palette.write(path)
        tell(Made(what="basis", path=str(path)))


def _style(arguments: argparse.Namespace) -> PatchStyle:
    return PatchStyle(
        name=arguments.style or "dinov2",
        foreground=_foreground(arguments.foreground or "auto"),
        is_flipped=arguments.flip_foreground,
        is_opened=arguments.opening,
    )


def _foreground(text: str) -> Literal["auto", "off"] | float:
    if text == "auto":
        return "auto"
    if text == "off":
        return "off"
    try:
        threshold = float(text)
    except ValueError:
        threshold = math.nan
    if not math.isfinite(threshold):
        raise BadRecipe(f"'{text}' is no foreground.", "Write auto, off, or a threshold in standard deviations: 0.5.")
    return threshold


def _palette(arguments: argparse.Namespace) -> Palette | None:
    if arguments.basis is None:
        return None
    asked = [name for name in BASIS_FIXES if getattr(arguments, name)]
    if asked:
        flag = f"--{asked[0].replace('_', '-')}"
        raise BadRecipe(f"{flag} does not go with --basis, which fixes it.", "Leave one of the two out.")
    return Palette.read(arguments.basis)


def _whole(palette: Palette, name: str) -> int | None:
    """Return a whole number of what a palette says of itself; None where it does not say it."""
    value = palette.about.get(name)
    return value if isinstance(value, int) else None


def _notice_differences(palette: Palette, backbone: Backbone, layer: int | None, path: Path, tell: Tell) -> None:
    if palette.about.get("model_sha256") != backbone.sha256:
        made_with = palette.about.get("model", "another model")
        text = f"The basis '{path.name}' was made with '{made_with}', not with these weights: parts may change colour."
        tell(Noticed(level="warning", text=text))
    if layer is not None and _whole(palette, "layer") not in (None, layer_number(backbone.model, layer)):
        text = f"The basis '{path.name}' was made from layer {palette.about['layer']}, not {layer}."
        tell(Noticed(level="warning", text=text))


def add_likeness(looks: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the verb ``likeness``."""
    verb = add_verb(
        looks,
        "likeness",
        brief="how alike all patches are to one patch",
        about="Draw the cosine of every patch of some pictures to one patch of the first, on one scale of colours: "
        "PNG, NPZ, sheet; the patch most alike in each picture in likeness.json.",
        examples=[
            "engine look likeness horse.jpg --model dinov2_vits14 --patch 10,12 --out seen/",
            "engine look likeness horse.jpg others/ --model photos.dinoviz/runs/0001 --at 210,140 --out seen/",
        ],
    )
    add_seeing(verb)
    place = verb.add_mutually_exclusive_group(required=True)
    place.add_argument("--patch", metavar="ROW,COLUMN", help="patch of the first picture, counted from 0")
    place.add_argument("--at", metavar="X,Y", help="or the patch under this pixel of the first picture, upright")
    verb.set_defaults(run=run_likeness)


def run_likeness(arguments: argparse.Namespace, tell: Tell) -> Outcome:
    """Write likeness; exit 4 when a picture could not be read."""
    place = _place(arguments)
    paths, backbone = named_pictures(arguments.pictures), loaded(arguments, tell)
    pace = Pace("drawing", len(paths), "pictures", tell)
    rows = look_likeness(
        backbone,
        paths,
        arguments.out,
        _gaze(arguments),
        place,
        seen=Pace("seeing", len(paths), "pictures", tell).reached,
        after_each=lambda _row: pace.reached(pace.done + 1),
    )
    return looked_outcome(rows, arguments.out)


def _place(arguments: argparse.Namespace) -> Place:
    flag, text = ("--patch", arguments.patch) if arguments.patch is not None else ("--at", arguments.at)
    numbers = whole_numbers(flag, text)
    if len(numbers) != 2:
        raise BadRecipe(f"{flag} '{text}' is no place.", "Write --patch ROW,COLUMN or --at X,Y.")
    return "patch" if flag == "--patch" else "pixel", numbers[0], numbers[1]


def _gaze(arguments: argparse.Namespace) -> PatchGaze:
    return PatchGaze(
        side=SIDE if arguments.side is None else arguments.side,
        layer=-1 if arguments.layer is None else arguments.layer,
        is_square=arguments.square,
    )


def add_matches(looks: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the verb ``matches``."""
    verb = add_verb(
        looks,
        "matches",
        brief="patches of two pictures that are each other's best match",
        about="Draw lines between the patches of two pictures that are each other's most alike by cosine; list them in "
        "matches.json, keep the best match of every patch in matches.npz.",
        examples=[
            "engine look matches a.jpg b.jpg --model dinov2_vits14 --out seen/",
            "engine look matches a.jpg b.jpg --model photos.dinoviz/runs/0001 --most 50 --least 0.6 --out seen/",
        ],
    )
    add_seeing(verb)
    verb.add_argument("--most", type=int, default=MOST, help=f"lines drawn at most (default {MOST})")
    verb.add_argument("--least", type=float, default=-1.0, help="least cosine of a match that is drawn")
    verb.add_argument(
        "--foreground",
        choices=("auto", "off"),
        default="auto",
        help="auto (default): lines between the subjects only, as look patches finds them; off: between any patches",
    )
    verb.set_defaults(run=run_matches)


def run_matches(arguments: argparse.Namespace, tell: Tell) -> Outcome:
    """Write the matches of two pictures."""
    paths, backbone = named_pictures(arguments.pictures), loaded(arguments, tell)
    if len(paths) != 2:
        raise BadRecipe(f"Matches are between two pictures; these are {len(paths):,}.", "Name two pictures.")
    choice = Choice(most=arguments.most, least=arguments.least, is_foreground=arguments.foreground == "auto")
    matched = look_matches(backbone, (paths[0], paths[1]), arguments.out, _gaze(arguments), choice)
    data = {
        "out": str(arguments.out),
        "files": [str(path) for path in matched.files],
        "mutual": matched.n_mutual,
        "fit": matched.n_fit,
        "drawn": matched.n_drawn,
        "cosines": list(matched.cosines),
    }
    text = (
        f"{arguments.out}: {matched.n_drawn:,} matches drawn of {matched.n_fit:,} that fit; {matched.n_mutual:,} in all"
    )
    if not matched.n_drawn:
        tell(Noticed(level="warning", text="No matches fit.", hint="Lower --least, or try --foreground off."))
    return Outcome(data, text)
