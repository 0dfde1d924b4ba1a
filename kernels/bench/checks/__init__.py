"""What each family of kernels is held to: its results and gradients beside fp64, by shape."""

from kernels.bench.checks import adamw, attention, cross_entropy, glu, norm, rope
from kernels.bench.checks.case import CheckCase, Checks, Held

__all__ = ["CHECKS", "CheckCase", "Checks", "Held"]

CHECKS: dict[str, Checks] = {
    "adamw": adamw.check_cases,
    "attention": attention.check_cases,
    "cross_entropy": cross_entropy.check_cases,
    "glu": glu.check_cases,
    "layer_norm": norm.layer_norm_cases,
    "linear_cross_entropy": cross_entropy.linear_check_cases,
    "rms_norm": norm.rms_norm_cases,
    "rope": rope.check_cases,
}
"""By family, as `lyceum bench kernels` names them."""
