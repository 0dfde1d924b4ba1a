"""What the demo prints of its toy: texts and tables."""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from trainer.demo.examination import Examination, ShownQuestion
from trainer.demo.pretraining import Scores
from trainer.demo.recipes import REPEATED_STEPS, Recipes
from trainer.plan.size import parameter_count
from trainer.recipe import Recipe

LONGEST_SHOWN = 150
STAGES = ("pre-trained", "fine-tuned", "preferring")

ReportRows = list[tuple[str, str]]


def introduce(console: Console, recipe: Recipe) -> None:
    """Print what the toy's part of the demo is about to do."""
    say(
        console,
        f"A toy of {_parameters(recipe):,} parameters first goes the whole way, by the path that a"
        " run on 1,000 GPUs takes: from this machine's documentation to a model that answers."
        " A few minutes on two cores.",
    )


def chapter(console: Console, number: int, title: str) -> None:
    """Print the heading of a chapter."""
    console.print()
    console.rule(f"[bold]{number}  {title}", align="left")


def say(console: Console, line: str) -> None:
    """Print a text as it is, without markup."""
    console.print(line, markup=False, highlight=False)


def print_corpus(console: Console, folder: Path) -> None:
    """Print what was read, what the controls kept, and why they dropped what they dropped."""
    from trainer.corpus.inspect.curation import load_curation

    curation = load_curation(folder)
    assert curation is not None, "the demo builds its corpus with its curation record"
    read, kept = curation.funnel[0], curation.funnel[-1]
    reasons = [f"{one.reason} {one.dropped:,}" for one in curation.top_controls(4)]
    say(
        console,
        f"{read.documents:,} docstrings of {', '.join(curation.sources)} read, {kept.documents:,}"
        f" kept: {kept.shown_tokens} tokens. Dropped most: {', '.join(reasons)}.",
    )
    console.print(Text(f"  lyceum corpus inspect {folder}", style="dim"), soft_wrap=True)


def score_rows(recipe: Recipe, scores: Scores, difference: float, seconds: float) -> ReportRows:
    """(name, value) rows of the results of pre-training.

    `difference`: the largest difference of losses between layouts, in nats; `seconds`: of training.
    """
    ahead = scores.trigram - scores.model
    verdict = f"{ahead:.2f} nats ahead" if ahead > 0 else f"{-ahead:.2f} nats behind"
    return [
        (
            f"read in {seconds:.0f} s, predicted",
            f"{scores.tokens_read:,} tokens, {scores.tokens_predicted:,} held-out tokens",
        ),
        (
            "guessing, Kneser-Ney trigram of what was read",
            f"{scores.uniform:.3f}, {scores.trigram:.3f} nats a token",
        ),
        ("the model", f"{scores.model:.3f} nats a token: {verdict}"),
        (
            f"its last {REPEATED_STEPS} losses at the two layouts",
            f"differ by {difference:.1e} at most",
        ),
    ]


def print_stages(
    console: Console, examinations: Sequence[Examination], seconds: Sequence[float]
) -> None:
    """Print the figures of each stage on held-out names.

    `examinations`: before fine-tuning, after it, and after the preference stage; `seconds`: of the
    two stages.
    """
    first = examinations[0]
    table = Table()
    for name in (
        "",
        f"nats a token of {first.questions:,} held-out answers",
        f"right answer of {first.pairs:,} held-out pairs likelier",
        "seconds",
    ):
        table.add_column(name, justify="right" if name else "left")
    spent = ["", *(f"{each:.0f}" for each in seconds)]
    for stage, examination, time in zip(STAGES, examinations, spent, strict=True):
        table.add_row(stage, f"{examination.nats:.3f}", f"{examination.preferred:.1%}", time)
    console.print(table)


def print_figures(console: Console, figures: ReportRows) -> None:
    """Print a table of names and values."""
    table = Table(show_header=False)
    table.add_column(style="bold")
    for name, value in figures:
        table.add_row(name, value)
    console.print(table)


def print_answers(
    console: Console, shown: Sequence[ShownQuestion], examinations: Sequence[Examination]
) -> None:
    """Print the answers of each model to each question, with the documentation's."""
    for number, one in enumerate(shown):
        learnt = "a name held out" if one.held_out else "a name it was asked about"
        console.print(Text(one.question, style="bold") + Text(f"  ({learnt})", style="dim"))
        answers = {"the documentation": one.answer}
        for stage, examination in zip(STAGES, examinations, strict=True):
            answers[stage] = examination.answers[number]
        for who, answer in answers.items():
            console.print(Text(f"  {who:19}", style="dim") + Text(on_a_line(answer)))


def print_next(console: Console, recipes: Recipes, tuned: Recipe | None) -> None:
    """Print commands to try next: with the real model where it was `tuned`, and with the toy."""
    recipe = recipes.pretraining
    commands = [
        f"lyceum chat {recipes.preference.run}",
        f"lyceum corpus trace {recipe.run} {recipe.steps}",
        "lyceum train tiny parallel.tensor=2 parallel.pipeline=2 zero.stage=1 --nproc 8",
    ]
    if tuned is not None:
        milder = f"{tuned.init_from} {tuned.run} --weights 0.5 0.5 --into {tuned.run}-milder"
        real = f"lyceum chat {tuned.run}", f"lyceum checkpoint merge {milder}"
        commands = [*real, *commands[1:]]
    console.print("\nNext:")
    for command in commands:
        console.print(f"  {command}", markup=False, highlight=False, soft_wrap=True)


def on_a_line(answer: str, longest: int = LONGEST_SHOWN) -> str:
    """A text on one line, cut behind its `longest` first characters."""
    line = " ".join(answer.split())
    return line if len(line) <= longest else f"{line[:longest]} …"


def _parameters(recipe: Recipe) -> int:
    assert recipe.model.vocab is not None, "the demo's recipe names its vocabulary"
    return parameter_count(recipe.model, recipe.model.vocab)["total"]
