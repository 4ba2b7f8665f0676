"""``engine embed``: the features of all pictures of a project by one backbone."""

import argparse
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import numpy as np
import torch
from numpy.typing import NDArray

from engine import distributed
from engine.catalogue import name_of
from engine.commands import Outcome, StopSignal, new_parser
from engine.commands.arguments import add_device, add_model
from engine.commands.listing import named_in_words
from engine.commands.scanning import open_project, scan_into
from engine.errors import EXIT_PARTIAL, BadInput, BadRecipe, DiskFull, UnreadablePicture
from engine.facts import free_bytes
from engine.machine import find_device, make_cpu_fast, usable_cores
from engine.measuring.knn import NEIGHBOURS, knn_accuracy, leave_one_out_accuracy
from engine.models import feature_width, patch_of
from engine.models.weights import Backbone, load_backbone
from engine.project import GONE as FILE_GONE
from engine.project import Picture, Project
from engine.protocol import Noticed, Tell
from engine.quantities import size_in_words, time_in_words
from engine.seeing.embed import Embedder, Seen, block_length, dimensions
from engine.seeing.grid import Grid
from engine.sets import GONE, ROW, SEEN, Block, FeatureSet, FeatureWriter, Kind, SetPlan, View, hash_words
from engine.sources import source
from engine.store import sole_writer
from engine.timing import Pace

