"""A device's limits: its peak FLOP/s by name, and the memory available to a rank."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

GIB = 1 << 30

_PEAKS = (
    ("GB200", 2.5e15),
    ("B200", 2.25e15),
    ("H200", 989e12),
    ("H100 PCIe", 756e12),
    ("H100 NVL", 835e12),
    ("H100", 989e12),
    ("A100", 312e12),
)
"""bf16 peaks without sparsity, FLOP/s, from NVIDIA's data sheets; the first name found counts."""


def peak_flops(device: "torch.device") -> float | None:
    """The device's bf16 peak in FLOP/s; None where it isn't known (a CPU, an unlisted GPU)."""
    if device.type != "cuda":
        return None
    import torch

    return named_peak(torch.cuda.get_device_name(device))


def named_peak(name: str) -> float | None:
    """The bf16 peak in FLOP/s of a GPU by the name that its driver gives; None: not known."""
    return next((peak for part, peak in _PEAKS if part in name), None)


RESERVE_BYTES = 3 * 2**30
"""GPU memory set aside for the driver, cuBLAS, NCCL and fragmentation."""


def device_memory(device: "torch.device") -> int:
    """Bytes that one rank's tensors may take: of a GPU all but RESERVE_BYTES, and of the machine
    what is available now, shared by the ranks that run on it.
    """
    if device.type == "cpu":
        return _available() // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    import torch

    total = int(torch.cuda.get_device_properties(device).total_memory)
    return max(total - RESERVE_BYTES, 0)


def _available() -> int:
    """Bytes of memory available without swapping."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    found = next(line for line in lines if line.startswith("MemAvailable:"))
    return int(found.split()[1]) * 1024
