"""The demo's chapters, in order."""

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from trainer.demo.examination import examine, shown_questions
from trainer.demo.pretraining import build_corpus, compare_with_trigram, largest_difference
from trainer.demo.ranks import train
from trainer.demo.recipes import RANKS, REPEATED_STEPS, Recipes, demo_recipes
from trainer.demo.second_act import prepare_refusals, tell_refusals
from trainer.demo.telling import (
    chapter,
    introduce,
    print_answers,
    print_corpus,
    print_figures,
    print_next,
    print_stages,
    say,
    score_rows,
)
from trainer.recipe import Recipe

if TYPE_CHECKING:
    from trainer.demo.questions import QuestionFiles


def run_demo(folder: Path) -> None:
    """A toy from raw text to preferences; then a real model before and after refusal tuning.

    `folder`: the first run's directory. An interrupted demo resumes. Raises what building and
    training raise.
    """
    console, started = Console(), time.monotonic()
    recipes = demo_recipes(folder)
    run_first_act(console, recipes)
    act = prepare_refusals(console, folder)
    if act is not None:
        tell_refusals(console, act)
    conclude(console, recipes, None if act is None else act.recipe)
    say(console, f"\nAll of it: {time.monotonic() - started:.0f} s.")


def conclude(console: Console, recipes: Recipes, tuned: Recipe | None) -> None:
    """Write the reports, and print what to try next; `tuned`: the real model, where it was had."""
    from trainer.report.command import report_command

    say(console, "\nEach chain of runs as a page, from its data to its answers:")
    for recipe in (recipes.preference, tuned):
        if recipe is not None:
            report_command([Path(recipe.run)], None)
    print_next(console, recipes, tuned)


def run_first_act(console: Console, recipes: Recipes) -> None:
    """Run the toy's chapters with these recipes."""
    started = time.monotonic()
    introduce(console, recipes.pretraining)
    pretrain(console, recipes)
    fine_tune(console, recipes)
    say(console, f"The toy's part took {time.monotonic() - started:.0f} s.")


def pretrain(console: Console, recipes: Recipes) -> None:
    """Chapters 1 and 2: corpus, pre-training at two layouts, the comparison with a trigram."""
    recipe, run = recipes.pretraining, Path(recipes.pretraining.run)
    chapter(console, 1, "raw text: docstrings of this machine's Python packages become a corpus")
    print_corpus(console, build_corpus(recipe))

    chapter(
        console,
        2,
        f"pre-training with {RANKS} data-parallel ranks; the last {REPEATED_STEPS} steps again, the"
        " matrices cut in two",
    )
    seconds = _timed(partial(train, recipe))
    train(recipes.repetition)
    scores = compare_with_trigram(recipe)
    difference = largest_difference(run, Path(recipes.repetition.run))
    print_figures(console, score_rows(recipe, scores, difference, seconds))


def fine_tune(console: Console, recipes: Recipes) -> None:
    """Chapter 3: fine-tuning on questions, the preference stage, and their results."""
    chapter(console, 3, "fine-tuning on questions about it, then preferring right answers to wrong")
    files = _ask(console, recipes)
    shown = shown_questions(files)
    examinations = [examine(recipes.pretraining, recipes, files, shown)]
    seconds = []
    for stage in (recipes.fine_tuning, recipes.preference):
        seconds.append(_timed(partial(train, stage)))
        examinations.append(examine(stage, recipes, files, shown))
    print_answers(console, shown, examinations)
    print_stages(console, examinations, seconds)


def _ask(console: Console, recipes: Recipes) -> "QuestionFiles":
    from trainer.demo.questions import ensure_question_files

    corpus = recipes.pretraining.corpus
    assert corpus is not None, "the demo's recipe says which packages it reads"
    files = ensure_question_files(corpus.packages, recipes.questions, recipes.names)
    counts = [f"{count:,} {name}" for name, count in files.counts().items()]
    console.print(f"{files.folder}: {', '.join(counts)}", soft_wrap=True)
    return files


def _timed(action: Callable[[], None]) -> float:
    """Run the action; returns the seconds it took."""
    started = time.monotonic()
    action()
    return time.monotonic() - started
