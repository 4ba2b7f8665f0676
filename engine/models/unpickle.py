"""Turn a pickled checkpoint into safetensors, as a process of its own that can be thrown away.

    python -m engine.models.unpickle IN OUT

Uses PyTorch's restricted unpickler, with one class allowed beside tensors and plain values:
``argparse.Namespace``, which the released DINO checkpoints hold. There is no other way in: a
file that asks for more is refused with exit code 9, any other failure is 8, and the last line
of stderr is the reason.

Nested dictionaries become dotted names; the state of optimisers is left out.
"""

import argparse
import contextlib
import json
import pickle
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor

from engine.models.tensor_files import ARGUMENTS, CHILD_REFUSED, DTYPE_NAMES, write_tensors

UNREADABLE = 8
SKIPPED = {"optimizer", "fp16_scaler", "scheduler", "lr_schedulers", "optimizer_states", "callbacks", "loops"}
"""Parts of training checkpoints that are no weights."""
MAX_DEPTH = 8
MEMORY_BYTES = 16 * 2**30
"""Address space that importing torch may take on its own, with room to spare."""


def main() -> int:
    """Convert ``sys.argv[1]`` into ``sys.argv[2]`` and return the exit code."""
    source, target = Path(sys.argv[1]), Path(sys.argv[2])
    _limit_resources(source.stat().st_size)
    return convert(source, target)


def convert(source: Path, target: Path) -> int:
    """Write the tensors of ``source`` to ``target`` and return 0, or say on stderr why not and return why."""
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):
            content = torch.load(source, map_location="cpu", weights_only=True, mmap=False)
    except pickle.UnpicklingError as exc:
        if _is_pickle(source) or "GLOBAL" in str(exc):
            return _fail(CHILD_REFUSED, f"it holds more than tensors and plain values ({_reason(exc)})")
        return _fail(UNREADABLE, "it is no PyTorch file")
    except Exception as exc:  # noqa: BLE001 - a damaged file can raise anything; the parent says it in one sentence
        return _fail(UNREADABLE, _reason(exc))
    found = [(name, tensor) for name, tensor in _flatten(content) if tensor.dtype in DTYPE_NAMES]
    tensors = dict(found)
    if len(tensors) != len(found):
        return _fail(UNREADABLE, "two of its tensors have the same name")
    with target.open("wb") as file:
        write_tensors(file, tensors, {ARGUMENTS: json.dumps(_arguments(content), default=str)})
    return 0


def _limit_resources(size: int) -> None:
    """Bound what a hostile file can use up, where the system can."""
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_FSIZE, (2 * size + 2**20, 2 * size + 2**20))
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES + 4 * size, MEMORY_BYTES + 4 * size))


def _is_pickle(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(2) in {b"PK", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05"}


def _flatten(content: object, prefix: str = "", depth: int = 0) -> Iterator[tuple[str, Tensor]]:
    if isinstance(content, Tensor):
        if content.layout == torch.strided and not content.is_quantized:
            yield prefix or "tensor", content
    elif isinstance(content, Mapping) and depth < MAX_DEPTH:
        for key, value in content.items():
            if key not in SKIPPED:
                yield from _flatten(value, f"{prefix}.{key}" if prefix else str(key), depth + 1)


def _arguments(content: object) -> object:
    arguments = content.get("args") if isinstance(content, Mapping) else None
    return vars(arguments) if isinstance(arguments, argparse.Namespace) else None


def _reason(exc: Exception) -> str:
    """The sentence of torch's page-long message that says what was asked for."""
    sentences = [part.strip() for part in str(exc).replace("\n", ". ").split(". ") if part.strip()]
    telling = [part for part in sentences if "GLOBAL" in part or "Unsupported" in part]
    return (telling or sentences or [type(exc).__name__])[0][:200]


def _fail(code: int, why: str) -> int:
    sys.stderr.write(f"\n{why}\n")
    return code


if __name__ == "__main__":
    sys.exit(main())
