"""The small pictures below the large one: the heads of a layer, or the pictures that are looked at together."""

from collections.abc import Sequence

from PySide6.QtGui import QImage

from dinoviz.choices import LookChoices
from dinoviz.looking import AttentionSeen, Patch, PatchesSeen
from dinoviz.table import PictureTable
from dinoviz.thumbnails import Thumbnails
from dinoviz.views.look.panel import ABOUT_HEADS
from dinoviz.views.look.strip import Tile
from dinoviz.widgets.picture.looks import chosen_heads, head_colour, head_images, small_images
from dinoviz.words import tr

GALLERY_PX = 192
"""Longer side of thumbnails in the row: twice their height there, for screens of scale 2."""


def head_tiles(seen: AttentionSeen, choices: LookChoices) -> list[Tile]:
    """Return the mean of the heads and each of them; of a rollout it alone."""
    n_heads = len(seen.maps_HRC)
    height, width = seen.lattice.picture
    heads = chosen_heads(choices, n_heads)
    keys: list[int | str] = ["mean", *range(n_heads)] if n_heads > 1 else ["mean"]
    return [
        Tile(
            key=key,
            title=tr("Head {n}", n=key + 1) if isinstance(key, int) else tr("Mean") if n_heads > 1 else tr("Rollout"),
            aspect=width / height,
            over=image,
            reach=reach,
            dot=head_colour(key) if len(heads) > 1 and isinstance(key, int) and key in heads else None,
            tip=f"<qt>{tr(ABOUT_HEADS)}</qt>",
            is_smooth=choices.is_smooth,
        )
        for key, (image, reach) in zip(keys, head_images(seen, choices), strict=True)
    ]


def gallery_tiles(
    gallery: Sequence[int],
    table: PictureTable,
    thumbnails: Thumbnails,
    choices: LookChoices,
    seen: PatchesSeen | None,
    patch: Patch | None,
) -> list[Tile]:
    """Return the pictures of a row, with what was seen in them where they were asked for."""
    over: Sequence[tuple[QImage, tuple[float, float]]] = small_images(seen, choices, patch) if seen else ()
    tiles = []
    for number, picture in enumerate(gallery):
        row = table.row_of(picture)
        image, reach = over[number] if number < len(over) else (None, (1.0, 1.0))
        tiles.append(
            Tile(
                key=picture,
                title=table.name(picture),
                aspect=max(1, int(table.widths_N[row])) / max(1, int(table.heights_N[row])),
                base=thumbnails.image(picture, GALLERY_PX),
                over=image,
                reach=reach,
                tip=table.path(picture),
                is_smooth=choices.is_smooth,
            )
        )
    return tiles
