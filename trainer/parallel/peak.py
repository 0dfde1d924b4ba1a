"""What a device can do at best, by its name."""

import torch

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


def peak_flops(device: torch.device) -> float | None:
    """The device's bf16 peak in FLOP/s; None where it isn't known (a CPU, an unlisted GPU)."""
    if device.type != "cuda":
        return None
    return named_peak(torch.cuda.get_device_name(device))


def named_peak(name: str) -> float | None:
    """The bf16 peak in FLOP/s of a GPU by the name that its driver gives; None: not known."""
    return next((peak for part, peak in _PEAKS if part in name), None)
