"""``engine export``: features, patches, maps, labels, masks and backbones for other programs.

The choices of ``--format`` and their help are the rows of ``catalogue.EXPORTS``.
"""

import argparse
import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, get_args

from engine import provenance
from engine.catalogue import MAP_METHODS, formats_of
from engine.commands import Outcome, add_verb, new_parser
from engine.commands.arguments import add_model, add_set, add_target, formats_in_words
from engine.commands.export_looks import add_attention, add_masks
from engine.commands.listing import counted, named_in_words
from engine.errors import EXIT_PARTIAL, BadInput, BadRecipe
from engine.exporting.embeddings import WITHOUT_METADATA
from engine.exporting.table import LeftOut, Table
from engine.exporting.targets import check_file, check_folder, whole_folder, write_file
from engine.exporting.viewers import Surroundings
from engine.exporting.writers import EMBEDDINGS
from engine.finding.map_files import Method, PictureMap, read_map
from engine.finding.neighbours import read_neighbours
from engine.project import Project
from engine.protocol import Noticed, Tell
from engine.quantities import size_in_words
from engine.sets import FeatureSet
from engine.timing import Pace

if TYPE_CHECKING:
    from engine.exporting.onnx import Normalise


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command and of what can be exported."""
    command = new_parser(
        "export",
        "Write features, patches, maps, labels, masks, attention or a backbone for other programs. Every export says "
        "what made it; none holds the EXIF or GPS position of a picture. Nothing that is there is replaced without "
        "--overwrite.",
        [
            "engine export embeddings photos.dinoviz --format parquet --out features.parquet",
            "engine export map photos.dinoviz --method tsne --format svg --out map.svg",
            "engine export backbone --model photos.dinoviz/runs/0001 --format onnx --out backbone.onnx",
        ],
    )
    verbs = command.add_subparsers(metavar="WHAT", required=True)
    _add_embeddings(verbs)
    _add_patches(verbs)
    _add_map(verbs)
    _add_labels(verbs)
    _add_backbone(verbs)
    add_masks(verbs)
    add_attention(verbs)
    return command


def _add_embeddings(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    verb = add_verb(
        verbs,
        "embeddings",
        brief="the features of all pictures, as a table or for a viewer",
        about=formats_in_words("Write the features of all pictures of a project.", "embeddings"),
        examples=[
            "engine export embeddings photos.dinoviz --format parquet --out features.parquet",
            "engine export embeddings photos.dinoviz --format projector --at-most 10000 --out logs/",
        ],
    )
    verb.add_argument("project", type=Path, help="a project with features")
    add_set(verb)
    add_target(verb, "embeddings")
    verb.add_argument(
        "--at-most", type=int, metavar="N", help="a sample of so many pictures, of every label its share (default: all)"
    )
    verb.add_argument("--seed", type=int, default=0, help="of the sample (default 0)")
    verb.add_argument("--map", choices=tuple(MAP_METHODS), help="atlas: map of the positions (default: any there is)")
    verb.set_defaults(run=run_embeddings)


def _add_patches(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    verb = add_verb(
        verbs,
        "patches",
        brief="the features of all patches, with their places",
        about=formats_in_words("Write the features of all patches of all pictures, with their boxes.", "patches"),
        examples=["engine export patches photos.dinoviz --format npz --out patches/"],
    )
    verb.add_argument("project", type=Path, help="a project with features")
    add_set(verb)
    add_target(verb, "patches")
    verb.add_argument("--at-most", type=int, metavar="N", help="a sample of so many pictures (default: all)")
    verb.add_argument("--seed", type=int, default=0, help="of the sample (default 0)")
    verb.set_defaults(run=run_patches)


def _add_map(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    verb = add_verb(
        verbs,
        "map",
        brief="where every picture lies on a map, as a table or a drawing",
        about=formats_in_words("Write a map of a set that engine map has made.", "map"),
        examples=[
            "engine export map photos.dinoviz --method tsne --format svg --out map.svg",
            "engine export map photos.dinoviz --method umap --format csv --out map.csv",
        ],
    )
    verb.add_argument("project", type=Path, help="a project with features")
    add_set(verb)
    verb.add_argument("--method", choices=tuple(MAP_METHODS), default="tsne", help="which map (default tsne)")
    add_target(verb, "map")
    verb.set_defaults(run=run_map)


def _add_labels(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    verb = add_verb(
        verbs,
        "labels",
        brief="the labels as they were corrected, and what the folders said",
        about=formats_in_words("Write the label of every picture that has one.", "labels"),
        examples=["engine export labels photos.dinoviz --corrected --format csv --out labels.csv"],
    )
    verb.add_argument("project", type=Path, help="a project")
    verb.add_argument("--corrected", action="store_true", help="only those that were corrected by hand")
    add_target(verb, "labels")
    verb.set_defaults(run=run_labels)


def _add_backbone(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    verb = add_verb(
        verbs,
        "backbone",
        brief="a backbone for transformers, timm, the original code or ONNX",
        about=formats_in_words("Write a backbone.", "backbone"),
        examples=[
            "engine export backbone --model photos.dinoviz/runs/0001 --format hf --out backbone-hf/",
            "engine export backbone --model bundled --format onnx --attention --out backbone.onnx",
        ],
    )
    add_model(verb)
    add_target(verb, "backbone")
    verb.add_argument(
        "--normalise",
        choices=("inside", "outside"),
        default="inside",
        help="onnx: the graph takes RGB from 0 to 1, or pictures less mean, by deviation (default inside)",
    )
    verb.add_argument("--attention", action="store_true", help="onnx: also how [CLS] looks at the patches, last block")
    verb.set_defaults(run=run_backbone)


def run_embeddings(arguments: argparse.Namespace, tell: Tell) -> Outcome:
    """Write the features of a set; exit 4 when pictures are left out."""
    how, out = arguments.format, arguments.out
    _check_target(arguments, not formats_of("embeddings")[how].ending)
    with Project.at(arguments.project) as project:
        features = project.features(arguments.set)
        whole = Table.of(project, features)
    table = whole.sample(arguments.at_most, arguments.seed)
    about = _facts(table, whole, arguments)
    pace = Pace(f"writing {how}", len(table), "pictures", tell)
    writer = EMBEDDINGS[how]
    if writer.most_rows is not None and len(table) > writer.most_rows:
        text = f"The viewer shows the first {writer.most_rows:,} rows only, of {len(table):,}."
        tell(Noticed(level="warning", text=text, hint=f"Add --at-most {writer.most_rows}."))
    around = {"surroundings": _surroundings(features, arguments.map, tell)} if writer.shows_map else {}
    missing: list[LeftOut] = []

    def write(target: Path | BinaryIO) -> None:
        missing.extend(writer.write(table, target, about, pace, **around))

    if formats_of("embeddings")[how].ending:
        beside = about if how in WITHOUT_METADATA else None
        files = write_file(out, write, overwrite=arguments.overwrite, beside=beside)
    else:
        with whole_folder(out, about, overwrite=arguments.overwrite) as folder:
            write(folder)
        files = _files_of(out)
    return _outcome(out, files, f"{len(table):,} pictures", {"rows": len(table)}, [*table.left_out, *missing])


def run_patches(arguments: argparse.Namespace, tell: Tell) -> Outcome:
    """Write the features of patches; exit 4 when pictures are left out."""
    from engine.exporting.patches import FOLDERS as PATCH_FOLDERS

    _check_target(arguments, is_folder=True)
    with Project.at(arguments.project) as project:
        features = project.features(arguments.set)
        whole = Table.of(project, features)
    table = whole.sample(arguments.at_most, arguments.seed)
    about = _facts(table, whole, arguments)
    pace = Pace(f"writing {arguments.format}", len(table), "pictures", tell)
    with whole_folder(arguments.out, about, overwrite=arguments.overwrite) as folder:
        PATCH_FOLDERS[arguments.format](table, folder, about, pace)
    what = f"patches of {len(table):,} pictures"
    return _outcome(arguments.out, _files_of(arguments.out), what, {"rows": len(table)}, table.left_out)


def run_map(arguments: argparse.Namespace, tell: Tell) -> Outcome:
    """Write a map; exit 4 when pictures are left out."""
    from engine.exporting import maps

    how = arguments.format
    _check_target(arguments, is_folder=False)
    with Project.at(arguments.project) as project:
        features = project.features(arguments.set)
        picture_map = read_map(features, arguments.method)
        placed = maps.Placed.of(Table.of(project, features), picture_map)
    about = provenance.of_set(features, **maps.facts(picture_map), rows=len(placed.table))
    files = write_file(
        arguments.out,
        lambda file: maps.FILES[how](placed, file, about),
        overwrite=arguments.overwrite,
        beside=about if how in WITHOUT_METADATA else None,
    )
    what = f"{MAP_METHODS[arguments.method].title} map of {len(placed.table):,} pictures"
    return _outcome(arguments.out, files, what, {"rows": len(placed.table)}, placed.table.left_out)


def run_labels(arguments: argparse.Namespace, tell: Tell) -> Outcome:
    """Write labels."""
    from engine.exporting import labels

    _check_target(arguments, is_folder=False)
    with Project.at(arguments.project) as project:
        rows = labels.labels_of(project, corrected_only=arguments.corrected)
    write = labels.FILES[arguments.format]
    about = provenance.of_program(rows=len(rows))
    files = write_file(arguments.out, lambda file: write(rows, file), overwrite=arguments.overwrite, beside=about)
    n_corrected = sum(row.is_corrected for row in rows)
    what = f"{counted(len(rows), 'label')}, {n_corrected:,} of them corrected"
    return _outcome(arguments.out, files, what, {"rows": len(rows), "corrected": n_corrected}, [])


def run_backbone(arguments: argparse.Namespace, tell: Tell) -> Outcome:
    """Write a backbone."""
    from engine.exporting.backbones import check_shape, export_backbone
    from engine.exporting.onnx import OnnxOptions
    from engine.models.weights import load_backbone

    how = arguments.format
    if how != "onnx" and (arguments.attention or arguments.normalise != "inside"):
        raise BadRecipe(f"--attention and --normalise mean nothing to {how}.", "They are options of --format onnx.")
    _check_target(arguments, not formats_of("backbone")[how].ending)
    backbone = load_backbone(arguments.model, role=arguments.role)
    check_shape(backbone.shape, how)
    normalise: Normalise = arguments.normalise
    exported = export_backbone(
        backbone,
        how,
        arguments.out,
        backbone.provenance(role=arguments.role),
        overwrite=arguments.overwrite,
        options=OnnxOptions(normalise=normalise, has_attention=arguments.attention),
    )
    for notice in (*backbone.notices, *exported.notices):
        tell(Noticed(level="info", text=notice))
    return _outcome(arguments.out, exported.files, f"backbone as {how}", {"notices": list(exported.notices)}, [])


def _check_target(arguments: argparse.Namespace, is_folder: bool) -> None:
    check = check_folder if is_folder else check_file
    check(arguments.out, overwrite=arguments.overwrite)


def _facts(table: Table, whole: Table, arguments: argparse.Namespace) -> provenance.Provenance:
    sample = {"sample_of": len(whole), "sample_seed": arguments.seed} if len(table) < len(whole) else {}
    return provenance.of_set(table.features, rows=len(table), left_out=len(table.left_out), **sample)


def _surroundings(features: FeatureSet, method: Method | None, tell: Tell) -> Surroundings:
    """Return the map and the neighbours of a set for an atlas; say what is not there.

    Raises:
        BadInput: the map that was asked for is not there.
    """
    neighbours, places_N2 = None, None
    try:
        neighbours = read_neighbours(features)
    except BadInput as problem:
        tell(Noticed(level="warning", text=f"Written without neighbours. {problem.message}", hint=problem.hint))
    if method is not None:
        places_N2 = read_map(features, method).positions_N2
    else:
        there = _maps_of(features)
        places_N2 = there[0].positions_N2 if there else None
    if places_N2 is None:
        text = "Written with the vectors, since the set has no map that is up to date."
        tell(Noticed(level="info", text=text, hint="Embedding Atlas makes one with --vector vector; or: engine map."))
    return Surroundings(places_N2, neighbours)


def _maps_of(features: FeatureSet) -> list[PictureMap]:
    """Return the maps of a set that are there and up to date, in the order of the catalogue."""
    found = []
    for method in get_args(Method):
        with contextlib.suppress(BadInput):
            found.append(read_map(features, method))
    return found


def _files_of(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _outcome(
    out: Path, files: Sequence[Path], what: str, facts: Mapping[str, object], left_out: Sequence[LeftOut]
) -> Outcome:
    size = sum(path.stat().st_size for path in files)
    data = {
        "out": str(out),
        "files": len(files),
        "size_bytes": size,
        **facts,
        "left_out": [{"path": row.path, "problem": row.problem} for row in left_out],
    }
    n_files = "" if len(files) == 1 else f" in {len(files):,} files"
    lines = [f"{out}: {what}, {size_in_words(size)}{n_files}"]
    if left_out:
        lines.append(f"  left out, wholly or in part: {len(left_out):,}")
        lines += named_in_words([f"{row.path}: {row.problem}" for row in left_out])
    return Outcome(data, "\n".join(lines), EXIT_PARTIAL if left_out else 0)
