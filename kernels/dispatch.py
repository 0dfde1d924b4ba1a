"""Which implementation of an operator runs (architecture, D5): one rule for all families."""

import os

from torch import Tensor

MODES = ("", "reference", "triton")

MODE = os.environ.get("LYCEUM_KERNELS", "")
"""`reference` or `triton` forces one; empty: Triton on CUDA, the reference elsewhere."""

if MODE not in MODES:
    raise ValueError(f"LYCEUM_KERNELS: {MODE!r} is unknown; use reference, triton, or leave it out")


def use_triton(tensor: Tensor) -> bool:
    """Whether an operator on `tensor` runs its Triton kernel; on the CPU, in the interpreter."""
    if MODE:
        return MODE == "triton"
    return tensor.is_cuda
