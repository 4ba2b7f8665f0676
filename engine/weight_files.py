"""The weights on this computer, read without torch: what is kept, what is half downloaded, what files say of it.

    models/   NAME.safetensors   NAME.pth   NAME.pth.part   NAME.pth.part.json   ledger.json

`models.downloads` and `models.weights` write all of it; the ledger says of each file what it was the first time.
"""

import json
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.catalogue import WEIGHT_SUFFIXES, ResNetShape, Shape, VitShape
from engine.facts import DESCRIPTION, LENGTH_BYTES, MOST_HEADER_BYTES, start_shape
from engine.store import write_atomically

LEDGER = "ledger.json"
PART = ".part"
FLOAT_BYTES = 4
"""Weights and what is computed with them are held in float32 while pictures are looked at."""
PROGRAM_BYTES = 300_000_000
"""What torch and its first products take before there are tokens: a vision service, measured."""
MATRICES = 2.5
"""Attention matrices of all heads that one block holds at once on a CPU, where they are written out (``models.vit``).
With these numbers the estimate is within a tenth of what was measured: ViT-S/16 0.53 GB, ViT-B/16 0.96 GB, ViT-S/8
2.1 GB, the bundled network 1.0 GB."""
LOOK_SIDE = 480
"""Shorter side at which a picture is looked at, px (``questions.OfPicture``)."""
LOOK_ASPECT = 4 / 3
"""Of most cameras."""
TOKENS_IN_WORK = 8
"""Arrays of (tokens, width) that one block of a network holds while it works: its input, queries, keys and values, and
four of the feed-forward layer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptWeights:
    """A file of weights that is kept by name.

    Args:
        name: as ``--model`` takes it.
        path: of the file.
        size_bytes: of the file.
        is_whole: it is as long as it was when it came.
        shape: of its network; None where the file does not say.
        origin: the file or the address it came from; empty where nothing says.
        changed: when, seconds since 1970.
    """

    name: str
    path: Path
    size_bytes: int
    is_whole: bool
    shape: Shape | None
    origin: str
    changed: float


@dataclass(frozen=True, slots=True, kw_only=True)
class HalfHere:
    """A download that was broken off; ``total_bytes`` is 0 where the server did not say."""

    name: str
    path: Path
    here_bytes: int
    total_bytes: int


def kept_weights(folder: Path) -> list[KeptWeights]:
    """Return the weights in the folder of models, by name; nothing where it is not there."""
    ledger = _json(folder / LEDGER)
    found: dict[str, KeptWeights] = {}
    for suffix in reversed(WEIGHT_SUFFIXES):  # the converted file wins over the downloaded one
        for path in sorted(folder.glob(f"[!.]*{suffix}")):
            about, recorded = _kept_as(path), ledger.get(path.name)
            size = path.stat().st_size
            expected = recorded.get("size") if isinstance(recorded, dict) else None
            address = recorded.get("address") if isinstance(recorded, dict) else None
            found[path.stem] = KeptWeights(
                name=path.stem,
                path=path,
                size_bytes=size,
                is_whole=expected in (None, size),
                shape=start_shape(str(path), folder),
                origin=str(about.get("imported_from") or address or ""),
                changed=path.stat().st_mtime,
            )
    return [found[name] for name in sorted(found)]


def half_downloads(folder: Path) -> list[HalfHere]:
    """Return the downloads that can be gone on with, by name."""
    found = []
    for path in sorted(folder.glob(f"[!.]*{PART}")):
        total = _json(path.with_name(path.name + ".json")).get("total", 0)
        name = Path(path.name.removesuffix(PART)).stem
        size = path.stat().st_size
        found.append(
            HalfHere(name=name, path=path, here_bytes=size, total_bytes=total if isinstance(total, int) else 0)
        )
    return found


def recorded_sha256(path: Path) -> str:
    """Return the digest that the ledger has of a kept file; empty where it has none."""
    recorded = _json(path.with_name(LEDGER)).get(path.name)
    return str(recorded.get("sha256", "")) if isinstance(recorded, dict) else ""


def forget(path: Path) -> None:
    """Take a kept file out of the ledger, because it is about to be replaced or deleted on purpose."""
    ledger = _json(path.with_name(LEDGER))
    if ledger.pop(path.name, None):
        encoded = json.dumps(ledger, indent=1, sort_keys=True).encode()
        write_atomically(path.with_name(LEDGER), lambda file: file.write(encoded))


def n_parameters(path: Path) -> int:
    """Return how many numbers the tensors of a safetensors file hold; 0 where it cannot be read."""
    header = _header(path)
    try:
        return sum(math.prod(entry["shape"]) for name, entry in header.items() if name != "__metadata__")
    except (KeyError, TypeError):
        return 0


def bytes_to_look(shape: Shape, parameters: int) -> int:
    """Return about how much memory looking at a picture takes: the program, the weights, and what they work with.

    A network of residual blocks keeps no tokens; of it the weights are counted alone.
    """
    at_rest = PROGRAM_BYTES + FLOAT_BYTES * parameters
    if isinstance(shape, ResNetShape):
        return at_rest
    rows = LOOK_SIDE // shape.patch
    tokens = 1 + shape.registers + rows * int(rows * LOOK_ASPECT)
    kept = shape.depth + 1  # the input of every block, so that any layer is shown at once
    of_tokens = tokens * shape.width * (kept + TOKENS_IN_WORK)
    of_attention = round(MATRICES * shape.heads * tokens**2)
    return at_rest + FLOAT_BYTES * (of_tokens + of_attention)


def shape_in_words(shape: Shape) -> str:
    """Return a shape as people read it: width 384, 12 blocks, 6 heads, patch 16 px."""
    if isinstance(shape, VitShape):
        return f"width {shape.width}, {shape.depth} blocks, {shape.heads} heads, patch {shape.patch} px"
    return f"residual network of {sum(shape.blocks)} blocks"


def _kept_as(path: Path) -> dict[str, Any]:
    """Return what a converted file says of where it came from."""
    try:
        about = json.loads(_header(path)["__metadata__"][DESCRIPTION])["about"]
    except (KeyError, TypeError, ValueError):
        return {}
    return about if isinstance(about, dict) else {}


def _header(path: Path) -> dict[str, Any]:
    """Return the table of contents of a safetensors file; empty where it has none that can be read."""
    if path.suffix != ".safetensors":
        return {}
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(LENGTH_BYTES), "little")
            size = os.fstat(file.fileno()).st_size
            content = json.loads(file.read(length)) if length <= min(MOST_HEADER_BYTES, size) else {}
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
