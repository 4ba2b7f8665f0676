"""Files of faiss: written whole or not at all, read with a sentence where they are damaged."""

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
