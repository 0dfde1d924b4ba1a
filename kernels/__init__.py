"""The operators that decide the speed of training, one file a family; imports no trainer."""

from kernels.attention import attention
from kernels.cross_entropy import cross_entropy
from kernels.rms_norm import rms_norm
from kernels.rope import rope
from kernels.swiglu import swiglu

__all__ = ["attention", "cross_entropy", "rms_norm", "rope", "swiglu"]
