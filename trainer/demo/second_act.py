"""The demo's second act: a real model is asked, learns to decline, and is asked again."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from trainer.demo.asking import demo_questions, verified_answers
from trainer.demo.bank_file import ensure_bank_file
from trainer.demo.ranks import in_another_process, train
from trainer.demo.recipes import refusals_recipe
from trainer.demo.telling import chapter, say
from trainer.demo.telling_answers import (
    print_costs,
    print_counts,
    print_measured,
    print_side_by_side,
)
from trainer.errors import DataError
from trainer.questions.question import Question
from trainer.recipe import Recipe


@dataclass(frozen=True)
class RefusalTuning:
    """The second act's parts: the recipe that tunes its base, and what both are asked."""

    recipe: Recipe
    asked: Sequence[Question]

    @property
    def base(self) -> Path:
        """The checkpoint that the recipe starts from."""
        assert self.recipe.init_from is not None, "the recipe is made from a base"
        return Path(self.recipe.init_from)


def prepare_refusals(console: Console, folder: Path) -> RefusalTuning | None:
    """The second act of a demo in `folder`; None, which is said, where SmolLM2 cannot be had."""
    chapter(console, 4, "a model that speaks: SmolLM2, 135 million parameters")
    base = _real_model(console)
    if base is None:
        return None
    recipe = refusals_recipe(folder, base)
    for file in recipe.conversations.refusals.questions:
        ensure_bank_file(Path(file))
    return RefusalTuning(recipe, demo_questions())


def tell_refusals(console: Console, act: RefusalTuning) -> None:
    """Ask the base, tune it, ask again, and print both answers with what they come to."""
    exist = sum(question.answerable for question in act.asked)
    say(
        console,
        f"It is asked about {exist} things that exist and {len(act.asked) - exist} that were made"
        " up for this demo, then taught on others to say what it knows, in its own words, and to"
        " decline what nobody can know; then it is asked the same again.",
    )
    before = verified_answers(act.base, act.asked)
    train(act.recipe)
    after = verified_answers(Path(act.recipe.run), act.asked)
    chapter(console, 5, "the same questions before and after, each answer judged by its key")
    print_side_by_side(console, act.asked, before, after)
    print_counts(console, act.asked, {"before": before, "after": after})
    print_costs(console, act.asked, before, after)
    print_measured(console, Path(act.recipe.run))


def _real_model(console: Console) -> Path | None:
    """SmolLM2's checkpoint, fetched where it is not in the cache; None where it cannot be had."""
    from trainer.evaluate.smollm2 import fetch_smollm2_file, smollm2_checkpoint

    def convert() -> None:
        smollm2_checkpoint()

    try:
        fetch_smollm2_file()
        in_another_process(convert)
        return smollm2_checkpoint()
    except DataError as error:
        why = f"It cannot be had here, so the demo goes on without it: {error}"
        console.print(why, markup=False, highlight=False, soft_wrap=True)  # one line, to be found
        return None
