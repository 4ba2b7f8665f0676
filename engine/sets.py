"""One set of a project: the features of all its pictures by one backbone, seen in one way.

    sets/0001/
      plan.json        the backbone and how pictures were shown to it
      rows.npy         one row a picture, in the order of ids: which, of what contents, whether it was seen
      vectors.npy      (N, D) float32, the features
      copies.npy       (N, 2W) float16, CLS and GeM of the patches: what near-duplicates are told by
      patches.npy      (all patches, W) float16, where they were asked for

Rows of pictures that could not be seen are there and zero. `FeatureWriter` is the one that writes; what others make
from a set (neighbours, maps, …) lies beside it under its own names and remembers the ``key`` of what it was made
from, so that being out of date is a comparison.

Letters after a name are its axes:
    N pictures, rows of the set · D width of a vector · W width of the backbone · P patches of all pictures
"""

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Literal, Protocol, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from engine.arrays import ArrayFile
from engine.errors import BadInput, NotMade
from engine.records import read_record, write_record

Kind = Literal["cls", "mean", "cls+mean", "cls4", "gem"]
"""What of a picture is its vector: [CLS], the mean of the patches, both, [CLS] of the last four blocks, or [CLS] with
the generalised mean of the patches (DINO tab. 4)."""
View = Literal["crop", "square", "whole"]
"""How a picture is shown: the central square as in the papers' measurements, all of it squeezed to a square, or all of
it in its own aspect."""

MODEL_PARTS = 2
"""Parts of a path that tell a model from others: ``runs/0001``; those above them are of this computer."""

RUNS = "runs"
"""Folder of a project that its runs are in."""
ROWS = "rows.npy"
WAITING, SEEN, FAILED, GONE = range(4)
"""States of a row: not seen yet; seen; could not be read; the picture is not in the folder any more."""

