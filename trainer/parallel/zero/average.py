"""The average of a run's weights, kept beside its optimizer state and sharded as that is."""

from collections.abc import Sequence

import torch
from torch import Tensor

from trainer.parallel.zero.adamw import StepOutcome
from trainer.recipe.checkpoint import AverageSection


class WeightAverage:
    """How much of the weights enters their average, which the optimizer holds in fp32.

    The n-th to enter has a share of 1 / n, so that all count alike; under `ema` never less than
    1 - decay, from where on old ones fade. So the first ones, untrained, do not stay in the average
    of a short run as in torch.optim.swa_utils, which gives them all that the decay leaves. (Polyak
    & Juditsky 1992; arXiv:1803.05407.)

    `section`: how, None: there is none (`kept`); `device`: where the share is computed, since the
    device alone may know whether a step is skipped.
    """

    def __init__(self, section: AverageSection | None, device: torch.device | str) -> None:
        self.kept = section is not None
        self._least = 1.0 - section.decay if section and section.kind == "ema" else 0.0
        self._entered = torch.zeros((), dtype=torch.float64, device=device)

    @torch.no_grad()
    def enter(
        self, averages: Sequence[Tensor], masters: Sequence[Tensor], outcome: StepOutcome
    ) -> None:
        """Let fp32 weights enter their averages, in place, where the step was applied.

        Waits for nothing that `outcome` does not wait for.
        """
        assert self.kept, "the recipe keeps an average"
        applied = outcome.grad_norm.isfinite().double()
        self._entered += applied
        share = (1.0 / self._entered.clamp(min=1.0)).clamp(min=self._least) * applied
        narrow = share.float()
        for average, master in zip(averages, masters, strict=True):
            average.lerp_(master, narrow if narrow.device == average.device else narrow.item())

    @property
    def entered(self) -> int:
        """How many times weights have entered; waits for the device."""
        return int(self._entered.item())

    @entered.setter
    def entered(self, count: int) -> None:
        self._entered.fill_(count)
