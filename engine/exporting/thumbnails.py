"""Small copies of pictures for viewers: made from pixels, so that no GPS position or other EXIF comes along.

Letters after a name are its axes: Y X pixels · 3 colours, RGB
"""

import io
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from engine.errors import UnreadablePicture
from engine.exporting.table import LeftOut, Table
from engine.images import open_rgb, thumbnail
from engine.machine import usable_cores
from engine.project import Picture
from engine.seeing.drawing import square

QUALITY = 85  # of JPEG
AHEAD = 64  # made ahead of the one that is waited for, for each thread

Made = TypeVar("Made")


def tile(path: Path, side: int) -> NDArray[np.uint8]:
    """Return the central square of a picture, (side, side, 3).

    Raises:
        UnreadablePicture: it cannot be decoded any more.
    """
    return square(open_rgb(path, at_least=side), side)


def jpeg(path: Path, side: int) -> bytes:
    """Return a picture that fits in ``side`` x ``side`` pixels as a JPEG file.

    Raises:
        UnreadablePicture: it cannot be decoded any more.
    """
    written = io.BytesIO()
    Image.fromarray(thumbnail(path, side)).save(written, "JPEG", quality=QUALITY)
    return written.getvalue()


def of_all(table: Table, make: Callable[[Path], Made], missing: list[LeftOut]) -> Iterator[Made | None]:
    """Make something of every picture of a table, in order, by as many threads as there are cores.

    Args:
        table: the rows.
        make: what is done to the path of a picture.
        missing: is given the pictures that cannot be decoded any more, for which None is made.
    """
    workers = usable_cores()
    waiting = iter(table.pictures)
    with ThreadPoolExecutor(workers) as pool:
        ahead: deque[tuple[Picture, Future[Made]]] = deque()

        def submit(n: int) -> None:
            ahead.extend((picture, pool.submit(make, table.root / picture.path)) for picture in islice(waiting, n))

        submit(AHEAD * workers)
        try:
            while ahead:
                picture, future = ahead.popleft()
                submit(1)
                yield _result(picture, future, missing)
        finally:
            for _, future in ahead:
                future.cancel()


def _result(picture: Picture, future: Future[Made], missing: list[LeftOut]) -> Made | None:
    try:
        return future.result()
    except UnreadablePicture as problem:
        missing.append(LeftOut(picture.path, f"without its thumbnail: {problem.message}"))
        return None