ROW = np.dtype(
    [
        ("id", "<i8"),
        ("hash", "<u8", (2,)),  # of the file that was seen
        ("state", "u1"),
        ("grid_rows", "<u2"),  # of patches; 0 where patches were not kept
        ("grid_cols", "<u2"),
        ("first_patch", "<i8"),
    ]
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SetPlan:
    """What determines the features of a set.

    Args:
        model: as the person named it.
        model_sha256: of the file of weights.
        architecture: as ``catalogue.name_of``.
        kind: what of a picture is its vector.
        view: how a picture is shown.
        side: shorter side it is shown at, px.
        patch: side of a patch, px.
        width: W, of the backbone.
        dimensions: D, of a vector.
        has_patches: the features of all patches are kept too.
        precision: of the computation.
        role: which network of the file, where it holds both.
    """

    model: str
    model_sha256: str
    architecture: str
    kind: Kind
    view: View
    side: int
    patch: int
    width: int
    dimensions: int
    has_patches: bool
    precision: Literal["bf16", "fp32"]
    role: Literal["teacher", "student"] = "teacher"

    @property
    def key(self) -> str:
        """A digest of everything that decides the numbers; the name of the model does not."""
        # Sets of before there was a role are of teachers.
        left_out = ("model", "role") if self.role == "teacher" else ("model",)
        deciding = {name: value for name, value in asdict(self).items() if name not in left_out}
        return hashlib.blake2b(repr(sorted(deciding.items())).encode(), digest_size=8).hexdigest()

    def in_words(self) -> str:
        """Return what the features are of, how pictures were shown and to which backbone, for people."""
        view = {"crop": "the central square", "square": "the whole squeezed to a square", "whole": "the whole picture"}
        patches = ", and all patches" if self.has_patches else ""
        shown = f"{view[self.view]} at {self.side} px"
        return f"{self.kind}{patches} of {shown} by {short_name(self.model)} ({self.architecture})"


class MadeFromSet(Protocol):
    """What says how something was made from a set; ``made_from`` is the key that the set had then."""

    @property
    def made_from(self) -> str: ...  # noqa: D102


T = TypeVar("T", bound=MadeFromSet)


class FeatureSet:
    """A set that is read: its arrays are mapped into memory."""

    def __init__(self, folder: Path) -> None:
        """Open a set.

        Raises:
            BadInput: there is none, or it is damaged.
        """
        self.folder = folder
        plan = read_record(folder / "plan.json", SetPlan)
        if plan is None:
            raise BadInput(f"There is no set of features in '{folder}'.", "Make one with: engine embed PROJECT.")
        self.plan = replace(plan, model=model_at_home(plan.model, folder.parent.parent))
        # A copy, of which the key is made at once: what is made from the set is of what it held when it was opened.
        self.rows: NDArray[np.void] = np.array(ArrayFile(folder / ROWS).read())
        digest = hashlib.blake2b(plan.key.encode(), digest_size=8)
        digest.update(self.rows.data)
        self.key = digest.hexdigest()
        """A digest of what is in the set: what was made from a set of another key is out of date."""

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def ids_N(self) -> NDArray[np.int64]:
        """Ids of the pictures, ascending."""
        return self.rows["id"]

    @cached_property
    def is_seen_N(self) -> NDArray[np.bool_]:
        """True for the rows that hold features."""
        return np.asarray(self.rows["state"] == SEEN)

    @cached_property
    def vectors_ND(self) -> NDArray[np.float32]:
        """The features, as they came out of the backbone; zero where a picture could not be seen."""
        return ArrayFile(self.folder / "vectors.npy").read()[: len(self)]

    @cached_property
    def copies_ND(self) -> NDArray[np.float16]:
        """CLS and GeM of the patches, beside each other."""
        return ArrayFile(self.folder / "copies.npy").read()[: len(self)]

    @cached_property
    def patches_PW(self) -> NDArray[np.float16]:
        """The features of all patches of all pictures.

        Raises:
            BadInput: they were not kept.
        """
        if not self.plan.has_patches:
            raise BadInput(
                f"The set '{self.folder.name}' has no features of patches.",
                "Make one that does: engine embed PROJECT --patches.",
            )
        return ArrayFile(self.folder / "patches.npy").read()

    def patches_of(self, row: int) -> NDArray[np.float16]:
        """Return the features of the patches of one picture, (grid rows, grid cols, W)."""
        about = self.rows[row]
        rows, cols, first = int(about["grid_rows"]), int(about["grid_cols"]), int(about["first_patch"])
        return self.patches_PW[first : first + rows * cols].reshape(rows, cols, -1)

    def row_of(self, picture_id: int) -> int:
        """Return the row of a picture.

        Raises:
            BadInput: it is not in the set.
        """
        row = int(np.searchsorted(self.ids_N, picture_id))
        if row == len(self) or self.ids_N[row] != picture_id:
            raise BadInput(f"Picture {picture_id} is not in the set.", "Bring it up to date: engine embed PROJECT.")
        return row

    def is_of(self, row: int, digest: str | None) -> bool:
        """Tell whether a row is of a picture with this hash; not where the picture changed since it was seen."""
        return bool(self.is_seen_N[row]) and tuple(self.rows["hash"][row].tolist()) == hash_words(digest)

    def current(self, name: str, kind: type[T]) -> T | None:
        """Return what a file of the set says was made from the features of now, None where there is no such thing."""
        found = read_record(self.folder / name, kind)
        return found if found is not None and found.made_from == self.key else None

    def made(self, name: str, kind: type[T], what: str, remake: str, *, mend: str = "") -> T:
        """Return what a file of the set says was made from the features of now.

        Args:
            name: of the file.
            kind: of the record in it.
            what: was made, in the singular: "table of neighbours".
            remake: the command that makes it.
            mend: what else can be done where it is out of date.

        Raises:
            NotMade: it is not there, or of other features than the set holds now.
        """
        found = read_record(self.folder / name, kind)
        if found is None:
            raise self.lacking(what, remake)
        if found.made_from != self.key:
            text = f"The {what} of the set '{self.folder.name}' is out of date: pictures came, changed or went."
            raise NotMade(text, f"Make it again: {remake}{mend}")
        return found

    def lacking(self, what: str, remake: str) -> NotMade:
        """Return the refusal for want of something that is made from a set."""
        return NotMade(f"The set '{self.folder.name}' has no {what} yet.", f"Make it: {remake}")


@dataclass(frozen=True, slots=True, eq=False)
class Block:
    """The features of some pictures; all arrays have one row a picture but ``patches_PW``.

    ``vectors_ND`` float32, ``copies_ND`` float16, ``grids_N2`` rows and columns of patches, ``patches_PW`` float16 of
    all these pictures one after the other, None where they are not kept. ``is_seen_N`` is False where a picture could
    not be read: its numbers are zero and it has no patches.
    """

    vectors_ND: NDArray[np.float32]
    copies_ND: NDArray[np.float16]
    is_seen_N: NDArray[np.bool_]
    grids_N2: NDArray[np.uint16]
    patches_PW: NDArray[np.float16] | None = None


class FeatureWriter:
    """A set that is being written, block by block; what a killed block left behind does not count."""

    def __init__(self, folder: Path, plan: SetPlan) -> None:
        self.folder = folder
        self.plan = plan
        self._rows = ArrayFile(folder / ROWS)
        self._vectors = ArrayFile(folder / "vectors.npy")
        self._copies = ArrayFile(folder / "copies.npy")
        self._patches = ArrayFile(folder / "patches.npy") if plan.has_patches else None
        for array in (self._vectors, self._copies):
            array.cut(len(self._rows))
        if self._patches is not None:
            rows = self._rows.read()
            counts = rows["grid_rows"].astype(np.int64) * rows["grid_cols"]
            self._patches.cut(int((rows["first_patch"] + counts).max(initial=0)))

    @classmethod
    def at(cls, folder: Path, plan: SetPlan) -> Self:
        """Open the set in a folder for writing, or make it there.

        Raises:
            BadInput: there is another set in the folder.
        """
        there = read_record(folder / "plan.json", SetPlan)
        if there is not None and there.key != plan.key:
            raise BadInput(f"'{folder}' holds another set of features.", "Move it away, and embed again.")
        if not (folder / "plan.json").exists():
            folder.mkdir(parents=True, exist_ok=True)
            ArrayFile.create(folder / "vectors.npy", np.float32, (plan.dimensions,))
            ArrayFile.create(folder / "copies.npy", np.float16, (2 * plan.width,))
            if plan.has_patches:
                ArrayFile.create(folder / "patches.npy", np.float16, (plan.width,))
            ArrayFile.create(folder / ROWS, ROW)
            write_record(folder / "plan.json", plan)
        return cls(folder, plan)

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def rows(self) -> NDArray[np.void]:
        """The rows that are written, as a copy."""
        return np.array(self._rows.read())

    def append(self, ids: Sequence[int], hashes: Sequence[str | None], block: Block) -> None:
        """Add pictures after the ones that are there; their ids must be higher.

        Raises:
            DiskFull: there is no room; the blocks before are intact.
        """
        rows = self._described(ids, hashes, block)
        self._vectors.append(block.vectors_ND)
        self._copies.append(block.copies_ND)
        self._rows.append(rows)

    def replace(self, places: NDArray[np.intp], hashes: Sequence[str | None], block: Block) -> None:
        """Put pictures in the place of rows, which count as waiting until all is written; ``places`` ascend."""
        waiting = self.rows[places]
        waiting["state"] = WAITING
        self._rows.put(places, waiting)
        rows = self._described(waiting["id"], hashes, block, waiting)
        self._vectors.put(places, block.vectors_ND)
        self._copies.put(places, block.copies_ND)
        self._rows.put(places, rows)

    def mark_gone(self, gone: NDArray[np.intp]) -> None:
        """Say of rows that their pictures are not in the folder any more."""
        rows = self.rows[gone]
        rows["state"] = GONE
        self._rows.put(gone, rows)

    def _described(
        self,
        ids: Sequence[int] | NDArray[np.int64],
        hashes: Sequence[str | None],
        block: Block,
        before: NDArray[np.void] | None = None,
    ) -> NDArray[np.void]:
        """Return the rows of a block, its patches being written; over those of ``before`` where there is room."""
        rows = np.zeros(len(ids), ROW)
        rows["id"], rows["hash"] = ids, [hash_words(digest) for digest in hashes]
        rows["state"] = np.where(block.is_seen_N, SEEN, FAILED)
        if self._patches is not None and block.patches_PW is not None:
            rows["grid_rows"], rows["grid_cols"] = block.grids_N2.T
            counts = block.grids_N2.astype(np.int64).prod(axis=1)
            fits_N = np.zeros(len(rows), np.bool_)
            if before is not None:
                fits_N = before["grid_rows"].astype(np.int64) * before["grid_cols"] == counts
                rows["first_patch"][fits_N] = before["first_patch"][fits_N]
            added = np.where(fits_N, 0, counts)
            rows["first_patch"][~fits_N] = (len(self._patches) + np.cumsum(added) - added)[~fits_N]
            is_over_P = np.repeat(fits_N, counts)
            self._patches.append(block.patches_PW[~is_over_P])
            begin = np.repeat(rows["first_patch"] - (np.cumsum(counts) - counts), counts)
            places_P = (begin + np.arange(len(is_over_P)))[is_over_P]
            order = np.argsort(places_P)
            self._patches.put(places_P[order], block.patches_PW[is_over_P][order])
        return rows


def hash_words(digest: str | None) -> tuple[int, int]:
    """Return the 16 bytes of a picture's hash, in hexadecimal, as two numbers; zeros where there is none."""
    whole = int(digest or "0", 16)
    return whole >> 64, whole & (1 << 64) - 1


def model_at_home(model: str, project: Path) -> str:
    """Return where a model is now; a run of this project goes with it when its folder is moved."""
    parts = model.replace("\\", "/").rstrip("/").split("/")[-MODEL_PARTS:]
    if len(parts) < MODEL_PARTS or parts[0] != RUNS or not parts[1].isdecimal():
        return model
    own = project / RUNS / parts[1]
    is_elsewhere = Path(model).is_absolute() and Path(model).is_dir()
    return str(own) if not is_elsewhere and own.is_dir() else model


def short_name(model: str) -> str:
    """Return the name of a model; of a path, its last parts, which tell the run."""
    return "/".join(model.replace("\\", "/").rstrip("/").split("/")[-MODEL_PARTS:])
