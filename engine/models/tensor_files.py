"""Files of named tensors: safetensors read and written with checks, pickles opened in a child.

safetensors files are read with plain reads, because a mapped file that shrinks or sits on a
network drive kills the process; pickles are never opened in this process.
"""

import contextlib
import json
import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import torch
from torch import Tensor

from engine.catalogue import PICKLE_SUFFIXES
from engine.errors import BadInput, BadWeights, UnsafeFile

MAX_HEADER_BYTES = 8 * 1024 * 1024
"""A ViT-giant with both roles and heads needs 0.2 MB."""
MAX_TENSORS = 20_000
LENGTH_BYTES = 8
"""A safetensors file starts with the length of its header: 8 bytes, little-endian."""

DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
DTYPE_NAMES = {dtype: name for name, dtype in DTYPES.items()}

ARGUMENTS = "dinoviz-arguments"
"""Key of the metadata under which the child puts the settings found in a checkpoint, as JSON."""
CHILD_REFUSED = 9
"""Exit code of the child: the file asked for more than tensors and plain values."""
CHILD_GRACE_S = 60
CHILD_BYTES_PER_S = 20_000_000
"""A slow disk; together with the grace this bounds how long a pickle may take."""


@dataclass(frozen=True, slots=True)
class Slot:
    """Where one tensor lies in the data of a file."""

    dtype: torch.dtype
    shape: tuple[int, ...]
    begin: int
    end: int


@dataclass(frozen=True, slots=True)
class TensorFile:
    """The checked table of contents of a safetensors file; ``path`` exists as long as its context."""

    path: Path
    slots: Mapping[str, Slot]
    metadata: Mapping[str, str]
    data_begin: int

    def read(self, names: Iterable[str]) -> dict[str, Tensor]:
        """Return the named tensors."""
        with self.path.open("rb") as file:
            return {name: _read_slot(file, self.data_begin, self.slots[name]) for name in names}

    def outline(self, names: Iterable[str]) -> dict[str, Tensor]:
        """Return tensors of the same shapes without data, on the meta device."""
        slots = {name: self.slots[name] for name in names}
        return {name: torch.empty(slot.shape, dtype=slot.dtype, device="meta") for name, slot in slots.items()}


def _read_slot(file: BinaryIO, data_begin: int, slot: Slot) -> Tensor:
    data = torch.empty(slot.end - slot.begin, dtype=torch.uint8)
    file.seek(data_begin + slot.begin)
    if file.readinto(data.numpy()) != len(data):  # type: ignore[attr-defined]
        raise BadWeights("The file became shorter while it was read.", "Copy it again.")
    return data.view(slot.dtype).reshape(slot.shape)


@contextlib.contextmanager
def open_tensors(path: Path) -> Iterator[TensorFile]:
    """Open a file of tensors of any kind we read.

    Raises:
        BadInput: there is no such file.
        BadWeights: it is damaged or of a kind we do not read.
        UnsafeFile: it is a pickle that would run code.
    """
    if not path.is_file():
        raise BadInput(f"There is no file '{path}'.")
    if path.suffix == ".safetensors":
        yield read_contents(path)
    elif path.suffix in PICKLE_SUFFIXES:
        with tempfile.TemporaryDirectory(prefix="dinoviz-") as folder:
            converted = Path(folder) / "converted.safetensors"
            _convert_in_child(path, converted)
            yield read_contents(converted)
    else:
        raise BadWeights(
            f"'{path.name}' is not a kind of weights file that can be read.",
            f"Use .safetensors, or a PyTorch file: {', '.join(PICKLE_SUFFIXES)}.",
        )


def read_contents(path: Path) -> TensorFile:
    """Read and check the table of contents of a safetensors file.

    Raises:
        BadWeights: lengths, types or places do not describe exactly the bytes of the file.
    """
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        header_size = int.from_bytes(file.read(LENGTH_BYTES), "little")
        if size < LENGTH_BYTES or header_size > min(MAX_HEADER_BYTES, size - LENGTH_BYTES):
            raise _damaged(path, "its header is longer than the file or than any model needs")
        header = _parse_header(path, file.read(header_size))
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise _damaged(path, "its metadata is not text")
    if len(header) > MAX_TENSORS:
        raise _damaged(path, f"it lists {len(header)} tensors")
    slots = {name: _parse_slot(path, name, entry) for name, entry in header.items()}
    data_begin = LENGTH_BYTES + header_size
    _check_places(path, slots, size - data_begin)
    return TensorFile(path, slots, metadata, data_begin)


