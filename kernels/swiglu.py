"""SwiGLU (Shazeer 2020) on the packed gate and up halves of a fused projection."""

import torch
from torch import Tensor


def swiglu(gate_up: Tensor) -> Tensor:
    """silu(gate) * up.

    `gate_up`: [..., 2 * ffn], the gate in the first half and up in the second, as megatron-core's
    fused column-parallel projection gives them. Returns [..., ffn] in the same dtype.
    """
    gate, up = gate_up.chunk(2, dim=-1)
    return torch.nn.functional.silu(gate) * up
