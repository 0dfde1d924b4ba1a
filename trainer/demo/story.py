"""The demo's chapters, in order."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from trainer.demo.examination import examine, shown_questions
from trainer.demo.pretraining import (
    build_corpus,
    compare_with_trigram,
    largest_difference,
    write_trained,
    write_untrained,
)
from trainer.demo.ranks import on_ranks, train
from trainer.demo.recipes import RANKS, REPEATED_STEPS, Recipes, demo_recipes
from trainer.demo.report import (
    chapter,
    introduce,
    print_answers,
    print_figures,
    print_next,
    print_stages,
    score_rows,
)

if TYPE_CHECKING:
    from trainer.demo.questions import QuestionFiles


def run_demo(folder: Path) -> None:
    """Build a corpus, pre-train, repeat at another layout, fine-tune, prefer, and report.

    `folder`: the first run's directory. An interrupted demo resumes. Raises what building and
    training raise.
    """
    run_chapters(demo_recipes(folder))


def run_chapters(recipes: Recipes) -> None:
    """Run all chapters with these recipes."""
    console, started = Console(), time.monotonic()
    introduce(console, recipes.pretraining)
    pretrain(console, recipes)
    fine_tune(console, recipes)
    print_figures(console, [("all of it", f"{time.monotonic() - started:.0f} s")])
    print_next(console, recipes)


def pretrain(console: Console, recipes: Recipes) -> None:
    """Chapters 1 to 6: corpus, pre-training, samples, and the comparison with a trigram."""
    recipe, run = recipes.pretraining, Path(recipes.pretraining.run)
    chapter(console, 1, "the corpus: docstrings of this machine's Python packages")
    corpus = build_corpus(console, recipe)

    chapter(console, 2, "before training: what random weights write")
    on_ranks(lambda: write_untrained(recipe, corpus))

    chapter(console, 3, f"pre-training with {RANKS} data-parallel ranks")
    seconds = _timed(lambda: train(recipe))

    chapter(console, 4, "after training: the same prompts, the matrices cut in two")
    on_ranks(lambda: write_trained(run))

    chapter(console, 5, f"the last {REPEATED_STEPS} steps again, the matrices cut in two")
    train(recipes.repetition)

    chapter(console, 6, "what came of reading")
    scores = compare_with_trigram(recipe)
    difference = largest_difference(run, Path(recipes.repetition.run))
    print_figures(console, score_rows(recipe, scores, difference, seconds))


def fine_tune(console: Console, recipes: Recipes) -> None:
    """Chapters 7 to 10: questions, fine-tuning, the preference stage, and their results."""
    chapter(console, 7, "questions about the documentation, a tenth of the names held out")
    files = _ask(console, recipes)
    shown = shown_questions(files)
    examinations = [examine(recipes.pretraining, recipes, files, shown)]

    chapter(console, 8, f"fine-tuning on the answers with {RANKS} data-parallel ranks")
    seconds = [_timed(lambda: train(recipes.fine_tuning))]
    examinations.append(examine(recipes.fine_tuning, recipes, files, shown))

    chapter(console, 9, "preferring right answers to wrong ones, the matrices cut in two")
    seconds.append(_timed(lambda: train(recipes.preference)))
    examinations.append(examine(recipes.preference, recipes, files, shown))

    chapter(console, 10, "the same questions to all three, and what came of asking")
    print_answers(console, shown, examinations)
    print_stages(console, recipes, examinations, seconds)


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
