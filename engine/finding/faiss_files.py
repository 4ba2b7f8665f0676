"""What faiss needs around it: files written whole or not at all and read with a sentence; the number of its threads."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from engine.errors import BadInput
from engine.store import write_atomically

if TYPE_CHECKING:
    import faiss


def write_index(path: Path, index: "faiss.Index") -> None:
    """Write an index, in the place of what is there.

    Raises:
        DiskFull: there is no room; what was at ``path`` is intact.
    """
    import faiss

    # By Python's file and not by the path: faiss knows no path of other letters on Windows, nor a full disk as such.
    write_atomically(path, lambda file: faiss.write_index(index, faiss.PyCallbackIOWriter(file.write)))


def read_index(path: Path) -> "faiss.Index":
    """Read what ``write_index`` wrote.

    Raises:
        BadInput: it is not there, or damaged.
    """
    import faiss

    try:
        with path.open("rb") as file:
            return faiss.read_index(faiss.PyCallbackIOReader(file.read))
    except (OSError, RuntimeError) as problem:
        raise BadInput(
            f"The index '{path}' is missing or damaged.", "Make it again: engine index PROJECT --again."
        ) from problem


def use_one_thread() -> None:
    """Keep faiss to the thread that calls it; OpenMP keeps this apart for every thread."""
    import faiss

    faiss.omp_set_num_threads(1)


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Keep faiss to the thread that calls it, and give the threads back."""
    import faiss

    threads = faiss.omp_get_max_threads()
    use_one_thread()
    try:
        yield
    finally:
        faiss.omp_set_num_threads(threads)
