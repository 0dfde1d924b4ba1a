"""How much memory a rank's device has to give; on a GPU this was never run."""

import os
from pathlib import Path

import torch

RESERVE_BYTES = 3 * 2**30
"""Of a GPU, what the driver, cuBLAS, NCCL and gaps between blocks take beyond our tensors."""


def device_memory(device: torch.device) -> int:
    """Bytes that one rank's tensors may take: of a GPU all but RESERVE_BYTES, and of the machine
    what is available now, shared by the ranks that run on it.
    """
    if device.type == "cpu":
        return _available() // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    total = int(torch.cuda.get_device_properties(device).total_memory)
    return max(total - RESERVE_BYTES, 0)


def _available() -> int:
    """What the machine can give without swapping."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    found = next(line for line in lines if line.startswith("MemAvailable:"))
    return int(found.split()[1]) * 1024
