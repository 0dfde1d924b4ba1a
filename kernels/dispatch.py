"""Which implementation of an operator runs (trainer/README.md, D5): one rule for all families."""

import os

from torch import Tensor

from kernels.language import AVAILABLE

MODES = ("", "reference", "triton")

MODE = os.environ.get("LYCEUM_KERNELS", "")
"""`reference` or `triton` forces one; empty: Triton on CUDA, the reference elsewhere."""

if MODE not in MODES:
    raise ValueError(f"LYCEUM_KERNELS: {MODE!r} is unknown; use reference, triton, or leave it out")


def use_triton(tensor: Tensor) -> bool:
    """Whether an operator on `tensor` runs its Triton kernel; on the CPU, in the interpreter.

    Raises ValueError where LYCEUM_KERNELS wants Triton and there is none.
    """
    if MODE == "triton" and not AVAILABLE:
        raise ValueError(
            "LYCEUM_KERNELS: triton needs the package triton, which is not installed here (it "
            "exists for Linux); use reference, or leave it out"
        )
    if MODE:
        return MODE == "triton"
    return tensor.is_cuda and AVAILABLE
