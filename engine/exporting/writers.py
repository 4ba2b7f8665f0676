"""Who writes each format of embeddings that ``catalogue.EXPORTS`` lists."""

from collections.abc import Callable
from dataclasses import dataclass

from engine.exporting import embeddings, viewers
from engine.exporting.table import LeftOut


@dataclass(frozen=True, slots=True, kw_only=True)
class Writer:
    """One format.

    Args:
        write: given a table, an open file or a folder as the format is, the provenance and the pace; returns pictures
            that it had to leave out of what it writes.
        shows_map: ``write`` also takes ``viewers.Surroundings``.
        most_rows: that the viewer of it takes, the first ones; None where there is no limit.
    """

    write: Callable[..., list[LeftOut]]
    shows_map: bool = False
    most_rows: int | None = None


EMBEDDINGS: dict[str, Writer] = {
    "npy": Writer(write=embeddings.write_npy),
    "npz": Writer(write=embeddings.write_npz),
    "parquet": Writer(write=embeddings.write_parquet),
    "csv": Writer(write=embeddings.write_csv),
    "projector": Writer(write=viewers.write_projector, most_rows=viewers.SHOWN_ROWS),
    "atlas": Writer(write=viewers.write_atlas, shows_map=True),
    "fiftyone": Writer(write=viewers.write_fiftyone),
}
