"""The operators that decide the speed of training, one file or folder per family.

Each has a Triton kernel and a PyTorch reference (kernels.dispatch). Nothing here imports trainer.
"""

from kernels.adamw import adamw_step
from kernels.attention import Visible, attention, attention_with_lse
from kernels.cross_entropy import cross_entropy, cross_entropy_with_nats
from kernels.glu import geglu, swiglu
from kernels.grad_norm import clip_coefficient, grad_norm, grad_square_sum
from kernels.linear_cross_entropy import linear_cross_entropy, linear_cross_entropy_with_nats
from kernels.norm import add_layer_norm, add_rms_norm, layer_norm, rms_norm
from kernels.rope import rope
from kernels.rope_angles import rope_frequencies, rope_table

__all__ = [
    "Visible",
    "adamw_step",
    "add_layer_norm",
    "add_rms_norm",
    "attention",
    "attention_with_lse",
    "clip_coefficient",
    "cross_entropy",
    "cross_entropy_with_nats",
    "geglu",
    "grad_norm",
    "grad_square_sum",
    "layer_norm",
    "linear_cross_entropy",
    "linear_cross_entropy_with_nats",
    "rms_norm",
    "rope",
    "rope_frequencies",
    "rope_table",
    "swiglu",
]
