"""`loss`: what `stage: pretrain` and `sft` minimise beside the cross entropy of the next token."""

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from trainer.errors import RecipeError
from trainer.recipe.section import Section

if TYPE_CHECKING:
    from trainer.recipe.recipe import Recipe


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
    first_token_weight: Annotated[float, Field(ge=0.0, le=1e6)] = 1.0
    """How often the first token of each answer counts (stage sft). It decides whether a question is
    answered or declined, and is one of some twenty that are learned: where that decision is what
    answers differ in, 1 teaches their words before it. Tokens of texts that are no answers count
    once."""

    @property
    def plain(self) -> bool:
        """Whether it is the cross entropy alone."""
        return self == LossSection()

    @property
    def weighs_tokens(self) -> bool:
        """Whether some tokens count more than others."""
        return self.first_token_weight != 1

    def check_unread(self, stage: str) -> None:
        """Raise RecipeError where a key is set; `stage` has a loss of its own and reads none."""
        for key, value in self.model_dump().items():
            if value != type(self).model_fields[key].default:
                raise RecipeError(
                    f"loss.{key}: belongs to stage pretrain and sft, and {stage} minimises what"
                    f" {stage}.loss names; set it to {type(self).model_fields[key].default:g}"
                )


def check_pretraining(recipe: "Recipe") -> None:
    """Raise RecipeError where answers are weighed, of which pre-training has none."""
    if recipe.loss.weighs_tokens:
        raise RecipeError(
            "loss.first_token_weight: weighs answers, of which stage pretrain has none; set it to 1"
        )
