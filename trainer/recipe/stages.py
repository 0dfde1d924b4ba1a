"""The stages of training, each described once: whoever asks about a stage asks this table.

A stage is added here, and as the class that `implementation` names.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

from trainer.recipe.fine_tuning import check_preference
from trainer.recipe.loss import check_pretraining
from trainer.recipe.reinforce import check_reinforce

if TYPE_CHECKING:
    from trainer.recipe.recipe import Recipe

StageName = Literal["pretrain", "sft", "preference", "reinforce"]
CorpusKind = Literal["documents", "conversations", "pairs", "judged"]
"""What the documents of a corpus are; its manifest says it."""


def _nothing(_recipe: "Recipe") -> None:
    """No rule of its own."""


@dataclass(frozen=True)
class StageTraits:
    """What the house must know of a stage before, and beside, its training.

    `implementation`: the dotted name of its class, a `trainer.stages.Stage` that is made from
    StageParts. `called`, `purpose`: what a report calls it, and says that it is for; `loss`: what
    its loss is in. `corpora`: the kinds of corpora that a recipe of this stage reads; examples in
    files become the first of them. `reads_sets`: whether it learns answers from sets of examples,
    which `data.mixture` may name by their files, rendered with the tokenizer's chat template; also,
    whether it can train adapters. `check`: raises RecipeError where the stage's own section of a
    recipe contradicts itself or the rest. `asks`: whether it asks the questions of `reinforce`, and
    reads no corpus at all.
    """

    implementation: str
    called: str
    purpose: str
    loss: Callable[["Recipe"], str]
    corpora: Callable[["Recipe"], tuple[CorpusKind, ...]]
    reads_sets: bool
    check: Callable[["Recipe"], None] = _nothing
    asks: bool = False


def _nats(_recipe: "Recipe") -> str:
    return "loss, nats a token"


def _answers(recipe: "Recipe") -> tuple[CorpusKind, ...]:
    """KTO learns from answers that are good or bad, the other losses from pairs of them."""
    return ("judged",) if recipe.preference.loss == "kto" else ("pairs",)


STAGES: dict[StageName, StageTraits] = {
    "pretrain": StageTraits(
        implementation="trainer.stages.next_token.Pretraining",
        called="pre-training",
        purpose="Reads raw text, and learns what comes next",
        loss=_nats,
        corpora=lambda _: ("documents",),
        reads_sets=False,
        check=check_pretraining,
    ),
    "sft": StageTraits(
        implementation="trainer.stages.next_token.FineTuning",
        called="fine-tuning",
        purpose="Learns to answer, from conversations or instructions",
        loss=_nats,
        corpora=lambda _: ("conversations", "documents"),
        reads_sets=True,
    ),
    "preference": StageTraits(
        implementation="trainer.stages.preference.Preference",
        called="preferences",
        purpose="Learns which of two answers is the better one",
        loss=lambda recipe: f"loss ({recipe.preference.loss})",
        corpora=_answers,
        reads_sets=True,
        check=check_preference,
    ),
    "reinforce": StageTraits(
        implementation="trainer.stages.reinforce.Reinforcement",
        called="reinforcement",
        purpose="Answers questions itself, and is rewarded for what it says",
        loss=lambda recipe: f"loss ({recipe.reinforce.loss})",
        corpora=lambda _: (),
        reads_sets=False,
        check=check_reinforce,
        asks=True,
    ),
}
assert tuple(STAGES) == get_args(StageName), "the names that a recipe may give have one entry each"
