"""What a failure says about the machine or its files, so that it is told as a sentence and not as a bug of ours."""

import os
import textwrap

from engine.errors import BadInput, DiskFull, OutOfMemory, UserError
from engine.store import is_full

NO_MEMORY = ("out of memory", "can't allocate memory", "not enough memory")
"""What torch's allocators say: CUDA and MPS, the CPU on Linux, the CPU on Windows (DefaultCPUAllocator)."""


def fault_of_the_world(problem: Exception) -> UserError | None:
    """Return what a failure says about the machine or its files; None where it can only be our fault."""
    text = str(problem)
    if is_full(problem):
        return DiskFull(f"The disk is full: {text}.", "Make room and try again; what was complete is intact.")
    if isinstance(problem, OSError) and problem.strerror and isinstance(problem.filename, (str, bytes)):
        return BadInput(f"{problem.strerror}: '{os.fsdecode(problem.filename)}'.")
    # By its words and not its class, which would have to be imported from torch; its own OutOfMemoryError says them.
    if isinstance(problem, MemoryError) or (
        isinstance(problem, RuntimeError) and any(words in text.lower() for words in NO_MEMORY)
    ):
        return OutOfMemory(
            f"There is not enough memory: {textwrap.shorten(text or 'the system gave none', 200)}",
            "Take a smaller batch, smaller pictures or a smaller model, or close other programs.",
        )
    return None