def _parse_header(path: Path, data: bytes) -> dict[str, object]:
    try:
        header = json.loads(data, object_pairs_hook=_without_duplicates)
    except (ValueError, RecursionError) as exc:
        raise _damaged(path, "its header is not JSON") from exc
    if not isinstance(header, dict):
        raise _damaged(path, "its header is not a table")
    return header


def _without_duplicates(pairs: list[tuple[str, object]]) -> dict[str, object]:
    table = dict(pairs)
    if len(table) != len(pairs):
        raise ValueError("a name occurs twice")
    return table


def _parse_slot(path: Path, name: str, entry: object) -> Slot:
    match entry:
        case {"dtype": str(dtype), "shape": list(shape), "data_offsets": [int(begin), int(end)]}:
            if dtype in DTYPES and all(type(side) is int and side >= 0 for side in shape):
                slot = Slot(DTYPES[dtype], tuple(shape), begin, end)
                if end - begin == math.prod(shape) * slot.dtype.itemsize:
                    return slot
    raise _damaged(path, f"tensor '{name[:80]}' is described wrongly")


def _check_places(path: Path, slots: Mapping[str, Slot], data_size: int) -> None:
    """Tensors must fill the data without gap, overlap or rest, so that nothing is read twice or hidden."""
    place = 0
    for slot in sorted(slots.values(), key=lambda slot: (slot.begin, slot.end)):
        if slot.begin != place:
            raise _damaged(path, "its tensors overlap or leave gaps")
        place = slot.end
    if place != data_size:
        raise _damaged(path, f"it should hold {place} bytes of data and holds {data_size}")


def _damaged(path: Path, why: str) -> BadWeights:
    return BadWeights(f"'{path.name}' is damaged or no safetensors file: {why}.", "Download or copy it again.")


def write_tensors(file: BinaryIO, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write a safetensors file, one tensor in memory at a time."""
    # Wide types first, as the safetensors library does: every tensor is aligned to its own type.
    names = sorted(tensors, key=lambda name: (-tensors[name].dtype.itemsize, name))
    header: dict[str, object] = {"__metadata__": dict(metadata)} if metadata else {}
    place = 0
    for name in names:
        tensor = tensors[name]
        end = place + tensor.numel() * tensor.dtype.itemsize
        header[name] = {
            "dtype": DTYPE_NAMES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [place, end],
        }
        place = end
    encoded = json.dumps(header, separators=(",", ":")).encode()
    encoded += b" " * (-len(encoded) % LENGTH_BYTES)
    file.write(len(encoded).to_bytes(LENGTH_BYTES, "little"))
    file.write(encoded)
    for name in names:
        flat = tensors[name].detach().cpu().contiguous().reshape(-1)
        file.write(flat.view(torch.uint8).numpy().data)


def _convert_in_child(path: Path, converted: Path) -> None:
    """Let a throw-away process turn a pickle into safetensors; what it was asked to run, it refuses."""
    seconds = CHILD_GRACE_S + path.stat().st_size / CHILD_BYTES_PER_S
    # -P and an explicit path: a torch.py lying beside the user's pictures must not be imported.
    command = [sys.executable, "-P", "-m", "engine.models.unpickle", str(path.absolute()), str(converted)]
    root = str(Path(__file__).parents[2])
    environment = {**os.environ, "PYTHONPATH": root, "OMP_NUM_THREADS": "1"}
    try:
        child = subprocess.run(
            command, env=environment, cwd=converted.parent, capture_output=True, timeout=seconds, check=False
        )
    except subprocess.TimeoutExpired as exc:
        raise UnsafeFile(f"'{path.name}' took longer than {seconds:.0f} s to open and was given up.") from exc
    if child.returncode == 0:
        return
    last_words = child.stderr.decode(errors="replace").strip().rpartition("\n")[2]
    if child.returncode == CHILD_REFUSED or child.returncode < 0:
        why = last_words if child.returncode == CHILD_REFUSED else "it crashed its reader"
        raise UnsafeFile(
            f"'{path.name}' was refused: {why}.",
            "A file of weights needs only tensors; ask its author for safetensors.",
        )
    raise BadWeights(f"'{path.name}' cannot be read: {last_words}.", "Download or copy it again.")
