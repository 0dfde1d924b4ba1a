"""`conversations.refusals` and `conversations.factuality`: sets of what the run's own model says.

Before the first step the model that the run starts from is asked questions with a key, several
times each. What it says becomes a set of the run, which the mixture reads beside the others.
"""

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from trainer.errors import RecipeError
from trainer.recipe.questions import VerifierName
from trainer.recipe.section import Fraction, Names, Positive, Section

if TYPE_CHECKING:
    from trainer.recipe.recipe import Recipe

BANK = "bank"
"""The name, among files of questions, of the questions that come with Lyceum."""


class OwnSamplesSection(Section):
    """How the run's own model is asked."""

    questions: Names = ()
    """Files of questions with their answers, as JSON lines, JSON or Parquet; `bank` names the
    questions that come with Lyceum. None: the model is not asked."""
    verifier: VerifierName = "answer"
    """What verifies the answers to questions that name no verifier of their own."""
    temperature: Annotated[float, Field(gt=0.0)] = 1.0
    """Divides the logits of what is sampled."""
    tokens: Positive = 48
    """Tokens of a sample at most."""
    reasons: bool = True
    """Whether a refusal says why, where the question has a reason or one follows from it."""
    weight: Annotated[float, Field(gt=0.0)] = 1.0
    """The weight of this set in `data.mixture`, where it is one more source."""


class RefusalsSection(OwnSamplesSection):
    """Examples for `stage: sft` that answer what the model knows, and decline what it does not.

    A question that it gets right often enough is answered in its own words; one that nobody can
    answer, or that it gets wrong, is declined, in wordings that vary (R-Tuning, arXiv:2311.09677).
    Nothing that it does not know is taught: that makes it invent more (arXiv:2405.01525).
    """

    samples: Positive = 4
    """How often each question is asked."""
    threshold: Annotated[float, Field(gt=0.0, le=1.0)] = 0.5
    """A question of which at least this share of the samples is right counts as known."""
    wrong: Literal["decline", "leave"] = "decline"
    """What becomes of a question that has an answer, and is not known: it is declined, or left
    out."""
    share: Fraction = 0.5
    """Refusals among the examples at most; further ones are left out, chosen by their hash. Too
    many, and the model declines what it knows."""


class FactualitySection(OwnSamplesSection):
    """Preferences for `stage: preference`: right before "I don't know" before wrong.

    Both answers of a pair are the model's own samples, or a refusal; nothing else is taught. For
    preference.loss kto they are answers that are good or bad.
    """

    corpora: Names = ()
    """Folders of corpora, of which facts are found that are asked too, answered by their text."""
    samples: Positive = 8
    """How often each question is asked."""


_STAGES = {"refusals": "sft", "factuality": "preference"}
"""The stage that learns from each of the sets."""


def check_own_samples(recipe: "Recipe") -> None:
    """Raise RecipeError where a set of the model's own samples does not fit the recipe."""
    sections = {
        "refusals": recipe.conversations.refusals,
        "factuality": recipe.conversations.factuality,
    }
    for name, section in sections.items():
        key = f"conversations.{name}"
        asks = bool(section.questions or getattr(section, "corpora", ()))
        unset = type(section)().model_dump()
        for part, value in section.model_dump().items():
            if value == unset[part]:
                continue
            if recipe.stage != _STAGES[name]:
                raise RecipeError(
                    f"{key}.{part}: is read by stage {_STAGES[name]}, and the stage is"
                    f" {recipe.stage}; set stage={_STAGES[name]}, or leave it out"
                )
            if not asks:
                raise RecipeError(
                    f"{key}.{part}: is not read, as {key}.questions is empty; name files of"
                    f" questions, as {key}.questions=[questions.jsonl], or leave it out"
                )
        if asks:
            _check_asking(recipe, key, section)


def _check_asking(recipe: "Recipe", key: str, section: OwnSamplesSection) -> None:
    if recipe.init_from is None:
        raise RecipeError(
            f"init_from: names no model to ask {key}.questions; set it to a checkpoint"
        )
    if section.tokens >= recipe.sequence_length:
        raise RecipeError(
            f"{key}.tokens: {section.tokens} leave no room for a question in sequence_length"
            f" {recipe.sequence_length}; lower it"
        )
