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
    """How the run's own model is asked before its first step; what it says is kept in the run."""

    questions: Names = ()
    """Files of questions with their answers, as JSON lines, JSON or Parquet; `bank` names the
    questions that come with Lyceum. None: the model is not asked."""
    verifier: VerifierName = "answer"
    """What verifies the answers to questions that name no verifier of their own."""
    samples: Positive = 4
    """How often each question is asked."""
    temperature: Annotated[float, Field(gt=0.0)] = 1.0
    """Divides the logits of what is sampled."""
    tokens: Positive = 48
    """Tokens of a sample at most."""
    wrong: Literal["decline", "leave"] = "decline"
    """What becomes of a question that has an answer, and is not known: to decline it is taught, or
    it is left alone."""
    reasons: bool = True
    """Whether a refusal says why, where the question has a reason or one follows from it."""
    wordings: Positive = 4
    """How many wordings of each sort of refusal are used at most, those that begin with the speaker
    first. The likeliest answer begins as most refusals begin: where they begin in too many ways, a
    model that means to decline begins an answer."""
    weight: Annotated[float, Field(gt=0.0)] = 1.0
    """The weight of this set in `data.mixture`, where it is one more source; not given, that of the
    entry that names it there."""

    @property
    def asks(self) -> bool:
        """Whether anything is asked."""
        return bool(self.questions)


class RefusalsSection(OwnSamplesSection):
    """Examples for `stage: sft` that answer what the model knows, and decline what it does not.

    A question that it gets right often enough is answered in its own words; one that nobody can
    answer, or that it gets wrong, is declined, in wordings that vary (R-Tuning, arXiv:2311.09677).
    Nothing that it does not know is taught: that makes it invent more (arXiv:2405.01525).
    """

    threshold: Annotated[float, Field(gt=0.0, le=1.0)] = 0.5
    """A question of which at least this share of the samples is right counts as known."""
    share: Fraction = 0.5
    """Refusals among the examples at most. Too many, and the model declines what it knows."""
    beyond_share: Literal["leave", "repeat"] = "leave"
    """What becomes of refusals beyond `share`: they are left out, chosen by their hash; or all
    stay, and what is known is answered again, each time by the next of its right texts. Of more
    that nobody knows a model learns better when to decline."""


class FactualitySection(OwnSamplesSection):
    """Preferences for `stage: preference`: right before "I don't know" before wrong.

    Both answers of a pair are the model's own samples, or a refusal; nothing else is taught. For
    preference.loss kto they are answers that are good or bad.
    """

    corpora: Names = ()
    """Folders of corpora, of which facts are found that are asked too, answered by their text."""
    samples: Positive = 8
    """How often each question is asked."""

    @property
    def asks(self) -> bool:
        """Whether anything is asked."""
        return bool(self.questions or self.corpora)


OWN_SETS = {"refusals": "sft", "factuality": "preference"}
"""The sections, whose names are the sets' too, and the stage that learns from each."""


def check_section(recipe: "Recipe", name: str) -> None:
    """Raise RecipeError where the section of this name does not fit the recipe."""
    key, stage = f"conversations.{name}", OWN_SETS[name]
    section: OwnSamplesSection = getattr(recipe.conversations, name)
    unset = type(section)().model_dump()
    for part, value in section.model_dump().items():
        if value == unset[part]:
            continue
        if recipe.stage != stage:
            raise RecipeError(
                f"{key}.{part}: is read by stage {stage}, and the stage is {recipe.stage}; set"
                f" stage={stage}, or leave it out"
            )
        if not section.asks:
            empty = f"and {key}.corpora are" if "corpora" in unset else "is"
            raise RecipeError(
                f"{key}.{part}: is not read, as {key}.questions {empty} empty; name files of"
                f" questions, as {key}.questions=[questions.jsonl], or leave it out"
            )
    if not section.asks:
        return
    if recipe.init_from is None:
        asking = "questions" if section.questions else "corpora"
        raise RecipeError(
            f"init_from: names no model to ask {key}.{asking}; set it to a checkpoint"
        )
    if section.tokens >= recipe.sequence_length:
        raise RecipeError(
            f"{key}.tokens: {section.tokens} leave no room for a question in sequence_length"
            f" {recipe.sequence_length}; lower it"
        )
