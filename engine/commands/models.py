"""``engine models``: the backbones there are, and those on this computer."""

import argparse
from dataclasses import asdict
from pathlib import Path

from engine.catalogue import BUNDLED, WEIGHT_SUFFIXES, WEIGHTS, ReleasedWeights, ResNetShape, Shape
from engine.commands import Outcome, add_verb, new_parser
from engine.commands.arguments import add_role
from engine.errors import BadWeights
from engine.models.weights import BUNDLED_FILE, cache_dir, check_file, fetch, import_file
from engine.protocol import Tell
from engine.timing import Pace

MIB = 2**20


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command and of what can be done with models."""
    command = new_parser(
        "models",
        "List, get, import and check backbones. Nothing is downloaded unless asked for by name.",
        ["engine models list", "engine models get dino_vits8", "engine models import teacher.pth --name cells"],
    )
    verbs = command.add_subparsers(metavar="list|get|import|check", required=True)
    listing = add_verb(
        verbs,
        "list",
        brief="released backbones and those on this computer",
        about="List the released backbones, the bundled one, and those on this computer.",
        examples=["engine models list", "engine models list --json"],
    )
    listing.set_defaults(run=run_list)
    getting = add_verb(
        verbs,
        "get",
        brief="download released weights; an interrupted download goes on",
        about="Download released weights and keep them by name. An interrupted download goes on where it broke off.",
        examples=[
            "engine models get dino_vits8",
            "engine models get cells --address https://example.org/cells.safetensors",
        ],
    )
    getting.add_argument("name", help="a name of engine models list; with --address any name")
    getting.add_argument("--address", help="take it from another place, https only")
    getting.set_defaults(run=run_get)
    importing = add_verb(
        verbs,
        "import",
        brief="convert a file of any known layout and keep it by name",
        about="Convert a file of any known layout and keep it by name; the file is left as it is.",
        examples=[
            "engine models import teacher.pth --name cells",
            "engine models import checkpoint.pth --role student --name cells-student",
        ],
    )
    importing.add_argument("--name", help="what to call it; the file's name by default")
    importing.set_defaults(run=run_import)
    checking = add_verb(
        verbs,
        "check",
        brief="say what a file of weights holds, and whether it fits",
        about="Say what a file of weights holds, and whether it fits. Keeps nothing.",
        examples=["engine models check teacher.pth", "engine models check model.safetensors --json"],
    )
    checking.set_defaults(run=run_check)
    for verb in (importing, checking):
        verb.add_argument(
            "file", type=Path, help="safetensors, or a PyTorch file, which is opened in a process of its own"
        )
        add_role(verb)
        verb.add_argument(
            "--heads", type=int, help="attention heads, where the file does not say and they are not 64 wide"
        )
    return command


def run_list(_arguments: argparse.Namespace, _tell: Tell) -> Outcome:
    """List released backbones, and what is in the cache."""
    folder = cache_dir()
    here = {path.stem for suffix in WEIGHT_SUFFIXES for path in folder.glob(f"[!.]*{suffix}")}
    rows = [_row(weights, name in here) for name, weights in WEIGHTS.items()]
    has_bundled = BUNDLED_FILE.is_file()
    own = sorted(here - set(WEIGHTS))
    lines = [f"{'name':<24}{'size':>9}  {'k-NN':>5} {'linear':>6}  {'here':<5}about"]
    if has_bundled:
        size, about = BUNDLED_FILE.stat().st_size / MIB, _in_words(check_file(BUNDLED_FILE).shape)
        lines.append(f"{BUNDLED:<24}{size:>6,.0f} MB  {'-':>5} {'-':>6}  {'yes':<5}{about}; Apache-2.0")
    for row in rows:
        scores = [f"{row[key]:.1f}" if row[key] is not None else "-" for key in ("knn", "linear")]
        lines.append(
            f"{row['name']:<24}{row['size_bytes'] / MIB:>6,.0f} MB  {scores[0]:>5} {scores[1]:>6}  "
            f"{'yes' if row['here'] else '-':<5}{row['about']}; {row['licence']}"
        )
    lines += [f"{name:<24}{'':>9}  {'':>5} {'':>6}  {'yes':<5}imported" for name in own]
    lines.append(f"k-NN and linear: published ImageNet top-1, per cent. Kept in {folder}")
    data = {
        "bundled": str(BUNDLED_FILE) if has_bundled else None,
        "released": rows,
        "imported": own,
        "folder": str(folder),
    }
    return Outcome(data, "\n".join(lines))


def _row(weights: ReleasedWeights, is_here: bool) -> dict[str, object]:
    return {
        "name": weights.name,
        "address": weights.address,
        "size_bytes": weights.size_bytes,
        "licence": weights.licence,
        "knn": weights.knn,
        "linear": weights.linear,
        "about": weights.about,
        "here": is_here,
    }


def run_get(arguments: argparse.Namespace, tell: Tell) -> Outcome:
    """Download released weights into the cache."""
    pace: list[Pace] = []

    def told(done: int, total: int) -> None:
        if not pace:
            pace.append(Pace(f"getting {arguments.name}", total, "B", tell, start=done))
        pace[0].reached(done)

    path = fetch(arguments.name, told, address=arguments.address)
    return Outcome({"name": arguments.name, "path": str(path)}, f"{arguments.name}: {path}")


def run_import(arguments: argparse.Namespace, _tell: Tell) -> Outcome:
    """Convert a file and keep it in the cache."""
    path = import_file(arguments.file, name=arguments.name, role=arguments.role, heads=arguments.heads)
    return Outcome({"name": path.stem, "path": str(path)}, f"{path.stem}: {path}\n  use it with --model {path.stem}")


def run_check(arguments: argparse.Namespace, _tell: Tell) -> Outcome:
    """Say what a file holds; exit 8 when it cannot be loaded."""
    report = check_file(arguments.file, role=arguments.role, heads=arguments.heads)
    data = {
        "file": str(report.path),
        "layout": report.layout,
        "shape": asdict(report.shape),
        "parameters": report.n_parameters,
        "matched": report.n_matched,
        "loadable": report.is_loadable,
        "difference": str(report.difference),
        "sha256": report.sha256,
        "notices": list(report.notices),
    }
    lines = [
        f"{report.path}",
        f"  {_in_words(report.shape)}, {report.n_parameters:,} parameters, layout {report.layout}",
        f"  {report.n_matched} tensors fit" + ("" if report.is_loadable else f"; {report.difference}"),
        f"  sha256 {report.sha256}",
        *(f"  {notice}" for notice in report.notices),
    ]
    return Outcome(data, "\n".join(lines), 0 if report.is_loadable else BadWeights.exit_code)


def _in_words(shape: Shape) -> str:
    if isinstance(shape, ResNetShape):
        return f"residual network {shape.blocks}"
    return f"ViT, width {shape.width}, {shape.depth} blocks, {shape.heads} heads, patch {shape.patch} px"
