"""What one optimizer step did."""

from dataclasses import dataclass


@dataclass(frozen=True)
class StepOutcome:
    """`grad_norm`: global L2 norm before clipping, non-finite where the step was skipped."""

    grad_norm: float
    skipped: bool
