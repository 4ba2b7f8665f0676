"""What the machine is: devices, memory, fast arithmetic; and the settings that make it fast.

Torch is imported only when asked, so that the command line starts at once.
"""

import contextlib
import ctypes
import os
import sys
from pathlib import Path

import psutil

from engine.errors import BadRecipe
from engine.facts import Machine
from engine.settings import Device

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # malloc.h of glibc
NEVER_TRIM = -1  # mallopt(3)


def usable_cores() -> int:
    """Return the cores this process may use, which a container or a scheduler may have limited."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def find_device(wanted: str = "auto") -> Machine:
    """Return the machine with the wanted device: ``auto`` is CUDA, then MPS, then the CPU.

    Raises:
        BadRecipe: the wanted device is not there.
    """
    there = _usable()
    if wanted not in ("auto", *there):
        raise BadRecipe(
            f"There is no device '{wanted}' here.",
            f"Usable: {', '.join(there)}.",
        )
    return _look_at(there[0] if wanted == "auto" else wanted)


def find_devices() -> list[Machine]:
    """Return the machine once with each device that can be used, the one that ``auto`` takes first."""
    return [_look_at(device) for device in _usable()]


def _usable() -> list[str]:
    import torch

    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    return [name for name, is_there in there.items() if is_there]


def _look_at(device: str) -> Machine:
    import torch

    memory = psutil.virtual_memory().total
    if device == "cuda":
        about = torch.cuda.get_device_properties(torch.cuda.current_device())
        has_bf16 = about.major >= 8  # Ampere: earlier cards only emulate it
        return _machine("cuda", about.name, about.total_memory, has_bf16, memory)
    if device == "mps":
        # Unified memory; macOS lets the GPU have about two thirds of it.
        return _machine("mps", "Apple GPU", memory * 2 // 3, False, memory)
    return _machine("cpu", _processor(), memory, _cpu_has_bf16(), memory)


def _machine(device: Device, name: str, device_memory: int, has_bf16: bool, memory: int) -> Machine:
    return Machine(
        device=device,
        device_name=name,
        device_memory_bytes=device_memory,
        has_bf16=has_bf16,
        cores=usable_cores(),
        memory_bytes=memory,
    )


def _processor() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return "CPU"


def _cpu_has_bf16() -> bool:
    """Tell whether the CPU multiplies bf16 in hardware; elsewhere it is slower than fp32."""
    import torch

    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def peak_memory_bytes() -> int:
    """Return the most memory that this process held so far."""
    if sys.platform == "win32":
        return int(psutil.Process().memory_info().peak_wset)
    with contextlib.suppress(OSError, StopIteration):
        # On Linux, as ru_maxrss there begins with what the parent held when it started this process.
        lines = Path("/proc/self/status").read_text().splitlines()
        return 1024 * int(next(line for line in lines if line.startswith("VmHWM")).split()[1])
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak  # bytes on macOS, KiB elsewhere


def wait_without_spinning() -> None:
    """Let threads sleep that wait for each other; to be called before torch, faiss or openTSNE are loaded.

    For work that runs beside other work: on shared cores spinning costs several times the time (a pass of the vision
    service 7.4 s against 1.9 s at a load of 13, a t-SNE 51 s against 14 s). Not for training, which alone on two cores
    makes 56 pictures a second spinning and 37 sleeping.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def make_cpu_fast() -> list[str]:
    """Set up this process for training on the CPU; return what was set, for the log.

    glibc gives every tensor over 32 MB fresh pages from the system each time; keeping them saves 4-11 % of a
    step. ``medium`` sends float32 products to oneDNN, twice as fast on AMD and exact where the CPU has no AMX.
    """
    import torch

    done = []
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            mallopt = ctypes.CDLL(None).mallopt
            if mallopt(M_MMAP_MAX, 0) and mallopt(M_TRIM_THRESHOLD, NEVER_TRIM):
                done.append("memory is kept between steps")
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    if _float32_is_exact():
        done.append("float32 products by oneDNN, exact here")
    else:
        torch.set_float32_matmul_precision(before)
    return done


def _float32_is_exact() -> bool:
    """Tell whether a product keeps what bf16 cannot hold: 1 + 2^-12."""
    import torch

    fine = torch.full((64, 64), 1 + 2**-12)
    return bool((fine @ torch.eye(64) == fine).all())