PAPER_SIDE = 224
"""Side at which the papers measure with features of whole pictures; eval_knn.py."""
PATCH_SIDE_FACTOR = 3
"""Shorter side at which patches are kept, in sides the backbone learnt at: small parts need several patches."""
MOST_WORKERS = 16  # threads; beyond them the interpreter is what they wait for
MOST_ASKED = 10_000  # pictures whose neighbours are counted for the accuracy: its standard error is then below 0.005


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command."""
    command = new_parser(
        "embed",
        "Compute the features of all pictures of a project by one backbone, and keep them as a set of the project. "
        "Run again, it computes those of new and changed pictures only. Ctrl-C keeps what is done.",
        [
            "engine embed photos/ --model bundled",
            "engine embed photos.dinoviz --model photos.dinoviz/runs/0001 --features cls+mean",
            "engine embed photos.dinoviz --model dino_vits8 --patches --dry-run",
            "torchrun --nproc-per-node 2 -m engine embed photos.dinoviz --model dino_vits8",
        ],
    )
    command.add_argument("folder", type=source, help="a project, or a folder of pictures")
    command.add_argument("--project", type=Path, help="where to keep the project of a folder; beside it by default")
    add_model(command)
    command.add_argument(
        "--features", choices=get_args(Kind), default="cls", help="what of a picture is its vector (default cls)"
    )
    command.add_argument("--patches", action="store_true", help="keep the features of all patches, to search by parts")
    command.add_argument(
        "--view",
        choices=("auto", *get_args(View)),
        default="auto",
        help="central crop, all squeezed to a square, or whole in its own aspect (auto: crop; with --patches whole)",
    )
    command.add_argument("--side", type=int, help="shorter side it is seen at, px (by default as the backbone learnt)")
    command.add_argument("--precision", choices=("auto", "bf16", "fp32"), default="auto", help="of the computation")
    add_device(command)
    command.add_argument("--workers", type=int, help="threads that decode pictures (by default one a core)")
    command.add_argument("--dry-run", action="store_true", help="say what would be done and the room it takes")
    command.set_defaults(run=run)
    return command


@dataclass(frozen=True, slots=True)
class Work:
    """What is left to do: pictures in the place of rows that are there, then pictures to add, in blocks."""

    root: Path
    places: tuple[NDArray[np.intp], ...]
    blocks: tuple[tuple[Picture, ...], ...]

    @property
    def n_pictures(self) -> int:
        """Pictures that will be looked at."""
        return sum(len(block) for block in self.blocks)

    def part(self, rank: int, processes: int) -> Iterator[list[Path | UnreadablePicture]]:
        """Yield one process's part of each block; what the scan could not read is not tried here, as it may hang."""
        for block in self.blocks:
            first, last = (len(block) * part // processes for part in (rank, rank + 1))
            yield [
                UnreadablePicture(picture.problem) if picture.problem else self.root / picture.path
                for picture in block[first:last]
            ]


def run(arguments: argparse.Namespace, tell: Tell) -> Outcome:
    """Embed what is not embedded yet; exit 4 when a picture could not be read."""
    machine = find_device(arguments.device)
    if machine.device == "cpu":
        make_cpu_fast()
    device = distributed.join(machine.device)
    try:
        backbone = load_backbone(arguments.model, role=arguments.role)
        embedder = Embedder(backbone, _plan(arguments, backbone, has_bf16=machine.has_bf16), device)
        workers = arguments.workers if arguments.workers is not None else min(usable_cores(), MOST_WORKERS)
        rank, _ = distributed.world()
        if rank > 0:
            _follow(embedder, workers)
            return Outcome({}, "")
        for notice in backbone.notices:
            tell(Noticed(level="info", text=notice))
        return _lead(arguments, embedder, workers, tell)
    finally:
        distributed.leave()


def _plan(arguments: argparse.Namespace, backbone: Backbone, *, has_bf16: bool) -> SetPlan:
    """Return the plan of the set, with what was left open filled in.

    Raises:
        BadRecipe: the side has no room for a patch.
    """
    learnt = int((backbone.recipe or {}).get("global_side", PAPER_SIDE))
    side = PATCH_SIDE_FACTOR * learnt if arguments.patches else learnt
    side = side if arguments.side is None else arguments.side
    patch, width = patch_of(backbone.shape), feature_width(backbone.shape)
    if side < patch:
        raise BadRecipe(f"A side of {side} px has no room for a patch of {patch} px.", f"Choose {patch} px or more.")
    view = arguments.view if arguments.view != "auto" else "whole" if arguments.patches else "crop"
    precision = arguments.precision if arguments.precision != "auto" else "bf16" if has_bf16 else "fp32"
    return SetPlan(
        model=arguments.model,
        model_sha256=backbone.sha256,
        architecture=name_of(backbone.shape),
        kind=arguments.features,
        view=view,
        side=side,
        patch=patch,
        width=width,
        dimensions=dimensions(arguments.features, width),
        has_patches=arguments.patches,
        precision=precision,
        role=arguments.role,
    )


def _lead(arguments: argparse.Namespace, embedder: Embedder, workers: int, tell: Tell) -> Outcome:
    plan, begun = embedder.plan, time.monotonic()
    with open_project(arguments.folder, arguments.project, tell) as project:
        pictures = _pictures(project, tell)
        needed = bytes_needed(plan, pictures)
        about = f"{len(pictures):,} pictures; all of them take {size_in_words(needed)} on the disk"
        if arguments.dry_run:
            distributed.shared(None)
            return Outcome({"pictures": len(pictures), "bytes": needed}, f"{plan.in_words()}: {about}.")
        if plan.has_patches:
            tell(Noticed(level="info", text=f"Features of patches are kept: {about}."))
        folder = project.set_folder(plan)
        folder.mkdir(parents=True, exist_ok=True)
        with sole_writer(folder, "embeds into the set"), StopSignal() as stop:
            writer = FeatureWriter.at(folder, plan)
            work = _work(project.pictures_folder, writer, pictures)
            if not (writer.rows["state"] == SEEN).any() and all(picture.problem for picture in pictures):
                text = f"There is no readable picture in '{project.pictures_folder}'."
                raise BadInput(text, "See engine scan FOLDER.")
            _check_room(folder, needed * work.n_pictures // max(1, len(pictures)))
            project.use_set(plan)
            distributed.shared(work)
            problems = _embed(embedder, work, writer, workers, stop, tell)
        seconds = time.monotonic() - begun
        features = project.features(str(int(folder.name)))
        return _outcome(project, features, pictures, work.n_pictures, problems, seconds)


def _pictures(project: Project, tell: Tell) -> list[Picture]:
    """Return all pictures of the project, the table brought up to date where their folder is there."""
    if project.pictures_folder.is_dir():
        scan_into(project, tell)
    else:
        text = f"The pictures' folder '{project.pictures_folder}' is not there; the table of pictures is used as it is."
        tell(Noticed(level="warning", text=text))
    return project.pictures()


def bytes_needed(plan: SetPlan, pictures: Sequence[Picture]) -> int:
    """Return the room that the features of pictures take on the disk."""
    row = ROW.itemsize + 4 * plan.dimensions + 2 * 2 * plan.width
    if not plan.has_patches:
        return row * len(pictures)
    sizes = [(picture.rows, picture.cols) for picture in pictures if picture.rows and picture.cols]
    square = (plan.side, plan.side)
    grids = [
        Grid.of(size if plan.view == "whole" else square, patch=plan.patch, side=plan.side)  # type: ignore[arg-type]
        for size in sizes
    ]
    return row * len(pictures) + sum(2 * plan.width * grid.rows * grid.cols for grid in grids)


def _check_room(folder: Path, needed: int) -> None:
    free = free_bytes(folder)
    if needed > free:
        raise DiskFull(
            f"The features need {size_in_words(needed)} in '{folder}', which has {size_in_words(free)} left.",
            "Make room, leave out --patches, or choose a smaller --side.",
        )


def _work(root: Path, writer: FeatureWriter, pictures: Sequence[Picture]) -> Work:
    """Compare a set with the pictures of now: what changed, failed or came back is done again, what is new added."""
    rows = writer.rows
    there, new = pictures[: len(rows)], pictures[len(rows) :]
    hashes = np.array([hash_words(picture.hash) for picture in there], np.uint64).reshape(-1, 2)
    is_gone = np.array([picture.problem == FILE_GONE for picture in there], np.bool_)
    is_known_broken = np.array([picture.problem is not None for picture in there], np.bool_)
    is_seen = rows["state"] == SEEN
    is_done = is_seen & (rows["hash"] == hashes).all(axis=1)
    writer.mark_gone(np.flatnonzero(is_gone & (rows["state"] != GONE)))
    again = np.flatnonzero(np.where(is_known_broken, is_seen & ~is_gone, ~is_done))
    length = block_length(writer.plan.side)
    redone = [again[first : first + length] for first in range(0, len(again), length)]
    added = [tuple(new[first : first + length]) for first in range(0, len(new), length)]
    blocks = (*(tuple(there[place] for place in places) for places in redone), *added)
    return Work(root=root, places=tuple(redone), blocks=blocks)


def _embed(
    embedder: Embedder, work: Work, writer: FeatureWriter, workers: int, stop: StopSignal, tell: Tell
) -> dict[str, str]:
    """Write block after block; return why pictures could not be read, by path.

    Raises:
        Stopped: it was asked to stop; the finished blocks are kept.
    """
    pace = Pace("embedding", work.n_pictures, "pictures", tell)
    problems: dict[str, str] = {}
    _, processes = distributed.world()

    def after_batch(n_seen: int) -> None:
        if processes == 1:  # several processes end together, after a block
            pace.reached(pace.done + n_seen)
            if stop.is_set():
                raise stop.stopped()

    n_done = 0
    for number, seen in enumerate(embedder.blocks(work.part(0, processes), workers, after_batch)):
        whole = _joined(distributed.gathered(seen))
        pictures = work.blocks[number]
        hashes = [picture.hash for picture in pictures]
        if number < len(work.places):
            writer.replace(work.places[number], hashes, whole.block)
        else:
            writer.append([picture.id for picture in pictures], hashes, whole.block)
        is_gone = np.array([picture.problem == FILE_GONE for picture in pictures], np.bool_)
        if number >= len(work.places):
            writer.mark_gone(len(writer) - len(pictures) + np.flatnonzero(is_gone))
        problems |= {pictures[at].path: problem for at, problem in whole.problems.items() if not is_gone[at]}
        n_done += len(pictures)
        pace.reached(n_done)
        if distributed.shared(stop.is_set() and n_done < work.n_pictures):
            raise stop.stopped()
    return problems


def _follow(embedder: Embedder, workers: int) -> None:
    """Do this process's part of the work that the first one leads."""
    work: Work | None = distributed.shared(None)
    if work is None:
        return
    for seen in embedder.blocks(work.part(*distributed.world()), workers):
        distributed.gathered(seen)
        if distributed.shared(False):
            return


def _joined(parts: Sequence[Seen]) -> Seen:
    """Put the parts of a block, one a process, together again."""
    if len(parts) == 1:
        return parts[0]
    starts = np.cumsum([0, *(len(part.block.is_seen_N) for part in parts)])
    blocks = [part.block for part in parts]
    has_patches = blocks[0].patches_PW is not None
    block = Block(
        vectors_ND=np.concatenate([block.vectors_ND for block in blocks]),
        copies_ND=np.concatenate([block.copies_ND for block in blocks]),
        is_seen_N=np.concatenate([block.is_seen_N for block in blocks]),
        grids_N2=np.concatenate([block.grids_N2 for block in blocks]),
        patches_PW=np.concatenate([block.patches_PW for block in blocks]) if has_patches else None,  # type: ignore[misc]
    )
    problems = {
        int(start) + place: problem
        for start, part in zip(starts, parts, strict=False)
        for place, problem in part.problems.items()
    }
    return Seen(block, problems)


def accuracy(features: FeatureSet, pictures: Sequence[Picture]) -> tuple[float, str] | None:
    """Return the weighted 20-NN accuracy of a set and in words what was asked against what; None without labels.

    Test pictures (else validation pictures) are asked against the training pictures; without splits every picture is
    asked against all others. At most ``MOST_ASKED`` are asked.
    """
    is_usable_N = features.is_seen_N & np.array([picture.label is not None for picture in pictures], np.bool_)
    rows = [int(row) for row in np.flatnonzero(is_usable_N)]
    classes, label_R = np.unique([pictures[row].label or "" for row in rows], return_inverse=True)
    if len(classes) < 2:
        return None
    split_R = np.array([pictures[row].split or "" for row in rows])
    rows_R, labels_R = np.array(rows), torch.from_numpy(label_R)
    known_K = np.flatnonzero((split_R == "train") | (split_R == ""))
    for split in ("test", "val"):
        asked_Q = _some(np.flatnonzero(split_R == split))
        if len(asked_Q) and len(known_K):
            asked_QD, known_KD = (_vectors(features, rows_R[places]) for places in (asked_Q, known_K))
            score = knn_accuracy(asked_QD, labels_R[asked_Q], known_KD, labels_R[known_K])
            return score, f"{len(asked_Q):,} {split} against {len(known_K):,} train pictures"
    asked_Q = _some(np.arange(len(rows)))
    score = leave_one_out_accuracy(_vectors(features, rows_R), labels_R, torch.from_numpy(asked_Q))
    return score, f"{len(asked_Q):,} pictures, each against all others"


def _some(places: NDArray[np.intp]) -> NDArray[np.intp]:
    """Return at most ``MOST_ASKED`` of some places, always the same ones."""
    return np.sort(np.random.default_rng(0).permutation(places)[:MOST_ASKED])


def _vectors(features: FeatureSet, rows: NDArray[np.intp]) -> torch.Tensor:
    return torch.from_numpy(np.asarray(features.vectors_ND[rows]))


def _outcome(
    project: Project,
    features: FeatureSet,
    pictures: Sequence[Picture],
    n_done: int,
    problems: dict[str, str],
    seconds: float,
) -> Outcome:
    broken = {p.path: p.problem for p in pictures if p.problem not in (None, FILE_GONE)} | problems
    score = accuracy(features, pictures)
    data = {
        "project": str(project.folder),
        "set": features.folder.name,
        "pictures": len(features),
        "seen": int(features.is_seen_N.sum()),
        "embedded_now": n_done,
        "seconds": round(seconds, 2),
        "knn_accuracy": score[0] if score else None,
        "knn_protocol": score[1] if score else None,
        "left_out": [{"path": path, "problem": problem} for path, problem in broken.items()],
    }
    lines = [
        f"{features.folder}",
        f"  {features.plan.in_words()}",
        f"  {n_done:,} pictures embedded now in {time_in_words(seconds)}, {int(features.is_seen_N.sum()):,} in all",
    ]
    if score:
        lines.append(f"  {NEIGHBOURS}-NN accuracy {score[0]:.3f} ({score[1]})")
    if broken:
        lines.append(f"  {len(broken):,} left out:")
        lines += named_in_words([f"{path}: {problem}" for path, problem in broken.items()])
    return Outcome(data, "\n".join(lines), EXIT_PARTIAL if broken else 0)
