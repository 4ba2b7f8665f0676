"""The pictures of a run: their list, fixed when the run starts, and their pixels by index.

The list lies in the run's folder and is memory-mapped, so that a million paths cost a loader process
nothing. Pixels come from the files or, when the plan says ``prepare``, from one file of shrunken copies.
"""

import contextlib
import hashlib
import os
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset

from engine.errors import BadInput, UnreadablePicture
from engine.images import open_rgb
from engine.project import Picture
from engine.protocol import Tell
from engine.seeing.views import shrunk
from engine.store import write_atomically
from engine.timing import Pace

_ROW = np.dtype([("start", "<i8"), ("end", "<i8"), ("rows", "<i4"), ("cols", "<i4")])
_LABELS = "pictures.labels.npy"
_COPY = np.dtype([("start", "<i8"), ("rows", "<i4"), ("cols", "<i4")])


class PictureList:
    """What a run learns from: paths and sizes, in a fixed order, and classes where labels are learnt."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._open()

    def _open(self) -> None:
        self._rows: NDArray[np.void] = np.load(self._folder / "pictures.npy", mmap_mode="r", allow_pickle=False)
        self._paths = np.memmap(self._folder / "pictures.paths", dtype=np.uint8, mode="r")
        labels = self._folder / _LABELS
        self.labels_N: NDArray[np.int32] | None = np.load(labels, allow_pickle=False) if labels.exists() else None

    def __getstate__(self) -> Path:
        return self._folder

    def __setstate__(self, folder: Path) -> None:
        self.__init__(folder)  # type: ignore[misc]

    @classmethod
    def write(cls, folder: Path, pictures: Sequence[Picture], classes: Sequence[str] = ()) -> "PictureList":
        """Write the list of a new run into its folder, with the place of each one's label among ``classes``, if any."""
        names = [os.fsencode(picture.path) for picture in pictures]
        ends = np.cumsum([len(name) for name in names])
        rows = np.zeros(len(pictures), _ROW)
        rows["end"], rows["start"] = ends, ends - [len(name) for name in names]
        rows["rows"] = [picture.rows or 0 for picture in pictures]
        rows["cols"] = [picture.cols or 0 for picture in pictures]
        write_atomically(folder / "pictures.paths", lambda file: file.write(b"".join(names)))
        if classes:
            places = {name: place for place, name in enumerate(classes)}
            labels = np.array([places[str(picture.label)] for picture in pictures], np.int32)
            write_atomically(folder / _LABELS, lambda file: np.save(file, labels, allow_pickle=False))
        write_atomically(folder / "pictures.npy", lambda file: np.save(file, rows, allow_pickle=False))
        return cls(folder)

    def __len__(self) -> int:
        return len(self._rows)

    def path(self, index: int) -> str:
        """Return the path relative to the project's folder of pictures."""
        row = self._rows[index]
        return os.fsdecode(self._paths[row["start"] : row["end"]].tobytes())

    def size(self, index: int) -> tuple[int, int]:
        """Return rows and cols of the upright picture, in pixels."""
        return int(self._rows["rows"][index]), int(self._rows["cols"][index])

    def difference(self, pictures: Sequence[Picture]) -> str:
        """Return in words how other pictures differ from this list, empty when they do not."""
        here = {self.path(i): self.size(i) for i in range(len(self))}
        there = {picture.path: (picture.rows, picture.cols) for picture in pictures}
        counts = {
            "new": len(there.keys() - here.keys()),
            "gone": len(here.keys() - there.keys()),
            "of another size": sum(here[path] != there[path] for path in here.keys() & there.keys()),
        }
        return ", ".join(f"{count} {what}" for what, count in counts.items() if count)


def fingerprint(pictures: Sequence[Picture]) -> str:
    """Return a short digest of the paths and contents of pictures: equal digests, equal data."""
    digest = hashlib.blake2b(digest_size=8)
    for picture in pictures:
        digest.update(os.fsencode(picture.path) + b"\0" + (picture.hash or "").encode() + b"\n")
    return digest.hexdigest()


