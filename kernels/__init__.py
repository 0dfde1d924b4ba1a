"""The operators that decide the speed of training, one file or folder a family; no trainer."""

from kernels.attention import attention
from kernels.cross_entropy import cross_entropy
from kernels.glu import geglu, swiglu
from kernels.norm import add_layer_norm, add_rms_norm, layer_norm, rms_norm
from kernels.rope import rope

__all__ = [
    "add_layer_norm",
    "add_rms_norm",
    "attention",
    "cross_entropy",
    "geglu",
    "layer_norm",
    "rms_norm",
    "rope",
    "swiglu",
]
