"""Pictures at their full size, for a canvas: read off the GUI thread, the last ones kept, the next ones read ahead."""

from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

from dinoviz.background import Background
from dinoviz.widgets.picture.layers import Pyramid
from dinoviz.widgets.picture.overlays import image_of_rgb
from engine.errors import UnreadablePicture
from engine.images import open_rgb

ROOM_BYTES = 256 << 20
"""Pictures kept: four of 12 megapixels with their halved copies, some hundred of a web page."""
Key = tuple[Path, object]


def read_pyramid(path: Path) -> Pyramid:
    """Read a picture, upright.

    Raises:
        UnreadablePicture: it cannot be.
    """
    return Pyramid.of(image_of_rgb(open_rgb(path)))


class LargePictures:
    """Reads pictures in threads."""

    def __init__(self, background: Background) -> None:
        self._background = background
        self._kept: OrderedDict[Key, Pyramid] = OrderedDict()

    def get(
        self,
        slot: str,
        path: Path,
        stamp: object,
        then: Callable[[Pyramid], object],
        failed: Callable[[str], object],
    ) -> bool:
        """Call ``then`` with a picture, at once where it is kept; tell whether it was.

        Args:
            slot: the place that shows it: what it asked for before is dropped.
            path: of the picture.
            stamp: state of its file; one that changed is read again.
            then: called with it.
            failed: called with why it cannot be read.
        """
        key = (path, stamp)
        self._background.forget(slot)
        if key in self._kept:
            self._kept.move_to_end(key)
            then(self._kept[key])
            return True

        def take(picture: Pyramid) -> None:
            self._keep(key, picture)
            then(picture)

        def tell(problem: Exception) -> None:
            if not isinstance(problem, UnreadablePicture):
                raise problem
            failed(f"{problem.message} {problem.hint}".strip())

        self._background(slot, lambda: read_pyramid(path), take, tell)
        return False

    def ahead(self, slot: str, path: Path, stamp: object) -> None:
        """Read a picture that will be wanted next."""
        if (path, stamp) not in self._kept:
            self._background(slot, lambda: read_pyramid(path), lambda read: self._keep((path, stamp), read), _ignore)

    def _keep(self, key: Key, picture: Pyramid) -> None:
        self._kept[key] = picture
        self._kept.move_to_end(key)
        while len(self._kept) > 1 and sum(map(_bytes, self._kept.values())) > ROOM_BYTES:
            self._kept.popitem(last=False)


def _bytes(picture: Pyramid) -> int:
    return sum(level.sizeInBytes() for level in picture.levels)


def _ignore(problem: Exception) -> None:
    """Say nothing of a picture that nobody looks at yet; it is read again when somebody does."""
    if not isinstance(problem, UnreadablePicture):
        raise problem
