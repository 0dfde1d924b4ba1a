"""`loss`: what `stage: pretrain` and `sft` minimise beside the cross entropy of the next token."""

from typing import Annotated

from pydantic import Field

from trainer.recipe.section import Section


class LossSection(Section):
    """Terms of the training loss.

    Where one is set, `loss` in metrics.jsonl stays the plain cross entropy, to be compared with
    other runs', and STAGE/objective is what is minimised. Evaluation leaves both out.
    """

    z: Annotated[float, Field(ge=0.0)] = 0.0
    """z-loss: the coefficient of log(sum(exp(logits)))^2, a token, which keeps logits from drifting
    (PaLM, arXiv:2204.02311, section 5, takes 1e-4)."""
    label_smoothing: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    """The share of each target that is spread over the whole vocabulary (Szegedy et al. 2016)."""

    @property
    def plain(self) -> bool:
        """Whether it is the cross entropy alone."""
        return not self.z and not self.label_smoothing