class Pixels:
    """The pixels of listed pictures, read from their files or from shrunken copies."""

    def __init__(self, pictures: PictureList, root: Path, copies: "Copies | None" = None) -> None:
        self.pictures = pictures
        self._root = root
        self._copies = copies

    def __len__(self) -> int:
        return len(self.pictures)

    def beside(self, pictures: PictureList) -> "Pixels":
        """Return the pixels of other pictures of the same folder, read from their files."""
        return Pixels(pictures, self._root)

    def read(self, index: int, at_least: int | None = None) -> NDArray[np.uint8]:
        """Return a picture upright, (rows, cols, 3); its shorter side is not below ``at_least`` unless the file's is.

        Raises:
            UnreadablePicture: the file is gone or broken by now.
        """
        if self._copies is not None:
            return self._copies.read(index)
        return open_rgb(self._root / self.pictures.path(index), at_least=at_least)


class Copies:
    """Shrunken copies of all pictures of a list in one memory-mapped file; a picture that failed has no rows."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._rows: NDArray[np.void] = np.load(folder / "copies.npy", allow_pickle=False)
        self._pixels = np.memmap(folder / "copies.pixels", dtype=np.uint8, mode="r")

    def __getstate__(self) -> Path:
        return self._folder

    def __setstate__(self, folder: Path) -> None:
        self.__init__(folder)  # type: ignore[misc]

    def read(self, index: int) -> NDArray[np.uint8]:
        """Return a copy.

        Raises:
            UnreadablePicture: it could not be read when the copies were made.
        """
        start, rows, cols = self._rows[index]
        if not rows:
            raise UnreadablePicture("could not be read when the shrunken copies were made")
        return self._pixels[start : start + 3 * int(rows) * int(cols)].reshape(rows, cols, 3)

    @classmethod
    def make(cls, folder: Path, pixels: Pixels, side: int, workers: int, tell: Tell) -> "Copies":
        """Write copies whose shorter side is at most ``side``, unless they are there already."""
        if (folder / "copies.npy").exists():
            copies = cls(folder)
            if not copies._can_be_read_now(pixels):
                return copies
        folder.mkdir(parents=True, exist_ok=True)
        rows = np.zeros(len(pixels), _COPY)
        pace = Pace("shrinking pictures", len(pixels), "pictures", tell)

        def write(file: BinaryIO) -> None:
            for index, copy in enumerate(_shrunken(pixels, side, workers)):
                rows[index] = (file.tell(), *(copy.shape[:2] if copy is not None else (0, 0)))
                if copy is not None:
                    file.write(copy.tobytes())
                pace.reached(index + 1)

        write_atomically(folder / "copies.pixels", write)
        if not rows["rows"].any():
            raise BadInput("None of the pictures can be read any more.", "Scan the folder again: engine scan FOLDER.")
        write_atomically(folder / "copies.npy", lambda file: np.save(file, rows, allow_pickle=False))
        return cls(folder)

    def _can_be_read_now(self, pixels: Pixels) -> bool:
        """Tell whether a picture that failed when the copies were made, on a drive that was away say, is well again."""
        for index in np.flatnonzero(self._rows["rows"] == 0):
            with contextlib.suppress(UnreadablePicture):
                pixels.read(int(index))
                return True
        return False


class _Shrinking(Dataset[NDArray[np.uint8] | None]):
    def __init__(self, pixels: Pixels, side: int) -> None:
        self._pixels = pixels
        self._side = side

    def __len__(self) -> int:
        return len(self._pixels)

    def __getitem__(self, index: int) -> NDArray[np.uint8] | None:
        try:
            picture = self._pixels.read(index, at_least=self._side)
        except UnreadablePicture:
            return None
        return shrunk(picture, self._side)


def _shrunken(pixels: Pixels, side: int, workers: int) -> Iterator[NDArray[np.uint8] | None]:
    yield from DataLoader(
        _Shrinking(pixels, side),
        batch_size=None,
        num_workers=workers,
        collate_fn=_as_it_is,
        multiprocessing_context=worker_context(workers),
        worker_init_fn=begin_worker,
    )


def _as_it_is(item: NDArray[np.uint8] | None) -> NDArray[np.uint8] | None:
    return item


def worker_context(workers: int) -> str | None:
    """Return how loader processes start.

    Afresh: a bare fork inherits locks and GPU state, and processes of a fork server outlive a killed parent, since
    each keeps the server alive and the server them.
    """
    return "spawn" if workers else None


def begin_worker(_: int) -> None:
    """Leave Ctrl-C to the process that trains, and one core to each loader."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
