"""The operators that decide the speed of training, one file or folder a family; no trainer."""

from kernels.adamw import adamw_step
from kernels.attention import attention
from kernels.cross_entropy import cross_entropy
from kernels.glu import geglu, swiglu
from kernels.grad_norm import clip_coefficient, grad_norm, grad_square_sum
from kernels.norm import add_layer_norm, add_rms_norm, layer_norm, rms_norm
from kernels.rope import rope

__all__ = [
    "adamw_step",
    "add_layer_norm",
    "add_rms_norm",
    "attention",
    "clip_coefficient",
    "cross_entropy",
    "geglu",
    "grad_norm",
    "grad_square_sum",
    "layer_norm",
    "rms_norm",
    "rope",
    "swiglu",
]
