"""What one optimizer step did."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class StepOutcome:
    """`grad_norm`: global L2 norm before clipping, 0-dim; not finite where the step was skipped.

    A tensor, so that reading it, which waits for the device, is a choice.
    """

    grad_norm: Tensor
